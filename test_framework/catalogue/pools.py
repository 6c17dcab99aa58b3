"""Connections and sessions that go from one user to the next, with what is left on them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from test_framework.catalogue.pattern import Needs, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external

_CANCELLED_USERS = Needs(cancel="user*")


class _Connection:
    """Answers in the order of the requests, whoever reads; as Redis and HTTP/1.1 do."""

    def __init__(self) -> None:
        self.replies: deque[str] = deque()
        self.is_open = True
        self.is_reading = False
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
    assert await pool.get(NAMES[user]) == f"reply to GET {NAMES[user]}"


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
    needs=_CANCELLED_USERS,
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
        assert row.startswith(NAMES[user])


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
    needs=_CANCELLED_USERS,
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
    needs=_CANCELLED_USERS,
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
    needs=_CANCELLED_USERS,
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
        assert await pool.invoices("alice") == "invoices of alice"


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
    needs=_CANCELLED_USERS,
)


class _Session:
    """A unit of work: what is added is written by commit and dropped by rollback."""

    def __init__(self, table: list[str]) -> None:
        self.table = table
        self.added: list[str] = []

    async def commit(self) -> None:
        await external("COMMIT")
        self.table += self.added
        self.added.clear()

    def rollback(self) -> None:
        self.added.clear()


class _Orders:
    """Has one session for the whole application."""

    def __init__(self) -> None:
        self.table: list[str] = []
        self.session = _Session(self.table)

    def begin(self) -> _Session:
        return self.session

    async def order(self, user: str, *, is_valid: bool) -> bool:
        session = self.begin()
        session.added.append(f"order of {user}")
        await external("check the stock")
        if not is_valid:
            session.rollback()
            return False
        await session.commit()
        return True


class _PerRequestOrders(_Orders):
    def begin(self) -> _Session:
        return _Session(self.table)


async def _order(orders: _Orders, user: int) -> None:
    if await orders.order(NAMES[user], is_valid=user == 0):
        assert f"order of {NAMES[user]}" in orders.table, "confirmed, and not stored"


def _only_valid_orders(orders: _Orders) -> None:
    assert "order of bob" not in orders.table, "the rejected order was stored"


SHARED_SESSION = Pattern(
    id="D02",
    title="one session for the whole application",
    summary=(
        "A rollback of one user drops what another has added, or a commit writes what "
        "it would have dropped. Make a session for each request."
    ),
    source="https://github.com/openrelik/openrelik-server/issues/111",
    vulnerable=visits(_Orders, _order, _only_valid_orders),
    safe=visits(_PerRequestOrders, _order, _only_valid_orders),
)


class _Wire(_Connection):
    """Refuses a second reader, as StreamReader and asyncpg do."""

    async def call(self, request: str) -> str:
        if self.is_reading:
            raise RuntimeError("another operation is in progress")
        self.is_reading = True
        try:
            await external(request)
            return f"reply to {request}"
        finally:
            self.is_reading = False


class _Database:
    """Keeps one connection for everybody."""

    def __init__(self) -> None:
        self.wire = _Wire()
        self.lock = asyncio.Lock()

    async def query(self, statement: str) -> str:
        return await self.wire.call(statement)


class _QueueingDatabase(_Database):
    async def query(self, statement: str) -> str:
        async with self.lock:
            return await self.wire.call(statement)


async def _query_own(database: _Database, user: int) -> None:
    statement = f"SELECT {NAMES[user]}"
    assert await database.query(statement) == f"reply to {statement}"


SHARED_DRIVER = Pattern(
    id="D14",
    title="driver connection shared by requests",
    summary=(
        "Two requests use one connection at once, and the driver refuses the second: "
        "'another operation is in progress'. Use a pool, or a lock around it."
    ),
    source="https://github.com/MagicStack/asyncpg/issues/537",
    vulnerable=visits(_Database, _query_own),
    safe=visits(_QueueingDatabase, _query_own),
    kind="exception",
)


class _Dashboard(_Database):
    """Loads its parts at the same time, over one session."""

    async def load(self, user: str) -> list[str]:
        orders = asyncio.create_task(self.later(f"orders of {user}"))
        profile = await self.query(f"profile of {user}")
        return [profile, await orders]

    async def later(self, statement: str) -> str:
        await external("read the first page from the cache")
        return await self.query(statement)


class _SessionPerTaskDashboard(_Dashboard):
    async def query(self, statement: str) -> str:
        return await _Wire().call(statement)


async def _load_dashboard(dashboard: _Dashboard, user: int) -> None:
    assert len(await dashboard.load(NAMES[user])) == 2


SESSION_IN_TASKS = Pattern(
    id="D01",
    title="one AsyncSession in concurrent tasks",
    summary=(
        "A handler gathers queries over its session, which works while they happen not "
        "to overlap. Give each task its own session."
    ),
    source="https://github.com/sqlalchemy/sqlalchemy/issues/5967",
    vulnerable=visits(_Dashboard, _load_dashboard, users=1),
    safe=visits(_SessionPerTaskDashboard, _load_dashboard, users=1),
    kind="exception",
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


class _Endpoint:
    """Answers, and goes on in the background with the session of the request."""

    def __init__(self) -> None:
        self.session = _Connection()
        self.lock = asyncio.Lock()
        self.mails: list[tuple[str, str]] = []
        self.background: set[asyncio.Task[None]] = set()

    async def mail(self, user: str) -> None:
        await external("connect to the mail server")
        self.mails.append((user, self.session.tenant))

    async def handle(self, user: str) -> None:
        async with self.lock:  # checks the session out
            self.session.tenant = user
            await external("UPDATE")
            self.background.add(asyncio.create_task(self.mail(user)))


class _OwnSessionEndpoint(_Endpoint):
    async def mail(self, user: str) -> None:
        session = _Connection()
        session.tenant = user
        await external("connect to the mail server")
        self.mails.append((user, session.tenant))


async def _request_mail(endpoint: _Endpoint, user: int) -> None:
    await endpoint.handle(NAMES[user])
    await asyncio.gather(*endpoint.background)


def _mails_are_of_users(endpoint: _Endpoint) -> None:
    for user, tenant in endpoint.mails:
        assert user == tenant, "the mail was written with the session of another user"


SESSION_AFTER_REQUEST = Pattern(
    id="D10",
    title="session used after its request",
    summary=(
        "A background task goes on with the session of the request, which the pool has "
        "given to somebody else. Open a session inside of the task."
    ),
    source="https://github.com/fastapi/fastapi/issues/11143",
    vulnerable=visits(_Endpoint, _request_mail, _mails_are_of_users),
    safe=visits(_OwnSessionEndpoint, _request_mail, _mails_are_of_users),
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
    assert await redis.get(NAMES[user]) == f"reply to GET {NAMES[user]}"


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


class _Pipelines:
    """One pipeline object for the application: queue commands, then execute."""

    def __init__(self) -> None:
        self.queued: list[str] = []

    def pipeline(self) -> list[str]:
        return self.queued

    async def load(self, user: str) -> list[str]:
        pipeline = self.pipeline()
        pipeline.append(f"name of {user}")
        await external("look up the shard")
        pipeline.append(f"mail of {user}")
        sent = list(pipeline)
        pipeline.clear()
        await external("EXEC")
        return sent


class _PipelinePerCall(_Pipelines):
    def pipeline(self) -> list[str]:
        return []


async def _load_own(pipelines: _Pipelines, user: int) -> None:
    loaded = await pipelines.load(NAMES[user])
    assert loaded == [f"name of {NAMES[user]}", f"mail of {NAMES[user]}"]


SHARED_PIPELINE = Pattern(
    id="R09",
    title="shared pipeline object",
    summary=(
        "Commands of two users are queued in one pipeline and executed by whoever comes "
        "first, who gets the results of both. Make a pipeline for each call."
    ),
    source="https://redis.io/docs/latest/develop/using-commands/pipelining/",
    vulnerable=visits(_Pipelines, _load_own),
    safe=visits(_PipelinePerCall, _load_own),
)


PATTERNS = (
    UNREAD_REPLY,
    STALE_RESULT_SET,
    LOST_CONNECTION,
    SLOT_LEAK,
    SESSION_IN_TASKS,
    SHARED_SESSION,
    SETTING_LEAK,
    NESTED_ACQUIRE,
    SESSION_AFTER_REQUEST,
    SHARED_DRIVER,
    CROSSED_REPLIES,
    SHARED_PIPELINE,
)
