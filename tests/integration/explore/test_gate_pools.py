"""Connections that a struck user gives back: whether the next user may have them."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis.asyncio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from test_framework.explore import (
    Conclusion,
    Failure,
    Report,
    Scenario,
    explore,
    external,
    replay,
    watch_pool,
)
from test_framework.explore.execution import Runner
from test_framework.explore.gate import GateLoop
from test_framework.explore.scenario import main_of
from test_framework.explore.schedulers import Stock

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# Each cancellation that a user or a task of it can meet, and some orders besides.
RUNS = 60
# More than two reruns of the first order: the sweep was made.
SWEPT = 10


def swept(scenario: Scenario[Any]) -> Report:
    """Explore with cancellations."""
    return explore(
        scenario, io="gate", cancel="user*", schedules=RUNS, budget="30s", seed=1
    )


def assert_clean(report: Report) -> None:
    """Require that cancellations were tried and nothing was found."""
    assert report.conclusion is Conclusion.SAMPLED, report.text()
    assert report.distinct > SWEPT


def dirt_of(report: Report) -> Failure:
    """Return the failure that was found, which must be a dirty connection."""
    assert report.conclusion is Conclusion.FOUND, report.text()
    assert report.witness is not None
    assert report.witness.failure.kind == "dirty-connection", report.text()
    return report.witness.failure


# -- a client of Redis by hand --------------------------------------------------------


class Wire:
    """A connection to Redis without any care for cancellation."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self.writer = writer

    def say(self, *words: str) -> None:
        """Send a command and leave its reply for another time."""
        parts = [f"${len(word)}\r\n{word}\r\n" for word in words]
        command = f"*{len(words)}\r\n{''.join(parts)}"
        self.writer.write(command.encode())

    async def ask(self, *words: str) -> str:
        """Send a command and return its one line of reply."""
        self.say(*words)
        return await self.listen()

    async def listen(self) -> str:
        """Return the next reply of one line."""
        return (await self._reader.readline()).decode().strip()


class WirePool:
    """One connection for all.

    Args:
        url: Of the Redis.
        cuts: Whether a connection is closed whose user did not come to a good end.
    """

    def __init__(self, url: str, *, cuts: bool) -> None:
        self._url = urlsplit(url)
        self._cuts = cuts
        self._free: asyncio.Queue[Wire | None] = asyncio.Queue()
        self._free.put_nowait(None)

    @contextlib.asynccontextmanager
    async def borrow(self) -> AsyncIterator[Wire]:
        """Lend the connection, and open it if there is none."""
        wire = await self._free.get()
        try:
            if wire is None:
                wire = await self._open()
            yield wire
        except BaseException:
            if self._cuts and wire is not None:
                wire.writer.close()
                wire = None
            raise
        finally:
            self._free.put_nowait(wire)

    async def _open(self) -> Wire:
        wire = Wire(*await asyncio.open_connection(self._url.hostname, self._url.port))
        try:
            await wire.ask("AUTH", self._url.password or "")
        except BaseException:
            wire.writer.close()
            raise
        return wire

    async def close(self) -> None:
        """Close what is free."""
        wire = await self._free.get()
        if wire is not None:
            wire.writer.close()


def wires(
    url: str, *, cuts: bool
) -> Callable[[], contextlib.AbstractAsyncContextManager[WirePool]]:
    """Return a setup that makes such a pool."""

    @contextlib.asynccontextmanager
    async def setup() -> AsyncIterator[WirePool]:
        pool = WirePool(url, cuts=cuts)
        async with pool.borrow():
            "It is open from now on."
        try:
            yield pool
        finally:
            await pool.close()

    return setup


async def ask_twice(pool: WirePool, user: int) -> None:
    """Use the connection without a look at what it says."""
    async with pool.borrow() as wire:
        await wire.ask("ECHO", f"u{user}")
        await wire.ask("PING")


async def queue_commands(pool: WirePool, user: int) -> None:
    """Queue commands, and wait for something else meanwhile."""
    async with pool.borrow() as wire:
        await wire.ask("MULTI")
        await external("think")
        await wire.ask("SET", "gate:pool", str(user))
        await wire.ask("EXEC")
        await wire.listen()


