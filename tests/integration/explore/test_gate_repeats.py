"""One seed, one run: over Postgres, Redis, HTTP and WebSocket at the same time."""

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
import pytest
import redis.asyncio
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from test_framework.clients.blocked import PostgresProbe
from test_framework.explore import Conclusion, Scenario, explore
from test_framework.explore.execution import Runner
from test_framework.explore.gate import GateLoop, run_digest, watch_waits
from test_framework.explore.scenario import main_of
from test_framework.explore.schedulers import Uniform

pytestmark = [pytest.mark.integration, pytest.mark.slow]

_TABLE = """
CREATE TABLE IF NOT EXISTS gate_visits (id int PRIMARY KEY, number int NOT NULL);
TRUNCATE gate_visits;
INSERT INTO gate_visits VALUES (0, 0)
"""


class Room:
    """A server for WebSocket and HTTP: says messages back, keeps a number."""

    def __init__(self) -> None:
        self.number = 0

    async def talk(self, socket: ServerConnection) -> None:
        """Answer each message in capitals."""
        async for message in socket:
            await socket.send(str(message).upper())

    def answer(self, socket: ServerConnection, request: Request) -> Response | None:
        """Answer ``GET /number`` and ``GET /number/N``; anything else is a WebSocket."""
        if not request.path.startswith("/number"):
            return None
        new = request.path.removeprefix("/number").lstrip("/")
        self.number = int(new) if new else self.number
        return socket.respond(200, f"{self.number}\n")

    async def open(self) -> Server:
        """Start to listen on a free port."""
        return await serve(self.talk, "127.0.0.1", 0, process_request=self.answer)


def port_of(server: Server) -> int:
    """Return where a server listens."""
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


@pytest.fixture(scope="module")
def outside_port() -> Iterator[int]:
    """Where a room listens that has a loop and a thread of its own."""
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = []
    is_up = threading.Event()

    async def run() -> None:
        async with await Room().open() as server:
            end = asyncio.Event()
            started.append((asyncio.get_running_loop(), end, port_of(server)))
            is_up.set()
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert is_up.wait(10)
    loop, end, port = started[0]
    yield port
    loop.call_soon_threadsafe(end.set)
    thread.join(10)


@dataclass
class Visit:
    """What the users of one run share."""

    databases: list[Any]
    cache: Any
    sockets: list[Any]
    seen: list[tuple[int, str, object]] = field(default_factory=list)


class Visits:
    """Makes runs of one scenario over all protocols, and their digests.

    Args:
        database_url: Postgres.
        redis_url: Redis.
        probe: Tells who waits for a row.
        port: Where a room listens; None for one in the loop of the run.
    """

    def __init__(
        self,
        database_url: str,
        redis_url: str,
        probe: PostgresProbe,
        port: int | None = None,
    ) -> None:
        self._urls = database_url, redis_url
        self._probe = probe
        self._port = port
        self._visit: Visit | None = None
        self.loop = GateLoop()
        scenario = Scenario(self._setup, self._user, users=2)
        self._runner = Runner(main_of(scenario, 2), self.loop)

    @contextlib.asynccontextmanager
    async def _setup(self) -> AsyncIterator[Visit]:
        watch_waits(self._probe)
        async with contextlib.AsyncExitStack() as stack:
            port = self._port
            if port is None:
                port = port_of(await stack.enter_async_context(await Room().open()))
            cache = redis.asyncio.Redis.from_url(self._urls[1])
            await stack.enter_async_context(cache)
            await cache.set("gate:visits", 0)
            visit = self._visit = Visit([], cache, [])
            for _ in range(2):
                database = await asyncpg.connect(self._urls[0])
                stack.push_async_callback(database.close)
                visit.databases.append(database)
                socket = connect(f"ws://127.0.0.1:{port}")
                visit.sockets.append(await stack.enter_async_context(socket))
            await visit.databases[0].execute(_TABLE)
            yield visit

    async def _user(self, visit: Visit, user: int) -> None:
        seen, database = visit.seen, visit.databases[user]
        seen.append((user, "redis", await visit.cache.incr("gate:visits")))
        async with database.transaction():
            number = await database.fetchval(
                "UPDATE gate_visits SET number = number + 1 RETURNING number"
            )
            seen.append((user, "postgres", number))
            await visit.sockets[user].send(f"visit {number}")
            seen.append((user, "websocket", await visit.sockets[user].recv()))

    def digest(self, seed: int) -> str:
        """Return the digest of the run of a seed: who went, and what everybody saw."""
        failure = self._runner.run(Uniform(random.Random(seed)))
        assert failure is None, failure
        assert self._visit is not None
        return run_digest(self.loop, self._visit.seen)


@pytest.fixture
def visits(database_url: str, redis_url: str, probe: PostgresProbe) -> Visits:
    """Runs with the WebSocket server in the loop of the run."""
    return Visits(database_url, redis_url, probe)


def test_one_seed_makes_one_run_over_all_protocols(visits: Visits) -> None:
    """50 of 50 runs agree in their order and in every value that a user saw."""
    digests = Counter(visits.digest(seed=7) for _ in range(50))

    assert digests.most_common() == [(digests.most_common()[0][0], 50)]
    assert not visits.loop.notes


def test_different_seeds_make_different_runs(visits: Visits) -> None:
    """At least 90 of 100 seeds have an order of their own."""
    digests = {visits.digest(seed) for seed in range(100)}

    assert len(digests) >= 90


def test_one_seed_makes_one_run_with_a_server_elsewhere(
    database_url: str, redis_url: str, probe: PostgresProbe, outside_port: int
) -> None:
    """A WebSocket server outside of the loop answers when it likes, and decides nothing."""
    visits = Visits(database_url, redis_url, probe, outside_port)

    digests = {visits.digest(seed=7) for _ in range(15)}

    assert len(digests) == 1


@pytest.mark.long
def test_one_seed_makes_the_same_run_a_thousand_times(visits: Visits) -> None:
    """1,000 of 1,000."""
    digests = Counter(visits.digest(seed=1) for _ in range(1000))

    assert list(digests.values()) == [1000]


async def add_by_reading_and_writing(client: httpx.AsyncClient, user: int) -> None:  # noqa: ARG001  # the face of a user
    """Raise the number of the room in two requests."""
    number = int((await client.get("/number")).text)
    await client.get(f"/number/{number + 1}")


@pytest.mark.power
def test_gate_finds_an_update_lost_over_http() -> None:
    """The users of a web service with GET and then PUT, its server in the same loop."""

    @contextlib.asynccontextmanager
    async def setup() -> AsyncIterator[httpx.AsyncClient]:
        async with await Room().open() as server:
            url = f"http://127.0.0.1:{port_of(server)}"
            async with httpx.AsyncClient(base_url=url, verify=False) as client:  # noqa: S501  # no TLS at all
                yield client
                assert (await client.get("/number")).text == "2\n"

    scenario = Scenario(setup, add_by_reading_and_writing, users=2)
    report = explore(scenario, io="gate", seed=1)

    assert report.conclusion is Conclusion.FOUND, report.text()
