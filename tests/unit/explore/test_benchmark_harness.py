"""The benchmark of explorers counts honestly, and says why a figure is not there."""

import sys
from types import ModuleType

import pytest

from benchmarks.explore import Entry, Field
from benchmarks.explore_environment import Contender, Environment, NoAnswerError
from benchmarks.explore_scenarios import PROGRAMS, Program
from benchmarks.explore_worker import Worker


class Adapter(ModuleType):
    """A contender that finds every bug in the run that it is told, or never."""

    IS_SEEDED = True
    CHUNK = 10

    def __init__(self, *, bug_at_seed: int | None) -> None:
        super().__init__("adapter")
        self.bug_at_seed = bug_at_seed
        self.asked: list[tuple[int, int]] = []

    def run(self, _: Program, strategy: str, first_seed: int, runs: int) -> int | None:  # noqa: ARG002  # the interface
        """Fail at one seed out of all."""
        self.asked.append((first_seed, runs))
        number = 0 if self.bug_at_seed is None else self.bug_at_seed - first_seed + 1
        return number if 1 <= number <= runs else None


def worker(*, bug_at_seed: int | None) -> Worker:
    """Return a worker about a contender that finds a bug at one seed."""
    return Worker(Adapter(bug_at_seed=bug_at_seed), PROGRAMS)


def test_seeds_that_gave_up_count_with_all_their_runs() -> None:
    """Three seeds of at most 25 runs; the second one finds in its 13th."""
    counts = worker(bug_at_seed=25 + 12).bugs(
        "hid2", "any", seeds=3, cap=25, seconds=60
    )

    assert counts == {"runs": 25 + 13 + 25, "found": 1, "tried": 3}


def test_a_speed_is_refused_when_the_program_fails() -> None:
    """Runs that end early are no runs: a rate of them would be too good."""
    with pytest.raises(RuntimeError, match="a correct program failed in run 3"):
        worker(bug_at_seed=2).rate("three awaits", "any", seconds=0.01)


def test_unknown_requests_are_told() -> None:
    """What a contender cannot do is a sentence in the table, no crash."""
    with pytest.raises(NotImplementedError, match="nothing of the kind"):
        worker(bug_at_seed=None).answer("enumerate_classes", users=2, budget_s=1.0)


def test_rival_that_could_not_be_installed_says_why() -> None:
    """The sentence of the installer stands where the figure would."""
    environment = Environment(sys.executable, "0.0", {"simloom": "needs Python 3.12"})
    entry = Entry("simloom random", "simloom", "random", "0.0")

    with pytest.raises(
        NoAnswerError, match=r"simloom random: not installed: needs Python 3\.12"
    ):
        Field(environment).ask(entry, "rate")


@pytest.mark.slow
def test_contender_that_dies_says_its_last_words() -> None:
    """A process that cannot even start gives the reason, and no wait."""
    contender = Contender("unknown_to_all", sys.executable)
    try:
        with pytest.raises(NoAnswerError, match="unknown_to_all_adapter"):
            contender.ask("rate")
    finally:
        contender.close()


@pytest.mark.slow
def test_our_explorer_answers_in_a_process_of_its_own() -> None:
    """One request and one answer, by the same way as all contenders."""
    contender = Contender("ours", sys.executable)
    try:
        counts = contender.ask(
            "bugs", program="dead", strategy="explore", seeds=2, cap=500, seconds=30
        )
    finally:
        contender.close()

    assert (counts["found"], counts["tried"]) == (2, 2)