@pytest.mark.power
def test_reply_that_a_cancelled_user_leaves_unread_is_found(redis_url: str) -> None:
    """The failure says what was asked by whom at which line, and where the fault was."""
    scenario = Scenario(wires(redis_url, cuts=False), ask_twice, users=2)

    report = swept(scenario)

    failure = dirt_of(report)
    assert failure.message == (
        "user[0] is done and nobody reads the reply to its ECHO u0, on a redis "
        "connection that is still open: whoever uses it next takes that reply for its "
        "own."
    )
    asked, stroke = failure.details
    assert asked.startswith("user[0] asked at tests")
    assert asked.endswith("self.writer.write(command.encode())")
    assert failure.where in asked
    assert stroke.startswith("user[0] was cancelled at tests")
    assert "await self._reader.readline()" in stroke


@pytest.mark.power
def test_dirty_connection_is_replayed_with_its_story(redis_url: str) -> None:
    """The token repeats it, and the story shows the cancelled wait."""
    scenario = Scenario(wires(redis_url, cuts=False), ask_twice, users=2)
    witness = swept(scenario).witness
    assert witness is not None

    outcome = replay(scenario, witness.schedule.token())

    assert outcome.failure == witness.failure
    assert [line.task for line in witness.story if line.fault] == ["user[0]"]


@pytest.mark.parametrize(
    ("suspension", "claim"),
    [
        (2, "nobody reads the reply to its MULTI"),
        (3, "nobody ends the MULTI that it began"),
        (4, "nobody reads the reply to its SET gate:pool"),
    ],
)
def test_each_wait_inside_of_multi_leaves_its_own_dirt(
    redis_url: str, suspension: int, claim: str
) -> None:
    """A reply that nobody reads, or commands that are queued for nobody."""
    scenario = Scenario(wires(redis_url, cuts=False), queue_commands, users=2)
    # The first suspension is the arrival.
    lines = (
        f"fidelity = fifo\nio = gate\nusers = 2\ncancel in user[0] at {suspension}\n"
    )

    failure = replay(scenario, lines).failure

    assert failure is not None
    # A MULTI inside of another one is an error, and then the second user is stuck.
    told = "\n".join([failure.message, *failure.details])
    assert claim in told
    assert "user[1] then sent MULTI on it" in told


@pytest.mark.parametrize("user", [ask_twice, queue_commands])
def test_connection_that_is_cut_after_a_cancellation_is_clean(
    redis_url: str, user: Callable[[WirePool, int], Coroutine[Any, Any, None]]
) -> None:
    """The safe sibling of the same pool."""
    assert_clean(swept(Scenario(wires(redis_url, cuts=True), user, users=2)))


def test_reply_that_the_program_never_reads_is_its_usual_way(redis_url: str) -> None:
    """What the run without faults leaves as well is no finding."""

    async def tell(pool: WirePool, user: int) -> None:
        async with pool.borrow() as wire:
            wire.say("ECHO", f"u{user}")
        await external("think")

    assert_clean(swept(Scenario(wires(redis_url, cuts=True), tell, users=2)))


class Multiplexer:
    """One connection for all, with a reader of its own.

    Args:
        wire: The connection.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._waiting: deque[asyncio.Future[str]] = deque()

    async def read(self) -> None:
        """Give each reply to the one who asked for it, who may be gone."""
        while True:
            reply = await self._wire.listen()
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(reply)

    async def ask(self, *words: str) -> str:
        """Send a command and wait for the reader."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._wire.say(*words)
        return str(await waiter)


def test_connection_with_a_reader_of_its_own_is_clean(redis_url: str) -> None:
    """A reply that its user has given up is read all the same."""

    @contextlib.asynccontextmanager
    async def setup() -> AsyncIterator[Multiplexer]:
        async with wires(redis_url, cuts=False)() as pool, pool.borrow() as wire:
            client = Multiplexer(wire)
            reading = asyncio.create_task(client.read(), name="reader")
            yield client
            reading.cancel()

    async def ask(client: Multiplexer, user: int) -> None:
        await client.ask("SET", "gate:pool", str(user))

    assert_clean(swept(Scenario(setup, ask)))


