"""Every fault disturbs a real service so that others see it, and is gone afterwards."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import asyncpg
import pytest
import websockets

from test_framework.core import TargetError
from test_framework.faults import (
    FAULTS,
    POINTS,
    CancelledRequests,
    DroppedSockets,
    Field,
    FullDisk,
    FullPool,
    KillRedisClients,
    KillWorker,
    Partition,
    SlowNetwork,
    TerminateBackends,
    striking,
)
from tests.integration.faults.proofs import PROOFS, answer_takes, soon
from tests.integration.faults.stage import Stage, staging

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SLOW = ("full-postgres", "redis-pause")
"""Three hundred connections, and three seconds."""

NAMES = [
    pytest.param(name, marks=[pytest.mark.long] if name in SLOW else [])
    for name in FAULTS
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A service with one worker, and servers of its own."""
    with staging(tmp_path_factory.mktemp("faults")) as made:
        yield made


class Idle:
    """A fault that does nothing, under the name of one that does."""

    promise = "Nothing happens."

    def __init__(self, name: str) -> None:
        self.name = name

    def lacks(self, field: Field) -> None:
        """Return nothing: it needs nothing."""

    async def strike(self, field: Field) -> None:
        """Do nothing."""

    async def heal(self, field: Field) -> None:
        """Do nothing."""


def test_every_fault_has_a_proof() -> None:
    """What is registered is tried."""
    assert list(PROOFS) == list(FAULTS)


@pytest.mark.parametrize("name", NAMES)
async def test_fault_is_seen_and_heals(stage: Stage, name: str) -> None:
    """An observer sees the disturbance, and the service answers again within 10 s."""
    assert await stage.answers()
    look = await PROOFS[name](stage)

    async with striking(FAULTS[name](), stage.field):
        assert await soon(look, limit_s=5)

    assert await stage.answers()
    stage.host.require_alive()
    stage.services.require_alive()


@pytest.mark.parametrize("name", FAULTS)
async def test_fault_that_does_nothing_is_not_seen(stage: Stage, name: str) -> None:
    """The same observer sees nothing when nothing is done."""
    assert await stage.answers()
    look = await PROOFS[name](stage)

    async with striking(Idle(name), stage.field):
        assert not await look()


CHEAP = {
    *("stop-worker", "clock-jump", "terminate-backends", "redis-client-kill"),
    *("slow-network", "reset-connections", "half-open", "partition"),
}
"""Tried with a cancellation at each of its points in every run; the others in long."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in CHEAP else [pytest.mark.long])
        for name in FAULTS
    ],
)
async def test_cancelled_strike_heals(stage: Stage, name: str) -> None:
    """Wherever a strike is cancelled, a heal, and one more, bring everything back."""
    fault = FAULTS[name]()
    for turns in (0, 1, 2, 4, 30):
        strike = asyncio.ensure_future(fault.strike(stage.field))
        for _ in range(turns):
            await asyncio.sleep(0)
        if turns == 30:
            await asyncio.wait([strike], timeout=0.05)
        strike.cancel()
        await asyncio.gather(strike, return_exceptions=True)

        await fault.heal(stage.field)
        await fault.heal(stage.field)

        assert await stage.answers()


LASTING = ("kill-worker", "stop-worker", "full-pool", "full-postgres", "partition")
"""The service cannot answer until they heal."""


@pytest.mark.long
@pytest.mark.parametrize("name", LASTING)
async def test_fault_that_never_heals_is_noticed(stage: Stage, name: str) -> None:
    """The look that sees a service answer again sees none before the heal."""
    assert await stage.answers()
    fault = FAULTS[name]()

    async with striking(fault, stage.field):
        assert not await stage.answers(limit_s=2)

    assert await stage.answers()


async def test_heal_is_not_cut_short(stage: Stage) -> None:
    """A block that is cancelled, and cancelled again while it heals, is healed."""
    inside = asyncio.Event()

    async def disturb() -> None:
        async with striking(KillWorker(), stage.field):
            inside.set()
            await asyncio.Event().wait()

    disturbing = asyncio.ensure_future(disturb())
    await inside.wait()
    for _ in range(3):
        disturbing.cancel()
        await asyncio.sleep(0.02)
    with pytest.raises(asyncio.CancelledError):
        await disturbing

    assert isinstance(await stage.get("/pid"), int)


async def test_clients_hang_up_at_every_point(stage: Stage) -> None:
    """Its own clients leave at each point, and users' connections are cut at a byte."""
    fault = CancelledRequests(("/", "/anything"))

    async with striking(fault, stage.field):
        assert set(fault.hung_up) == set(POINTS)
        # Each connection of a user draws at most 16,384 bytes.
        with pytest.raises(ConnectionError):
            await _talk(stage.service_proxy.url, requests=30)

    await _talk(stage.service_proxy.url, requests=30)


