"""Search by states against enumeration: drawn programs end in the same ways."""

import asyncio
import random
import sys
from typing import TYPE_CHECKING, Any

import pytest

from test_framework.explore import Fidelity, Scenario
from test_framework.explore.execution import EVERYTHING, Runner
from test_framework.explore.explorer import prepared
from test_framework.explore.failures import Failure
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.scenario import main_of
from test_framework.explore.symmetry.states import StateSearch
from test_framework.explore.systematic import Systematic

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="only CPython 3.11 shows evaluation stacks"
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

# Drawn with a fixed seed; a fingerprint that forgets locals, the stack, the queue of a
# lock, the order of a list, or ready steps fails for 9 or more of these programs.
PROGRAMS = 120
MOST_ORDERS = 1500

_SIMPLE = (
    "s.x += 1",
    "s.x = v + 1",
    "v = s.x",
    "s.y = s.x * 2",
    "s.owners.append(n)",
    "assert s.x < 3",
    "s.log.append(v)",
    "s.seen[n] = v",
    "s.seen[f'u{n}'] = s.x",
    "s.event.set()",
    "s.queue.put_nowait(v)",
    "v = s.queue.get_nowait() if s.queue.qsize() else v",
    "PLACE.append(v)",
    "if s.owners and s.owners[-1] == n: s.y += 5",
    "if len(s.log) > 1: v += 3",
)
_WAITING = (
    "await asyncio.sleep(0)",
    "s.x = s.x + await later(s, 1)",
    "s.log.append([v, await later(s, v)])",
    "v = await asyncio.create_task(later(s, v))",
    "await asyncio.wait([asyncio.create_task(later(s, 2))])",
)
_BLOCKS = (
    "async with s.lock:",
    "async with s.semaphore:",
    "for i in range(2):",
    "if s.x > 1:",
    "if v == 0:",
    "try:",
)

_HELPERS = """
async def later(s, value):
    before = s.y
    await asyncio.sleep(0)
    s.y = before + value
    return value
"""


def draw_program(rng: random.Random) -> str:
    """Return the source of what a user does to a state ``s``."""
    lines = ["async def user(s, n):", "    v = 0"]
    waits = 0

    def block(depth: int, indent: str) -> None:
        nonlocal waits
        lines.append(indent + rng.choice(_SIMPLE))
        for _ in range(rng.randint(0, 2)):
            kind = rng.random()
            if kind < 0.5 or (waits >= 3 and kind < 0.8):
                lines.append(indent + rng.choice(_SIMPLE))
            elif kind < 0.8:
                waits += 1
                lines.append(indent + rng.choice(_WAITING))
            elif depth:
                head = rng.choice(_BLOCKS)
                lines.append(indent + head)
                block(depth - 1, indent + "    ")
                if head == "try:":
                    lines.append(indent + "finally:")
                    lines.append(indent + "    s.y += v")

    block(2, "    ")
    if not waits:
        lines.append("    await asyncio.sleep(0)")
    lines += ["    " + rng.choice(_SIMPLE), "    s.done.append(v)"]
    return _HELPERS + "\n".join(lines) + "\n"


class Shared:
    """What drawn programs work on."""

    def __init__(self) -> None:
        self.x = self.y = 0
        self.log: list[Any] = []
        self.owners: list[Any] = []
        self.done: list[int] = []
        self.seen: dict[Any, Any] = {}
        self.lock, self.semaphore = asyncio.Lock(), asyncio.Semaphore(2)
        self.event = asyncio.Event()
        self.queue: asyncio.Queue[int] = asyncio.Queue()
        PLACE.clear()


PLACE: list[int] = []


def ending(shared: Shared) -> tuple[object, ...]:
    """Return how a run ended, but for who is who."""
    names: dict[str, int] = {}

    def anonymous(item: object) -> object:
        if isinstance(item, list):
            return tuple(map(anonymous, item))
        text = str(item)
        known = type(item).__name__ == "UserNumber" or item in users
        return f"user {names.setdefault(text, len(names))}" if known else item

    # Plain users have the numbers 1000 and up here, which no program computes.
    users = range(1000, 1010)
    return (
        *(shared.x, shared.y, tuple(PLACE), tuple(shared.done)),
        *(anonymous(shared.log), anonymous(shared.owners)),
        tuple(shared.seen.values()),
        shared.queue.qsize(),
    )


class Endings(set[Any]):
    """Notes how runs end; no part of their state."""

    def __call__(self, shared: Shared) -> None:
        """Note how a run ended."""
        self.add(ending(shared))


def scenario_of(source: str, users: int, endings: Endings) -> Scenario[Shared]:
    """Return a scenario whose check notes how its runs end."""
    names: dict[str, Any] = {"asyncio": asyncio, "PLACE": PLACE}
    exec(compile(source, "<drawn>", "exec"), names)  # noqa: S102  # drawn above
    drawn: Callable[..., Coroutine[Any, Any, None]] = names["user"]

    async def user(shared: Shared, number: object) -> None:
        await drawn(shared, number + 1000 if isinstance(number, int) else number)

    return Scenario(Shared, user, endings, users=users)


def enumerate_plainly(
    source: str, users: int, fidelity: Fidelity
) -> tuple[set[Any], set[str | None]] | None:
    """Return all endings and outcomes; None when there are too many orders."""
    endings = Endings()
    outcomes: set[str | None] = set()
    loop = ExplorationLoop(fidelity)
    runner = Runner(main_of(scenario_of(source, users, endings), None), loop)
    runner.usual_left = EVERYTHING
    systematic = Systematic()
    while systematic.advance():
        outcomes.add(_kind(runner.run(systematic)))
        if runner.runs > MOST_ORDERS:
            return None
    return endings, outcomes


def search_states(
    source: str, users: int, fidelity: Fidelity
) -> tuple[set[Any], set[str | None], StateSearch]:
    """Return the same by the search that is tested."""
    endings = Endings()
    scenario = scenario_of(source, users, endings)
    search = StateSearch(scenario, users, fidelity, 10_000, random.Random(7))
    search.prints._writer.take_as_same(Endings)
    search.begin_as_usual()
    search.runner.usual_left = EVERYTHING
    while search.advance()[0]:
        pass
    assert not search.prints.opaque
    while search.validate():
        pass
    return endings, search.outcomes, search


def _kind(failure: Failure | None) -> str | None:
    return failure.kind if failure else None


@pytest.mark.slow
@pytest.mark.parametrize("fidelity", [Fidelity.AWAIT, Fidelity.FIFO])
@pytest.mark.parametrize("users", [2, 3])
def test_drawn_programs_end_as_enumeration_says(users: int, fidelity: Fidelity) -> None:
    """No ending and no failure of any order is lost by merging states."""
    rng = random.Random(20)
    compared = merged = 0
    for _ in range(PROGRAMS if users == 2 else PROGRAMS // 3):
        source = draw_program(rng)
        with prepared(ExplorationLoop()):
            plain = enumerate_plainly(source, users, fidelity)
            if plain is None:
                continue
            endings, outcomes, search = search_states(source, users, fidelity)

        assert endings == plain[0], source
        assert outcomes == plain[1], source
        compared += 1
        merged += search.merged

    # Otherwise the programs drawn say little. Two users seldom meet a state twice.
    assert compared > PROGRAMS // 8
    assert merged > compared or users == 2