def test_connection_of_a_worker_that_goes_on_is_clean(redis_url: str) -> None:
    """The one who waits for it is cancelled; the worker reads its reply later."""

    class Worker:
        def __init__(self, wire: Wire) -> None:
            self.wire = wire
            self.jobs: asyncio.Queue[asyncio.Future[str]] = asyncio.Queue()

        async def serve(self) -> None:
            while True:
                job = await self.jobs.get()
                await asyncio.create_task(self.send(), name="send")
                await asyncio.sleep(60)
                reply = await self.wire.listen()
                if not job.done():
                    job.set_result(reply)

        async def send(self) -> None:
            self.wire.say("PING")

    @contextlib.asynccontextmanager
    async def setup() -> AsyncIterator[Worker]:
        async with wires(redis_url, cuts=False)() as pool, pool.borrow() as wire:
            worker = Worker(wire)
            serving = asyncio.create_task(worker.serve(), name="worker")
            yield worker
            serving.cancel()

    async def ask(worker: Worker, user: int) -> None:  # noqa: ARG001  # the face of a user
        job = asyncio.get_running_loop().create_future()
        worker.jobs.put_nowait(job)
        await job

    report = explore(
        Scenario(setup, ask), io="gate", cancel="user*", schedules=RUNS, seed=1
    )

    assert report.witness is None, report.text()
    assert report.conclusion is not Conclusion.INCONCLUSIVE, report.text()


def test_connection_of_the_test_itself_is_its_own(redis_url: str) -> None:
    """It ends with the run, so nobody uses it next."""
    pools: list[WirePool] = []

    async def ask_and_think() -> None:
        pool = WirePool(redis_url, cuts=False)
        pools.append(pool)
        async with pool.borrow() as wire:
            wire.say("PING")
            await external("think")
            await wire.listen()

    report = explore(ask_and_think, io="gate", cancel="main", schedules=RUNS, seed=1)

    assert report.witness is None, report.text()
    assert report.conclusion is not Conclusion.INCONCLUSIVE, report.text()


# -- a pool of asyncpg's connections by hand -------------------------------------------


