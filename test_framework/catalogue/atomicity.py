"""Read, await, act: what was read is no longer true when it is acted upon."""

import asyncio
from types import SimpleNamespace

from test_framework.catalogue.pattern import Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Credits:
    """Credits of a team, shared by its members."""

    def __init__(self) -> None:
        self.left = 10
        self.lock = asyncio.Lock()

    async def spend(self, amount: int) -> None:
        left = self.left
        await external("charge the card")
        self.left = left - amount


class _LockedCredits(_Credits):
    async def spend(self, amount: int) -> None:
        async with self.lock:
            await super().spend(amount)


async def _spend_three(credit: _Credits, user: int) -> None:  # noqa: ARG001  # all spend the same
    await credit.spend(3)


def _all_spent(credit: _Credits) -> None:
    assert credit.left == 4, f"{credit.left} credits left, of 10 less two times 3"


LOST_UPDATE = Pattern(
    id="P03",
    title="lost update",
    summary=(
        "A value is read, something is awaited, and a value made from the old one is "
        "written back over that of another request. One lock around all three."
    ),
    source="https://doi.org/10.1109/ASE.2017.8115663",
    vulnerable=visits(_Credits, _spend_three, _all_spent),
    safe=visits(_LockedCredits, _spend_three, _all_spent),
)


class _TwoLocksCredits(_Credits):
    """Locks each access, and lets go in between."""

    async def spend(self, amount: int) -> None:
        async with self.lock:
            left = self.left
        await external("charge the card")
        async with self.lock:
            self.left = left - amount


NARROW_LOCK = Pattern(
    id="P14",
    title="lock too narrow",
    summary=(
        "Read and write are locked, each by itself, and the lock is free in between. "
        "Make them one critical section."
    ),
    source="https://cwe.mitre.org/data/definitions/667.html",
    vulnerable=visits(_TwoLocksCredits, _spend_three, _all_spent),
    safe=visits(_LockedCredits, _spend_three, _all_spent),
)


class _PerCallLockCredits(_Credits):
    """Locks with a lock that nobody else has."""

    async def spend(self, amount: int) -> None:
        lock = asyncio.Lock()
        async with lock:
            await super().spend(amount)


WRONG_LOCK = Pattern(
    id="P15",
    title="wrong lock",
    summary=(
        "The lock is made in the handler, or one for each user, while what it guards is "
        "shared by all. Keep one lock beside the thing it guards."
    ),
    source="https://cwe.mitre.org/data/definitions/821.html",
    vulnerable=visits(_PerCallLockCredits, _spend_three, _all_spent),
    safe=visits(_LockedCredits, _spend_three, _all_spent),
)


class _Invoice:
    """A monthly invoice to which usage is added."""

    def __init__(self) -> None:
        self.total = 0

    async def price(self, user: int) -> int:
        await external("ask the price list")
        return 100 + user

    async def add(self, user: int) -> None:
        self.total += await self.price(user)  # loads total before it awaits


class _LateInvoice(_Invoice):
    async def add(self, user: int) -> None:
        price = await self.price(user)
        self.total += price


async def _use(invoice: _Invoice, user: int) -> None:
    await invoice.add(user)


def _all_billed(invoice: _Invoice) -> None:
    assert invoice.total == 201, f"{invoice.total} billed, of 100 and 101"


AUGMENTED_AWAIT = Pattern(
    id="P04",
    title="augmented assignment across await",
    summary=(
        "In ``total += await price()`` the old total is loaded first, so what others "
        "add meanwhile is lost. Await first, then add."
    ),
    source="https://github.com/eslint/eslint/issues/11899",
    vulnerable=visits(_Invoice, _use, _all_billed),
    safe=visits(_LateInvoice, _use, _all_billed),
)


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


async def _book(flight: _Flight, user: int) -> None:
    await flight.book(NAMES[user])


def _one_passenger_per_seat(flight: _Flight) -> None:
    seats = list(flight.passengers.values())
    assert len(seats) == len(set(seats)), "two passengers have one seat"


CHECK_THEN_ACT = Pattern(
    id="P05",
    title="check-then-act on a limit",
    summary=(
        "The last seat is looked for, paid, and only then taken; two pay for it. "
        "Reserve before the first await."
    ),
    source="https://doi.org/10.1145/3035918.3064037",
    vulnerable=visits(_Flight, _book, _one_passenger_per_seat),
    safe=visits(_ReservingFlight, _book, _one_passenger_per_seat),
)


class _Profile:
    """Name and address of one account, which two devices edit."""

    def __init__(self) -> None:
        self.name, self.address = "alice", "alice street"
        self.lock = asyncio.Lock()

    async def replace(self, owner: str) -> None:
        self.name = owner
        await external("normalise the address")
        self.address = f"{owner} street"

    def label(self) -> tuple[str, str]:
        return self.name, self.address


class _SwappingProfile(_Profile):
    async def replace(self, owner: str) -> None:
        await external("normalise the address")
        self.name, self.address = owner, f"{owner} street"


async def _replace_or_ship(profile: _Profile, user: int) -> None:
    if user:
        await profile.replace("bob")
    else:
        await external("pack the parcel")
        name, address = profile.label()
        assert address == f"{name} street", f"{name}'s parcel goes to {address}"


TORN_PAIR = Pattern(
    id="P13",
    title="two-variable invariant torn",
    summary=(
        "Two fields that belong together are written before and after an await, and a "
        "reader sees one of each. Compute first, then write both in one step."
    ),
    source="https://cwe.mitre.org/data/definitions/362.html",
    vulnerable=visits(_Profile, _replace_or_ship),
    safe=visits(_SwappingProfile, _replace_or_ship),
)


class _Workspaces:
    """Workspaces are loaded when somebody first asks for them."""

    def __init__(self) -> None:
        self.open: dict[str, SimpleNamespace] = {}
        self.lock = asyncio.Lock()

    async def get(self, key: str) -> SimpleNamespace:
        workspace = self.open.get(key)
        if workspace is None:
            workspace = self.open[key] = SimpleNamespace(is_private=False)
            await external("SELECT workspace")
            workspace.is_private = True
        return workspace


class _CompleteWorkspaces(_Workspaces):
    async def get(self, key: str) -> SimpleNamespace:
        async with self.lock:
            workspace = self.open.get(key)
            if workspace is None:
                await external("SELECT workspace")
                workspace = self.open[key] = SimpleNamespace(is_private=True)
            return workspace


async def _open_workspace(workspaces: _Workspaces, user: int) -> None:  # noqa: ARG001  # any user
    workspace = await workspaces.get("payroll")
    assert workspace.is_private, "shown to everybody, for its access rule is not loaded"


HALF_BUILT = Pattern(
    id="P17",
    title="half-built object published",
    summary=(
        "An object is put into a shared map and filled in afterwards; who finds it in "
        "between acts on its defaults. Build it fully, then publish it."
    ),
    source="https://cwe.mitre.org/data/definitions/908.html",
    vulnerable=visits(_Workspaces, _open_workspace),
    safe=visits(_CompleteWorkspaces, _open_workspace),
)


PATTERNS = (
    LOST_UPDATE,
    NARROW_LOCK,
    WRONG_LOCK,
    AUGMENTED_AWAIT,
    CHECK_THEN_ACT,
    TORN_PAIR,
    HALF_BUILT,
)
