"""Work that is ended early: by a timeout, by a retry, by a sibling that failed.

A cancelled coroutine raises at the await at which it stands, and once more at the next
one if it is cancelled again; what it must still do for others has to survive that.
"""

import asyncio
import contextlib

from test_framework.catalogue.pattern import CANCELLED_USERS, Needs, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Rooms:
    """One meeting room; who waits longer than a minute gives up."""

    def __init__(self) -> None:
        self.free: asyncio.Queue[str] = asyncio.Queue()
        self.free.put_nowait("room 1")

    async def wait(self, take: "asyncio.Task[str]") -> None:
        # As wait_for did it until Python 3.12.
        await asyncio.wait({take}, timeout=60)

    async def meet(self) -> None:
        take = asyncio.create_task(self.free.get())
        await self.wait(take)
        if take.done():
            try:
                await external("meet")
            finally:
                self.free.put_nowait(take.result())
        else:
            take.cancel()


class _ReturningRooms(_Rooms):
    async def wait(self, take: "asyncio.Task[str]") -> None:
        try:
            await super().wait(take)
        except asyncio.CancelledError:
            if not take.cancel():
                self.free.put_nowait(take.result())
            raise


async def _meet(rooms: _Rooms, user: int) -> None:  # noqa: ARG001  # any user
    await rooms.meet()


def _room_is_free(rooms: _Rooms) -> None:
    assert rooms.free.qsize() == 1, "the room is taken by nobody"


RESULT_LOST = Pattern(
    id="X05",
    title="timed wait loses what it waited for",
    summary=(
        "The wait is cancelled just as its result comes, and the resource belongs to "
        "nobody. Give back what a task brings that is no longer awaited."
    ),
    source="https://github.com/python/cpython/issues/86296",
    vulnerable=visits(_Rooms, _meet, _room_is_free),
    safe=visits(_ReturningRooms, _meet, _room_is_free),
    needs=CANCELLED_USERS,
)


class _Feeds:
    """Sends news to sockets until they are closed."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def poll(self) -> None:
        try:
            await external("fetch news")
        except BaseException:  # noqa: BLE001  # the bug: cancellation is caught too
            return

    async def serve(self, user: str) -> None:
        for _ in range(2):
            await self.poll()
            self.sent.append(user)


class _RaisingFeeds(_Feeds):
    async def poll(self) -> None:
        with contextlib.suppress(Exception):
            await external("fetch news")


async def _follow(feeds: _Feeds, user: int) -> None:
    name = NAMES[user]
    feed = asyncio.create_task(feeds.serve(name))
    await asyncio.wait({feed}, timeout=5)  # then the client leaves
    sent = feeds.sent.count(name)
    feed.cancel()
    await asyncio.wait({feed})
    assert feeds.sent.count(name) == sent, "goes on for a client that has left"


SWALLOWED_CANCEL = Pattern(
    id="X07",
    title="swallowed CancelledError",
    summary=(
        "A broad except catches the cancellation, and the task goes on for a client "
        "that has left. Catch Exception, which it is not."
    ),
    source="https://flake8-async.readthedocs.io/en/latest/rules.html#async103",
    vulnerable=visits(_Feeds, _follow),
    safe=visits(_RaisingFeeds, _follow),
)


class _Uploads:
    """Removes its temporary file at the end, on a file server."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.removals: set[asyncio.Task[None]] = set()

    async def remove(self, name: str) -> None:
        await external("DELETE file")
        self.files.discard(name)

    async def clean_up(self, name: str) -> None:
        await self.remove(name)

    async def upload(self, name: str) -> None:
        self.files.add(name)
        try:
            await external("scan for viruses")
        finally:
            await self.clean_up(name)


class _ShieldedUploads(_Uploads):
    async def clean_up(self, name: str) -> None:
        removal = asyncio.create_task(self.remove(name))
        self.removals.add(removal)
        await asyncio.shield(removal)