class SessionPool:
    """One session of Postgres for all.

    Args:
        url: Of the Postgres.
        cuts: Whether a session is closed whose user did not come to a good end.
    """

    def __init__(self, url: str, *, cuts: bool) -> None:
        self._url = url
        self._cuts = cuts
        self._free: asyncio.Queue[asyncpg.Connection | None] = asyncio.Queue()
        self._free.put_nowait(None)

    @contextlib.asynccontextmanager
    async def borrow(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend the session, and open it if there is none."""
        session = await self._free.get()
        try:
            if session is None:
                session = await asyncpg.connect(self._url)
            yield session
        except BaseException:
            if self._cuts and session is not None:
                session.terminate()
                session = None
            raise
        finally:
            self._free.put_nowait(session)

    async def close(self) -> None:
        """Close what is free."""
        session = await self._free.get()
        if session is not None:
            session.terminate()


def sessions(
    url: str, *, cuts: bool
) -> Callable[[], contextlib.AbstractAsyncContextManager[SessionPool]]:
    """Return a setup that makes such a pool."""

    @contextlib.asynccontextmanager
    async def setup() -> AsyncIterator[SessionPool]:
        pool = SessionPool(url, cuts=cuts)
        async with pool.borrow():
            "It is open from now on."
        try:
            yield pool
        finally:
            await pool.close()

    return setup


def test_session_that_a_task_cleans_behind_the_users_is_clean(
    database_url: str,
) -> None:
    """What a cancelled user has begun is ended before anybody gets the session."""

    async def work(pool: CleanedPool, user: int) -> None:
        async with pool.borrow() as session:
            await session.execute("BEGIN")
            await session.execute(f"SELECT {user}")
            await session.execute("COMMIT")

    @contextlib.asynccontextmanager
    async def setup() -> AsyncIterator[CleanedPool]:
        session = await asyncpg.connect(database_url)
        pool = CleanedPool(session)
        cleaning = asyncio.create_task(pool.clean(), name="cleaner")
        yield pool
        cleaning.cancel()
        session.terminate()

    assert_clean(swept(Scenario(setup, work)))


class CleanedPool:
    """One session for all; what comes back is cleaned by a task.

    Args:
        session: It.
    """

    def __init__(self, session: asyncpg.Connection) -> None:
        self._free: asyncio.Queue[asyncpg.Connection] = asyncio.Queue()
        self._used: asyncio.Queue[asyncpg.Connection] = asyncio.Queue()
        self._free.put_nowait(session)

    @contextlib.asynccontextmanager
    async def borrow(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend the session."""
        session = await self._free.get()
        try:
            yield session
        finally:
            self._used.put_nowait(session)

    async def clean(self) -> None:
        """Clean sessions for ever."""
        while True:
            session = await self._used.get()
            # Always: a BEGIN that was cancelled may still be on its way.
            await session.execute("ROLLBACK")
            self._free.put_nowait(session)


@dataclass(frozen=True)
class Pools:
    """Where sessions and replies come from."""

    sessions: SessionPool
    client: Redis


async def work_in_a_transaction(pool: SessionPool, user: int) -> None:
    """Begin and commit by hand."""
    async with pool.borrow() as session:
        await session.execute("BEGIN")
        await session.execute(f"SELECT {user}")
        await session.execute("COMMIT")


@pytest.mark.power
def test_transaction_that_a_cancelled_user_leaves_open_is_found(
    database_url: str,
) -> None:
    """The line is that of the one who began it, and the next user works inside."""
    scenario = Scenario(
        sessions(database_url, cuts=False), work_in_a_transaction, users=2
    )

    failure = dirt_of(swept(scenario))

    assert "user[0] is done and nobody ends the transaction" in failure.message
    asked, taken, stroke = failure.details
    assert asked.endswith('await session.execute("BEGIN")')
    assert taken.startswith("user[1] then sent BEGIN on it, at tests")
    assert stroke.startswith("user[0] was cancelled at tests")


def test_session_that_is_cut_after_a_cancellation_is_clean(database_url: str) -> None:
    """The safe sibling of the same pool."""
    scenario = Scenario(
        sessions(database_url, cuts=True), work_in_a_transaction, users=2
    )

    assert_clean(swept(scenario))


async def work_with_redis_in_a_transaction(pools: Pools, user: int) -> None:  # noqa: ARG001  # the face of a user
    """Ask another server inside of the transaction."""
    async with pools.sessions.borrow() as session:
        await session.execute("BEGIN")
        await pools.client.get("gate:pool")
        await session.execute("COMMIT")


@pytest.mark.power
@pytest.mark.parametrize("cuts", [False, True])
def test_transaction_left_open_by_an_error_is_found(
    database_url: str,
    redis_url: str,
    cuts: bool,  # noqa: FBT001  # which twin
) -> None:
    """The connection to Redis breaks, and the session of Postgres is given back."""

    @contextlib.asynccontextmanager
    async def setup() -> AsyncIterator[Pools]:
        async with (
            sessions(database_url, cuts=cuts)() as pool,
            # With retries it would wait for random times between them.
            Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0)) as client,
        ):
            await client.ping()
            yield Pools(pool, client)

    report = explore(
        Scenario(setup, work_with_redis_in_a_transaction, users=1),
        io="gate",
        errors=("ConnectionResetError",),
        schedules=RUNS,
        seed=1,
    )

    if cuts:
        assert report.witness is None, report.text()
        return
    failure = dirt_of(report)
    assert "nobody ends the transaction" in failure.message
    assert failure.details[-1].startswith("user[0] met ConnectionResetError at tests")
    assert failure.details[-1].endswith('await pools.client.get("gate:pool")')


# -- pools of real libraries -----------------------------------------------------------


@contextlib.asynccontextmanager
async def pool_of_asyncpg(url: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool of one session."""
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        watch_pool(pool)
        yield pool


@contextlib.asynccontextmanager
async def engine_of_sqlalchemy(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine with a pool of one session."""
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://"),
        pool_size=1,
        max_overflow=0,
        pool_timeout=None,
    )
    watch_pool(engine)
    async with engine.connect():
        "It has a session from now on."
    yield engine
    await engine.dispose()


