"""P05: check-then-act on a limit.

alice                           bob
                                return await flight.book(NAMES[user])
                                if not self.free:
                                seat = self.free[0]
                                await external("charge the card")
return await flight.book(NAMES[user])
if not self.free:
seat = self.free[0]
await external("charge the card")
                                self.passengers[user] = seat
                                self.free = [one for one in self.free if one != seat]
                                return True
self.passengers[user] = seat
self.free = [one for one in self.free if one != seat]
return True
-> two passengers have one seat
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Flight:
    """One seat is left."""

    def __init__(self) -> None:
        self.free = ["12A"]
        self.passengers: dict[str, str] = {}

    async def book(self, user: str) -> bool:
        if not self.free:
            return False
        seat = self.free[0]
        await external("charge the card")
        self.passengers[user] = seat
        self.free = [one for one in self.free if one != seat]
        return True


class _ReservingFlight(_Flight):
    async def book(self, user: str) -> bool:
        if not self.free:
            return False
        seat = self.free.pop()
        await external("charge the card")
        self.passengers[user] = seat
        return True


async def _book(flight: _Flight, user: int) -> bool:
    return await flight.book(NAMES[user])


def _one_passenger_per_seat(flight: _Flight) -> None:
    seats = list(flight.passengers.values())
    assert len(seats) == len(set(seats)), "two passengers have one seat"


PATTERN = Pattern(
    id="P05",
    title="check-then-act on a limit",
    mechanism=(
        "The last seat is looked for, paid, and only then taken; two pay for it."
    ),
    fix="Reserve before the first await.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "access", "checkers"),
    source="https://doi.org/10.1145/3035918.3064037",
    vulnerable=visits(_Flight, _book, _one_passenger_per_seat),
    safe=visits(_ReservingFlight, _book, _one_passenger_per_seat),
    module=__name__,
    hosted=Hosted(),
)
