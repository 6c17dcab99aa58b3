"""Connections that go from one user to the next, with what was left on them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from test_framework.catalogue.pattern import CANCELLED_USERS, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Connection:
    """Answers in the order of the requests, whoever reads; as Redis and HTTP/1.1 do."""

    def __init__(self) -> None:
        self.replies: deque[str] = deque()
        self.tenant = ""

    async def call(self, request: str) -> str:
        await external("send")
        self.replies.append(f"reply to {request}")
        await external("receive")
        return self.replies.popleft()


class _Pool:
    """Keeps one connection, lends it to one user at a time."""

    def __init__(self) -> None:
        self.connection = _Connection()
        self.lock = asyncio.Lock()

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[_Connection]:
        async with self.lock:
            yield self.connection

    async def get(self, key: str) -> str:
        async with self.borrow() as connection:
            return await connection.call(f"GET {key}")


class _DroppingPool(_Pool):
    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[_Connection]:
        async with super().borrow() as connection:
            try:
                yield connection
            except BaseException:
                self.connection = _Connection()
                raise


async def _get_own(pool: _Pool, user: int) -> None:
    got = await pool.get(NAMES[user])
    assert got == f"reply to GET {NAMES[user]}", f"{NAMES[user]} got {got}"


UNREAD_REPLY = Pattern(
    id="X01",
    title="unread reply left on a pooled connection",
    summary=(
        "A request is cancelled after it was sent; the next user of the connection "
        "reads its reply. Drop a connection whose request did not end."
    ),
    source="CVE-2023-28858",
    vulnerable=visits(_Pool, _get_own),
    safe=visits(_DroppingPool, _get_own),
    needs=CANCELLED_USERS,
)


class _Cursors(_Pool):
    """Rows come one by one; what was not fetched waits on the connection."""

    async def rows(self, user: str) -> list[str]:
        async with self.borrow() as connection:
            await external("SELECT")
            connection.replies.extend((f"{user} row 1", f"{user} row 2"))
            rows = []
            for _ in range(2):
                await external("fetch")
                rows.append(connection.replies.popleft())
            return rows


class _ClosingCursors(_Cursors, _DroppingPool):
    """Closes the connection when a statement does not end."""


async def _select_own(pool: _Cursors, user: int) -> None:
    for row in await pool.rows(NAMES[user]):
        assert row.startswith(NAMES[user]), f"{NAMES[user]} got {row}"


STALE_RESULT_SET = Pattern(
    id="X02",
    title="stale result set on a reused connection",
    summary=(
        "A query is cancelled between two fetches, and the next user gets the rest of "
        "its rows. Close the connection on cancellation."
    ),
    source="https://github.com/long2ice/asyncmy/issues/103",
    vulnerable=visits(_Cursors, _select_own),
    safe=visits(_ClosingCursors, _select_own),
    needs=CANCELLED_USERS,
)


class _LeakyPool:
    """Has one connection; a check-in rolls back before it returns it."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(1)

    async def reset(self) -> None:
        await external("ROLLBACK")

    async def give_back(self) -> None:
        await self.reset()
        self.free.release()

    async def query(self) -> None:
        await self.free.acquire()
        try:
            await external("SELECT")
        finally:
            await self.give_back()


class _TerminatingPool(_LeakyPool):
    async def give_back(self) -> None:
        try:
            await self.reset()
        finally:
            self.free.release()


async def _query(pool: _LeakyPool, user: int) -> None:  # noqa: ARG001  # any user
    await pool.query()


LOST_CONNECTION = Pattern(
    id="X03",
    title="connection never returned",
    summary=(
        "A cancellation hits the rollback at check-in, the connection stays lent, and "
        "the next user waits for ever. Give it back whatever the rollback does."
    ),
    source="https://github.com/sqlalchemy/sqlalchemy/issues/8145",
    vulnerable=visits(_LeakyPool, _query),
    safe=visits(_TerminatingPool, _query),
    needs=CANCELLED_USERS,
    kind="deadlock",
)


class _HttpPool:
    """Allows one connection; a slot is taken before it connects."""

    def __init__(self) -> None:
        self.slots: list[str] = []
        self.freed = asyncio.Condition()

    async def take(self, user: str) -> None:
        async with self.freed:
            await self.freed.wait_for(lambda: not self.slots)
            self.slots.append(user)

    async def free(self, user: str) -> None:
        self.slots.remove(user)
        async with self.freed:
            self.freed.notify()

    async def fetch(self, user: str) -> None:
        await self.take(user)
        await external("connect")
        try:
            await external("GET /")
        finally:
            await self.free(user)