@contextlib.asynccontextmanager
async def client_of_redis(url: str) -> AsyncIterator[Redis]:
    """A client with a pool of one connection."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(url, max_connections=1)
    client = Redis.from_pool(pool)
    watch_pool(client)
    await client.ping()
    yield client
    await client.aclose()


def test_pool_of_asyncpg_is_clean(database_url: str) -> None:
    """It waits for what it has cancelled and resets what it takes back."""

    async def work(pool: asyncpg.Pool, user: int) -> None:
        async with pool.acquire() as session, session.transaction():
            await session.fetchval("SELECT $1::int", user)

    assert_clean(swept(Scenario(partial(pool_of_asyncpg, database_url), work)))


def test_pool_of_sqlalchemy_is_clean(database_url: str) -> None:
    """It rolls back, or drops, what it takes back."""

    async def work(engine: AsyncEngine, user: int) -> None:  # noqa: ARG001  # the face of a user
        async with engine.begin() as session:
            await session.execute(text("SELECT 1"))

    assert_clean(swept(Scenario(partial(engine_of_sqlalchemy, database_url), work)))


# A connection that is cancelled while it opens is left to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed Connection:ResourceWarning")
def test_pool_of_redis_is_clean(redis_url: str) -> None:
    """It closes a connection whose reply was not read."""

    async def work(client: Redis, user: int) -> None:
        await client.get("gate:pool")
        async with client.pipeline(transaction=True) as pipe:
            await pipe.watch("gate:pool")
            pipe.multi()  # type: ignore[no-untyped-call]  # redis-py has few types
            pipe.set("gate:pool", user)
            await pipe.execute()

    assert_clean(swept(Scenario(partial(client_of_redis, redis_url), work)))


def test_subscriber_that_has_not_read_its_messages_is_clean(redis_url: str) -> None:
    """Nobody asked for a message, so nobody takes it for a reply."""

    async def subscribe(pool: WirePool, user: int) -> None:  # noqa: ARG001  # the face of a user
        async with pool.borrow() as wire:
            wire.say("SUBSCRIBE", "gate:pool")
            await external("think")
            for _ in ("*3", "$9", "subscribe", "$9", "gate:pool", ":1"):
                await wire.listen()

    report = explore(
        Scenario(wires(redis_url, cuts=False), subscribe, users=1),
        io="gate",
        cancel="user*",
        schedules=RUNS,
        seed=1,
    )

    assert report.witness is None, report.text()
    assert report.conclusion is not Conclusion.INCONCLUSIVE, report.text()


async def keep_session(pool: asyncpg.Pool) -> object:
    """Borrow from asyncpg."""
    return await pool.acquire()


async def keep_connection(engine: AsyncEngine) -> object:
    """Borrow from SQLAlchemy."""
    return await engine.connect()


async def keep_reply(client: Redis) -> object:
    """Borrow from redis-py."""
    return await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py has few types


@pytest.mark.filterwarnings("ignore:unclosed Connection:ResourceWarning")
@pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up")
@pytest.mark.parametrize(
    ("server", "making", "keep"),
    [
        ("database_url", pool_of_asyncpg, keep_session),
        ("database_url", engine_of_sqlalchemy, keep_connection),
        ("redis_url", client_of_redis, keep_reply),
    ],
)
def test_known_pool_tells_what_is_never_given_back(
    request: pytest.FixtureRequest,
    server: str,
    making: Callable[[str], contextlib.AbstractAsyncContextManager[Any]],
    keep: Callable[[Any], Coroutine[Any, Any, object]],
) -> None:
    """Of asyncpg, SQLAlchemy and redis-py, without a word on when it is clean."""
    url = request.getfixturevalue(server)

    async def work(state: Any, user: int) -> None:  # noqa: ANN401, ARG001  # of any library; the face of a user
        kept.append(await keep(state))

    kept: list[object] = []
    main = main_of(Scenario(partial(making, url), work), 1)

    failure = Runner(main, GateLoop()).run(Stock())

    assert failure is not None
    # What closes a pool may wait for ever for what is out.
    told = [failure.message, *failure.details]
    assert any("users are done: 1 borrowed and not given back." in it for it in told)
