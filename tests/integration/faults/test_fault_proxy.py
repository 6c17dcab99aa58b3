"""The proxy passes on what it gets, and makes the network bad when it is told to."""

import asyncio
import contextlib
import errno
import gc
import os
import random
import resource
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from test_framework.core import UsageError
from test_framework.faults import Link, Proxy, proxying

pytestmark = [pytest.mark.integration]

LIMIT_S = 20.0


class Echo:
    """A server that sends back what it gets, and its end after the client's."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.endings: list[str] = []
        self.url = ""
        self.writers: list[asyncio.StreamWriter] = []
        self.changed = asyncio.Event()

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer one connection."""
        self.writers.append(writer)
        self.changed.set()
        got = b""
        ending = "end"
        try:
            while part := await reader.read(65536):
                got += part
                writer.write(part)
                await writer.drain()
            writer.write(b"|bye")
        except ConnectionResetError:
            ending = "reset"
        finally:
            self.received.append(got)
            self.endings.append(ending)
            self.changed.set()
            writer.close()

    async def wait(self, connections: int) -> None:
        """Wait until so many connections have ended."""
        async with asyncio.timeout(LIMIT_S):
            while len(self.endings) < connections:
                self.changed.clear()
                await self.changed.wait()

    async def wait_open(self, connections: int) -> None:
        """Wait until so many connections were accepted."""
        async with asyncio.timeout(LIMIT_S):
            while len(self.writers) < connections:
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def echoing() -> AsyncIterator[Echo]:
    """Yield a running echo server."""
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0, backlog=4096)
    echo.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield echo
    finally:
        server.close()
        for writer in echo.writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    """A running echo server."""
    async with echoing() as running:
        yield running


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    """A proxy in front of it."""
    with proxying(echo.url) as running:
        yield running


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to where a URL leads."""
    port = int(url.rpartition(":")[2])
    return await asyncio.open_connection("127.0.0.1", port)


async def ask(url: str, *parts: bytes) -> bytes:
    """Send parts, end the sending, and return all that comes back."""
    async with asyncio.timeout(LIMIT_S):
        reader, writer = await connect(url)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            writer.write_eof()
            return await reader.read(-1)
        finally:
            writer.close()


async def ended(reader: asyncio.StreamReader) -> str:
    """Return how a stream ends; read it to there."""
    async with asyncio.timeout(LIMIT_S):
        try:
            await reader.read(-1)
        except ConnectionResetError:
            return "reset"
        return "end"


async def hears_nothing(reader: asyncio.StreamReader) -> bool:
    """Whether for a moment neither bytes nor an end come."""
    try:
        async with asyncio.timeout(0.1):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


def held() -> tuple[int, int]:
    """Return how many files and threads this process has."""
    return len(list(Path("/dev/fd").iterdir())), threading.active_count()


LINKS = st.sampled_from(
    [
        Link(),
        Link(latency_s=0.001, jitter_s=0.002),
        Link(bytes_per_s=5e7),
        Link(slow_close_s=0.002),
    ]
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    parts=st.lists(st.binary(max_size=2000) | st.just(os.urandom(300_000)), max_size=5),
    up=LINKS,
    down=LINKS,
    switch=st.booleans(),
)
def test_bytes_through_proxy_are_those_without(
    parts: list[bytes],
    up: Link,
    down: Link,
    switch: bool,  # noqa: FBT001  # drawn
) -> None:
    """Both peers get the same bytes in the same order, and the end of each half.

    Whatever the links delay, also when they change while bytes are under way.
    """

    async def compare() -> None:
        async with echoing() as echo:
            with proxying(echo.url) as proxy:
                proxy.set(up=up, down=down)
                direct = await ask(echo.url, *parts)
                asking = asyncio.ensure_future(ask(proxy.url, *parts))
                if switch:
                    await asyncio.sleep(0)
                    proxy.set(up=down, down=up)
                through = await asking
                await echo.wait(2)

                assert through == direct == b"".join(parts) + b"|bye"
                assert echo.received[0] == echo.received[1]
                assert echo.endings == ["end", "end"]
                counts = proxy.counts()
                sent = sum(map(len, parts))
                assert (counts.bytes_up, counts.bytes_down) == (sent, sent + 4)

    asyncio.run(compare())


async def test_half_closed_connection_goes_on(echo: Echo, proxy: Proxy) -> None:
    """A client that has ended its half still gets what the server sends."""
    reader, writer = await connect(proxy.url)
    writer.write_eof()

    async with asyncio.timeout(LIMIT_S):
        assert await reader.read(-1) == b"|bye"

    writer.close()
    assert echo.received == [b""]


async def test_slow_reader_slows_the_sender(proxy: Proxy) -> None:
    """What nobody reads does not pile up in the proxy."""
    reader, writer = await connect(proxy.url)
    writer.write(bytes(64 * 2**20))
    # The echo comes back to a client that does not read: everything fills up.
    counts = proxy.counts()
    async with asyncio.timeout(LIMIT_S):
        while True:
            await asyncio.sleep(0.1)
            if proxy.counts() == counts:
                break
            counts = proxy.counts()

    (seen,) = proxy.connections()
    assert seen.bytes_up < 48 * 2**20
    writer.transport.abort()
    reader.feed_eof()


async def test_reset_by_a_peer_is_one_for_the_other(echo: Echo, proxy: Proxy) -> None:
    """A client that resets its connection is seen to do so by the server."""
    _, writer = await connect(proxy.url)
    writer.write(b"x")
    await echo.wait_open(1)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()

    await echo.wait(1)

    assert echo.endings == ["reset"]


async def test_unreachable_server_resets_the_client() -> None:
    """Nobody listens behind the proxy: the client is not left waiting."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{place.getsockname()[1]}"
        with proxying(url) as proxy:
            # The reset may come before connecting has returned, or ends the sending.
            cut = (errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE)
            with pytest.raises(OSError, check=lambda exc: exc.errno in cut):
                await ask(proxy.url)

            assert proxy.counts().open == 0