async def _upload(uploads: _Uploads, user: int) -> None:
    request = asyncio.create_task(uploads.upload(NAMES[user]))
    await asyncio.wait({request})
    await asyncio.gather(*uploads.removals)
    assert NAMES[user] not in uploads.files, "the file stays for the next tenant"


UNSHIELDED_CLEANUP = Pattern(
    id="X08",
    title="await in finally without shield",
    summary=(
        "The clean-up is awaited, and a cancellation hits it like any other await. Run "
        "it as a task of its own and shield it."
    ),
    source="https://github.com/sqlalchemy/sqlalchemy/issues/6652",
    vulnerable=visits(_Uploads, _upload),
    safe=visits(_ShieldedUploads, _upload),
    needs=Needs(cancel="user*/upload*"),
)


class _Connection:
    """Belongs to a request until it is given back."""

    def __init__(self) -> None:
        self.is_given_back = False
        self.misuses: list[str] = []

    async def execute(self, statement: str) -> None:
        await external(statement)
        if self.is_given_back:
            self.misuses.append(statement)


class _Checkout:
    """Writes the order and pays for it at the same time."""

    def __init__(self) -> None:
        self.connections: list[_Connection] = []

    async def pay(self) -> None:
        await external("POST /charge")
        raise ConnectionError("the bank says no")

    async def both(self, order: asyncio.Task[None], pay: asyncio.Task[None]) -> None:
        await asyncio.gather(order, pay)

    async def buy(self) -> asyncio.Task[None]:
        connection = _Connection()
        self.connections.append(connection)
        order = asyncio.create_task(connection.execute("INSERT order"))
        with contextlib.suppress(ConnectionError):
            await self.both(order, asyncio.create_task(self.pay()))
        connection.is_given_back = True
        return order


class _JoiningCheckout(_Checkout):
    async def both(self, order: asyncio.Task[None], pay: asyncio.Task[None]) -> None:
        try:
            await asyncio.gather(order, pay)
        finally:
            order.cancel()
            await asyncio.wait({order})


async def _buy(checkout: _Checkout, user: int) -> None:  # noqa: ARG001  # any user
    order = await checkout.buy()
    await asyncio.wait({order})


def _none_used_late(checkout: _Checkout) -> None:
    for connection in checkout.connections:
        assert not connection.misuses, "ran on the connection of another user"


GATHER_SIBLING = Pattern(
    id="X09",
    title="gather leaves siblings running",
    summary=(
        "One of two gathered statements fails, the connection is given back, and the "
        "other one goes on using it. Use a TaskGroup, which waits for both."
    ),
    source="https://github.com/sqlalchemy/sqlalchemy/issues/10092",
    vulnerable=visits(_Checkout, _buy, _none_used_late),
    safe=visits(_JoiningCheckout, _buy, _none_used_late),
)


class _Payments:
    """Tries a payment again when the bank does not answer within a second."""

    def __init__(self) -> None:
        self.booked: list[str] = []

    def book(self, key: str) -> None:
        self.booked.append(key)

    async def charge(self, key: str) -> None:
        await external("POST /charge")
        self.book(key)
        await external("the answer")

    async def pay(self, user: str) -> None:
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self.charge(f"payment of {user}")
                    return


class _IdempotentPayments(_Payments):
    def book(self, key: str) -> None:
        if key not in self.booked:
            self.booked.append(key)


async def _pay(payments: _Payments, user: int) -> None:
    await payments.pay(NAMES[user])


def _paid_once(payments: _Payments) -> None:
    assert len(payments.booked) == len(set(payments.booked)), "paid twice"


RETRIED_EFFECT = Pattern(
    id="X10",
    title="timeout and retry repeat a side effect",
    summary=(
        "The first attempt has worked and only its answer is late; the retry pays "
        "again. Send an idempotency key with both."
    ),
    source="https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/",
    vulnerable=visits(_Payments, _pay, _paid_once),
    safe=visits(_IdempotentPayments, _pay, _paid_once),
)


PATTERNS = (
    RESULT_LOST,
    SWALLOWED_CANCEL,
    UNSHIELDED_CLEANUP,
    GATHER_SIBLING,
    RETRIED_EFFECT,
)
