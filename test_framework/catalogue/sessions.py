"""Sessions, transactions and pipelines that more than one task works with."""

import asyncio
from types import SimpleNamespace

from test_framework.catalogue.pattern import Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


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


class _Wire:
    """Refuses a second reader, as StreamReader and asyncpg do."""

    def __init__(self) -> None:
        self.is_reading = False

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
    got = await database.query(statement)
    assert got == f"reply to {statement}", f"{NAMES[user]} got {got}"


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
    assert len(await dashboard.load(NAMES[user])) == 2, "a part is missing"


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


class _Endpoint:
    """Answers, and goes on in the background with the session of the request."""

    def __init__(self) -> None:
        self.session = SimpleNamespace(tenant="")
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
        session = SimpleNamespace(tenant=user)
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
    assert loaded == [f"name of {NAMES[user]}", f"mail of {NAMES[user]}"], (
        f"{NAMES[user]} got {loaded}"
    )


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
    SHARED_SESSION,
    SHARED_DRIVER,
    SESSION_IN_TASKS,
    SESSION_AFTER_REQUEST,
    SHARED_PIPELINE,
)