async def test_reset_cuts_both_sides(echo: Echo, proxy: Proxy) -> None:
    """Client and server see a reset, and only the chosen connections do."""
    spared, kept = await connect(proxy.url)
    kept.write(b"keep me")
    reader, writer = await connect(proxy.url)
    writer.write(b"x")
    async with asyncio.timeout(LIMIT_S):
        assert await spared.read(7) == b"keep me"
        assert await reader.read(1) == b"x"

    assert proxy.reset(lambda seen: seen.head == b"x") == 1

    assert await ended(reader) == "reset"
    await echo.wait(1)
    assert echo.endings == ["reset"]
    kept.write(b"!")
    async with asyncio.timeout(LIMIT_S):
        assert await spared.read(1) == b"!"
    kept.close()
    writer.close()


async def test_close_ends_both_sides_in_order(echo: Echo, proxy: Proxy) -> None:
    """Closing is an end of the stream for both, and no reset."""
    reader, writer = await connect(proxy.url)
    writer.write(b"x")
    await reader.read(1)

    assert proxy.close() == 1

    assert await ended(reader) == "end"
    await echo.wait(1)
    assert echo.endings == ["end"]
    writer.close()


async def test_refused_clients_come_in_again(echo: Echo, proxy: Proxy) -> None:
    """Who is connected stays, who comes is refused, until it accepts again."""
    reader, writer = await connect(proxy.url)
    await echo.wait_open(1)
    proxy.refuse()
    proxy.refuse()

    with pytest.raises(ConnectionRefusedError):
        await connect(proxy.url)
    writer.write(b"x")
    assert await reader.read(1) == b"x"
    proxy.accept()
    proxy.accept()

    assert await ask(proxy.url, b"y") == b"y|bye"
    writer.close()


async def test_black_hole_keeps_what_it_swallows(echo: Echo, proxy: Proxy) -> None:
    """Nothing comes out, neither bytes nor an end; afterwards all of it does."""
    reader, writer = await connect(proxy.url)
    await echo.wait_open(1)
    hole = Link(is_black_hole=True)
    proxy.set(up=hole, down=hole)
    writer.write(b"lost and found")
    writer.write_eof()
    late, later = await connect(proxy.url)
    later.write(b"late")

    assert await hears_nothing(reader)
    assert len(echo.writers) == 1
    assert echo.endings == []
    proxy.clear()

    async with asyncio.timeout(LIMIT_S):
        assert await reader.read(-1) == b"lost and found|bye"
        assert await late.read(4) == b"late"
    writer.close()
    later.close()


@pytest.mark.parametrize("lost", ["up", "down"])
async def test_one_way_hole_passes_the_other(
    echo: Echo, proxy: Proxy, lost: str
) -> None:
    """Of a hole up the server hears nothing; of a hole down it does, and the client not."""
    reader, writer = await connect(proxy.url)
    await echo.wait_open(1)
    hole = Link(is_black_hole=True)
    proxy.set(**{lost: hole})
    writer.write(b"x")
    writer.write_eof()

    if lost == "down":
        await echo.wait(1)
    assert await hears_nothing(reader)
    assert echo.received == ([b"x"] if lost == "down" else [])
    proxy.clear()

    async with asyncio.timeout(LIMIT_S):
        assert await reader.read(-1) == b"x|bye"
    writer.close()


@pytest.mark.parametrize("gone", ["server", "client"])
async def test_stranded_peer_hears_nothing(echo: Echo, proxy: Proxy, gone: str) -> None:
    """One side is cut, the other waits for nobody until it is released."""
    reader, writer = await connect(proxy.url)
    writer.write(b"x")
    assert await reader.read(1) == b"x"

    assert proxy.strand(gone="server" if gone == "server" else "client") == 1

    if gone == "server":
        await echo.wait(1)
        writer.write(b"anybody there?")
        assert await hears_nothing(reader)
    else:
        assert await ended(reader) == "reset"
        assert echo.endings == []
    assert await ask(proxy.url, b"new") == b"new|bye"
    assert proxy.release() == 1
    if gone == "server":
        assert await ended(reader) == "reset"
    await echo.wait(2)
    assert sorted(echo.endings) == ["end", "reset"]
    writer.close()


