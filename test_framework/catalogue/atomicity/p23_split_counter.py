"""P23: counter split by an await.

alice                           bob
                                await numbers.start(NAMES[user])
                                self.runs[await self.take()] = user
                                number = self.last + 1
                                await external("log the start")
await numbers.start(NAMES[user])
self.runs[await self.take()] = user
number = self.last + 1
await external("log the start")
                                self.last = number
                                return number
self.last = number
return number
-> only the run of {'alice'} is known
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Numbers:
    """Hands out the numbers of runs."""

    def __init__(self) -> None:
        self.last = 0
        self.runs: dict[int, str] = {}

    async def take(self) -> int:
        number = self.last + 1
        await external("log the start")
        self.last = number
        return number

    async def start(self, user: str) -> None:
        self.runs[await self.take()] = user


class _AtomicNumbers(_Numbers):
    async def take(self) -> int:
        self.last = number = self.last + 1
        await external("log the start")
        return number


async def _start(numbers: _Numbers, user: int) -> None:
    await numbers.start(NAMES[user])


def _is_known(numbers: _Numbers, user: int) -> bool:
    return NAMES[user] in numbers.runs.values()


def _all_numbered(numbers: _Numbers) -> None:
    runs = set(numbers.runs.values())
    assert runs == {"alice", "bob"}, f"only the run of {runs} is known"


PATTERN = Pattern(
    id="P23",
    title="counter split by an await",
    mechanism=(
        "A helper hands out numbers, and somebody has put an await between reading "
        "and raising its counter; two callers get one number."
    ),
    fix=("Raise the counter and keep the result in one step, before any await."),
    areas=(Area.AGENT_STATE, Area.ENGINE_REGISTRY),
    detectors=("explorer", "access", "checkers"),
    source="https://cwe.mitre.org/data/definitions/366.html",
    vulnerable=visits(_Numbers, _start, _all_numbered),
    safe=visits(_AtomicNumbers, _start, _all_numbered),
    module=__name__,
    hosted=Hosted(shown=_is_known),
)