async def _talk(url: str, *, requests: int) -> None:
    """Ask again and again on one connection.

    Raises:
        ConnectionError: It was cut.
    """
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for _ in range(requests):
            writer.write(b"GET /pid HTTP/1.1\r\nhost: h\r\nx: " + b"x" * 1000)
            writer.write(b"\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.partition(b"content-length: ")[2].partition(b"\r")[0]
            await reader.readexactly(int(length))
    except asyncio.IncompleteReadError as exc:
        message = "the stream ended"
        raise ConnectionResetError(message) from exc
    finally:
        writer.transport.abort()


async def test_sessions_of_others_are_spared(stage: Stage) -> None:
    """Only those that came through the proxies are ended."""
    assert await stage.answers()
    ours = await asyncpg.connect(stage.database_url)
    wire = await stage.redis(proxied=False)
    assert await wire.hear(5) == "+OK\r\n"
    terminate, kill = TerminateBackends(), KillRedisClients()

    async with striking(terminate, stage.field), striking(kill, stage.field):
        assert await ours.fetchval("SELECT 1") == 1
        wire.send("PING")
        assert await wire.hear(7) == "+PONG\r\n"

    assert terminate.terminated >= 1
    assert kill.killed >= 1
    await ours.close()
    wire.close()


async def test_locked_tables_close_no_circle(stage: Stage) -> None:
    """A transaction that holds one table and wants another waits, and goes on."""
    session = await asyncpg.connect(stage.database_url)
    await session.execute("CREATE TABLE IF NOT EXISTS a (n int)")
    await session.execute("CREATE TABLE IF NOT EXISTS b (n int)")
    await session.execute("BEGIN")
    await session.execute("INSERT INTO a VALUES (1)")

    async with striking(FullPool(["a", "b"]), stage.field):
        waiting = asyncio.ensure_future(session.execute("INSERT INTO b VALUES (1)"))
        # Longer than Postgres waits until it looks for deadlocks.
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        assert not done

    assert await waiting == "INSERT 0 1"
    await session.execute("COMMIT")
    assert await session.fetchval("SELECT sum(deadlocks) FROM pg_stat_database") == 0
    await session.execute("DROP TABLE a, b")
    await session.close()


async def test_full_disk_harms_nothing(stage: Stage) -> None:
    """What is there is read and changed; a write that failed left nothing behind.

    Afterwards tables and indexes are sound, says Postgres itself.
    """
    session = await asyncpg.connect(stage.database_url)
    await session.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
    await session.execute("CREATE TABLE small (text text)")
    count = "SELECT count(*) FROM notes"

    async with striking(FullDisk(), stage.field):
        before = await session.fetchval(count)
        with pytest.raises(asyncpg.PostgresError, match="could not extend file"):
            await session.execute(
                "INSERT INTO notes (text) SELECT repeat('x', 2000) "
                "FROM generate_series(1, 3000)"
            )
        assert await session.fetchval(count) == before
        # However small a table is, it has room for what its last page takes.
        with pytest.raises(asyncpg.PostgresError, match="could not extend file"):
            await session.execute(
                "INSERT INTO small SELECT repeat('x', 100) FROM generate_series(1, 1000)"
            )
        await session.execute(
            "DELETE FROM notes WHERE id = (SELECT max(id) FROM notes)"
        )
        assert await session.fetchval(count) == max(0, before - 1)

    assert isinstance(await stage.get("/fill"), int)
    assert await session.fetch("SELECT * FROM verify_heapam('notes')") == []
    await session.execute("SELECT bt_index_check('notes_pkey', true)")
    await session.execute("DROP TABLE small")
    await session.close()


def test_remote_service_can_be_disturbed_in_part(stage: Stage) -> None:
    """Of a service that somebody else runs, each fault says whether it reaches it."""
    remote = Field(
        service_url="http://10.0.0.1",
        database_url=stage.database_url,
        redis_url=stage.redis_url,
        service_proxy=stage.service_proxy,
    )

    able = [name for name, make in FAULTS.items() if make().lacks(remote) is None]

    assert able == [
        *("cancelled-requests", "dropped-sockets", "terminate-backends"),
        *("full-pool", "full-postgres", "redis-client-kill", "redis-pause"),
        *("slow-network", "narrow-network", "reset-connections", "half-open"),
    ]


@pytest.mark.parametrize("name", ["terminate-backends", "full-pool"])
async def test_role_without_rights_is_told(stage: Stage, name: str) -> None:
    """A fault that Postgres refuses says what it needs, and leaves nothing."""
    session = await asyncpg.connect(stage.database_url)
    await session.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
    port = urlsplit(stage.database_url).port
    url = f"postgresql://plain:plain@127.0.0.1:{port}/postgres"
    fault = FAULTS[name]()
    try:
        with pytest.raises(TargetError, match=r"permission denied.* as a superuser"):
            async with striking(fault, replace(stage.field, database_url=url)):
                pytest.fail("the block ran")
        assert await stage.answers()
    finally:
        await session.execute("DROP ROLE plain")
        await session.close()


@pytest.mark.parametrize(
    ("name", "server"),
    [("terminate-backends", "Postgres"), ("redis-client-kill", "Redis")],
)
async def test_server_that_is_down_is_told(
    stage: Stage, name: str, server: str
) -> None:
    """Nobody answers: that is no finding about the service."""
    down = Field(
        database_url="postgresql://a@127.0.0.1:1/b", redis_url="redis://127.0.0.1:1"
    )

    with pytest.raises(TargetError, match=f"{server} refuses a fault"):
        await FAULTS[name]().strike(down)

    assert await stage.answers()


async def test_sockets_that_come_back_are_dropped_again(stage: Stage) -> None:
    """A WebSocket that opens during the fault is cut as well; one after it is not."""
    url = stage.service_proxy.url.replace("http", "ws") + "/socket"
    fault = DroppedSockets(every_s=0.05)

    async with striking(fault, stage.field):
        for _ in range(2):
            with pytest.raises(
                (websockets.InvalidMessage, websockets.ConnectionClosed, OSError)
            ):
                async with websockets.connect(url) as socket, asyncio.timeout(10):
                    await socket.recv()
    async with websockets.connect(url) as socket:
        await asyncio.sleep(0.2)
        await socket.send("hello")

        assert await socket.recv() == "hello"
    assert fault.dropped >= 2


async def test_faults_at_one_place_heal_one_by_one(stage: Stage) -> None:
    """A network that is slow and parted is slow still when the partition heals."""
    slow = answer_takes(at_least_s=0.1, payload=1)

    async with striking(SlowNetwork(), stage.field):
        async with striking(Partition(), stage.field):
            wire = await stage.redis()
            assert await wire.hear(1, limit_s=0.3) == "silence"
            wire.close()
        assert await (await slow(stage))()

    assert not await (await slow(stage))()