class _CarefulHttpPool(_HttpPool):
    async def fetch(self, user: str) -> None:
        await self.take(user)
        try:
            await external("connect")
            await external("GET /")
        finally:
            await self.free(user)


async def _fetch(pool: _HttpPool, user: int) -> None:
    await pool.fetch(NAMES[user])


SLOT_LEAK = Pattern(
    id="X04",
    title="slot of an HTTP pool leaks",
    summary=(
        "A request that is cancelled while it connects has taken a slot and never frees "
        "it; later all time out. Begin the try before the first await."
    ),
    source="https://github.com/encode/httpcore/issues/658",
    vulnerable=visits(_HttpPool, _fetch),
    safe=visits(_CarefulHttpPool, _fetch),
    needs=CANCELLED_USERS,
    kind="deadlock",
)


class _TenantPool(_Pool):
    """Row level security: SET names the tenant, RESET ends it."""

    async def invoices(self, user: str) -> str:
        async with self.borrow() as connection:
            connection.tenant = user
            await external("SELECT invoices")
            found = f"invoices of {connection.tenant}"
            await external("RESET tenant")
            connection.tenant = ""
            return found

    async def is_anonymous(self) -> bool:
        async with self.borrow() as connection:
            await external("SELECT current_setting('tenant')")
            return not connection.tenant


class _LocalTenantPool(_TenantPool):
    async def invoices(self, user: str) -> str:
        async with self.borrow() as connection:
            try:
                connection.tenant = user  # SET LOCAL: gone when the transaction ends
                await external("SELECT invoices")
                return f"invoices of {connection.tenant}"
            finally:
                connection.tenant = ""


async def _read_invoices(pool: _TenantPool, user: int) -> None:
    if user:
        assert await pool.is_anonymous(), "a visitor acts as a tenant"
    else:
        got = await pool.invoices("alice")
        assert got == "invoices of alice", f"alice got {got}"


SETTING_LEAK = Pattern(
    id="D03",
    title="session setting leaks through the pool",
    summary=(
        "A request that is cancelled before its RESET leaves its tenant on the "
        "connection, and the next one sees its rows. Use SET LOCAL."
    ),
    source="https://github.com/django-tenants/django-tenants/issues/545",
    vulnerable=visits(_TenantPool, _read_invoices),
    safe=visits(_LocalTenantPool, _read_invoices),
    needs=CANCELLED_USERS,
)


class _Nested:
    """A pool of two; the audit helper takes a connection of its own."""

    def __init__(self) -> None:
        self.pool = asyncio.Semaphore(2)

    async def audit(self) -> None:
        async with self.pool:
            await external("INSERT audit")

    async def handle(self) -> None:
        async with self.pool:
            await external("UPDATE")
            await self.audit()


class _OneConnection(_Nested):
    async def audit(self) -> None:
        await external("INSERT audit")


async def _handle(nested: _Nested, user: int) -> None:  # noqa: ARG001  # any user
    await nested.handle()


NESTED_ACQUIRE = Pattern(
    id="D09",
    title="second connection while holding one",
    summary=(
        "As many requests as the pool has connections hold one each and wait for a "
        "second. Use one connection for a request, and hand it to helpers."
    ),
    source="https://github.com/fastapi/fastapi/issues/3205",
    vulnerable=visits(_Nested, _handle),
    safe=visits(_OneConnection, _handle),
    kind="deadlock",
)


class _RawRedis:
    """One connection without a lock: replies come in order, readers do not."""

    def __init__(self) -> None:
        self.connection = _Connection()
        self.lock = asyncio.Lock()

    async def get(self, key: str) -> str:
        return await self.connection.call(f"GET {key}")


class _LockedRedis(_RawRedis):
    async def get(self, key: str) -> str:
        async with self.lock:
            return await super().get(key)


async def _get_own_key(redis: _RawRedis, user: int) -> None:
    got = await redis.get(NAMES[user])
    assert got == f"reply to GET {NAMES[user]}", f"{NAMES[user]} got {got}"


CROSSED_REPLIES = Pattern(
    id="R07",
    title="replies cross on one connection",
    summary=(
        "Two tasks write to one connection and each reads the reply that comes first. "
        "Lock from sending to reading, or use a pool."
    ),
    source="https://github.com/redis/redis-py/issues/2540",
    vulnerable=visits(_RawRedis, _get_own_key),
    safe=visits(_LockedRedis, _get_own_key),
)


PATTERNS = (
    UNREAD_REPLY,
    STALE_RESULT_SET,
    LOST_CONNECTION,
    SLOT_LEAK,
    SETTING_LEAK,
    NESTED_ACQUIRE,
    CROSSED_REPLIES,
)