async def test_latency_delays_and_rate_limits(proxy: Proxy) -> None:
    """A round trip takes the latency twice, bytes as long as the rate says."""
    loop = asyncio.get_running_loop()
    proxy.set(up=Link(latency_s=0.1), down=Link(latency_s=0.1))
    started = loop.time()
    assert await ask(proxy.url, b"x") == b"x|bye"
    slow_s = loop.time() - started
    proxy.set(up=Link(bytes_per_s=100_000), down=Link())
    started = loop.time()
    assert len(await ask(proxy.url, bytes(20_000))) == 20_004
    narrow_s = loop.time() - started

    # Lower bounds only: a busy machine is later, never sooner.
    assert slow_s >= 0.2
    assert narrow_s >= 0.2


@pytest.mark.parametrize("count", [0, 1, 1000])
async def test_connection_is_cut_at_the_byte(
    echo: Echo, proxy: Proxy, count: int
) -> None:
    """The server gets exactly so many bytes, then a reset; each connection anew."""
    proxy.set(up=Link(cut_after_bytes=(count, count)))
    for _ in range(2):
        reader, writer = await connect(proxy.url)
        writer.write(bytes(1500))
        assert await ended(reader) == "reset"
        writer.close()
    await echo.wait(2)

    assert [len(got) for got in echo.received] == [count, count]
    assert echo.endings == ["reset", "reset"]


async def test_cuts_are_drawn_from_the_seed(echo: Echo) -> None:
    """The same seed cuts at the same counts, another one at others."""

    async def cuts(seed: int) -> list[int]:
        echo.received.clear()
        echo.endings.clear()
        with proxying(echo.url, rng=random.Random(seed)) as proxy:
            proxy.set(up=Link(cut_after_bytes=(1, 1000)))
            for number in range(5):
                reader, writer = await connect(proxy.url)
                writer.write(bytes(1500))
                assert await ended(reader) == "reset"
                writer.close()
                await echo.wait(number + 1)
        return [len(got) for got in echo.received]

    assert await cuts(1) == await cuts(1)
    assert await cuts(1) != await cuts(2)


async def test_nothing_is_left_of_a_proxy(echo: Echo) -> None:
    """Its thread and sockets end with the block, whatever its connections do."""
    gc.collect()
    before = held()
    clients = []
    with proxying(echo.url) as proxy:
        for index in range(60):
            reader, writer = await connect(proxy.url)
            clients.append(writer)
            writer.write(bytes(1 if index % 3 else 4 * 2**20))
            if index % 3:
                assert await reader.read(1) == b"\0"
            if index == 20:
                proxy.strand(gone="server")
            if index == 40:
                proxy.set(down=Link(is_black_hole=True, bytes_per_s=10))
                break
        assert proxy.counts().open > 0
    for writer in clients:
        writer.transport.abort()
    for writer in echo.writers:
        writer.transport.abort()
    await echo.wait(len(echo.writers))
    await asyncio.sleep(0)
    gc.collect()

    assert held() == before
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy.url)


async def test_ended_proxy_says_so(echo: Echo) -> None:
    """Who uses it after its block reads what is wrong."""
    with proxying(echo.url) as proxy:
        pass

    with pytest.raises(UsageError, match="has ended"):
        proxy.counts()


@pytest.mark.parametrize("url", ["unix:///run/redis.sock", "nowhere", "http://[::1"])
def test_only_what_tcp_reaches_can_be_proxied(url: str) -> None:
    """The message says what a URL needs."""
    with pytest.raises(UsageError), proxying(url):
        pytest.fail("a proxy stands before nothing")


@pytest.mark.long
async def test_thousands_of_connections_pass(echo: Echo, proxy: Proxy) -> None:
    """Each of 3,000 gets its own bytes back, through changing links, and none is left.

    A limit of 9,000 open files is needed: each connection is six sockets here.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(3000, (limit - 200) // 6)
    gate = asyncio.Event()

    async def talk(number: int) -> None:
        reader, writer = await connect(proxy.url)
        word = b"%08d" % number
        writer.write(word)
        assert await reader.readexactly(8) == word
        await gate.wait()
        writer.write(word)
        assert await reader.readexactly(8) == word
        writer.close()
        await writer.wait_closed()

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(talk(number))
        await echo.wait_open(count)
        assert proxy.counts().open == count
        proxy.set(up=Link(latency_s=0.05, jitter_s=0.1), down=Link(is_black_hole=True))
        gate.set()
        await asyncio.sleep(0.3)
        proxy.clear()
    await echo.wait(count)

    assert proxy.counts().bytes_up == 16 * count
