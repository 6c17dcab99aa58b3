"""One run of a search is the run that a user's own loop would make."""

from test_framework.explore import Fidelity
from test_framework.explore.endings import RunAgainError
from test_framework.explore.schedulers import Stock
from test_framework.explore.search import Options, Search


def test_repeated_run_hands_no_context_to_the_program() -> None:
    """A run that is made again raises nothing in the context of why it was."""
    seen: list[BaseException | None] = []
    attempts = 0

    async def main() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            # As a loop over real sockets does once requests have blocked each other.
            raise RunAgainError
        try:
            "".index("x")
        except ValueError as exc:
            seen.append(exc.__context__)

    Search(
        main,
        Options(
            budget_s=60.0,
            schedules=1,
            fidelity=Fidelity.FIFO,
            cancel="",
            errors=(),
            seed=0,
            max_steps=100,
            progress=None,
        ),
    ).run(Stock())

    assert attempts == 2
    assert seen == [None]
