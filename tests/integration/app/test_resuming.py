"""Devices that come back are sent what they missed, and nothing twice.

A hundred users have two devices, one on each of two workers. While events are appended
on both, all devices of one worker are cut off at one instant, and come back to the other.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import select
from dataclasses import dataclass, field

import pytest
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from app.api import Parts, wire
from app.api import websocket as endpoint
from app.realtime import EventLog
from app.settings import Settings
from tests.integration.app import resuming_twins as twins
from tests.integration.app.crowd import Guest, guests
from tests.integration.app.service import Replace, Service, serving

pytestmark = [pytest.mark.integration, pytest.mark.slow]
USERS = 100
EACH = 12


@dataclass
class Device:
    """A client that is cut off once, and resumes from the last number it saw."""

    guest: Guest
    workers: tuple[Service, Service]
    numbers: list[int] = field(default_factory=list)
    gaps: int = 0
    connection: ClientConnection | None = None
    is_ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self) -> None:
        """Collect until every event has come, over one worker and then the other."""
        for worker in self.workers:
            after = self.numbers[-1] if self.numbers else 0
            async with self.guest.socket(worker, f"?after={after}") as connection:
                self.connection = connection
                with contextlib.suppress(ConnectionClosed):
                    if await self._collect(connection):
                        return

    def cut(self) -> None:
        """Drop the connection without a word."""
        assert self.connection is not None
        self.connection.transport.abort()

    async def _collect(self, connection: ClientConnection) -> bool:
        async for text in connection:
            frame = json.loads(text)
            self.gaps += frame["type"] == "gap"
            if "seq" in frame:
                self.numbers.append(frame["seq"])
            else:
                self.is_ready.set()
            if len(self.numbers) >= 2 * EACH:
                return True
        return False


async def _append(log: EventLog, user_id: str) -> None:
    for _ in range(EACH):
        await log.append(user_id, "x", run_id="r", thread_id="t", data={})


async def _come_back(
    settings: Settings, replace: Replace | None = None
) -> list[Device]:
    """Cut half of all devices off in the middle of everything, and let them resume."""
    async with (
        serving(settings, replace=replace) as first,
        serving(settings, replace=replace) as second,
    ):
        devices = [
            Device(guest, workers)
            for guest in await guests(first, USERS)
            for workers in ((first, second), (second, first))
        ]
        watching = [asyncio.create_task(device.watch()) for device in devices]
        await asyncio.gather(*(device.is_ready.wait() for device in devices))
        appending = [
            asyncio.create_task(_append(service.parts.events, device.guest.user_id))
            for device in devices[::2]
            for service in (first, second)
        ]
        async with asyncio.timeout(30):
            while not all(device.numbers for device in devices[::2]):  # noqa: ASYNC110  # lists have no event
                await asyncio.sleep(0.01)
        for device in devices[::2]:
            device.cut()
        await asyncio.gather(*appending)
        _, late = await asyncio.wait(watching, timeout=60 if replace is None else 4)
        for task in late:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    return devices


def _assert_whole(devices: list[Device]) -> None:
    for device in devices:
        numbers = device.numbers
        assert len(numbers) == len(set(numbers)), f"twice: {numbers}"
        assert len(numbers) == 2 * EACH, f"{len(numbers)} of {2 * EACH}"
        assert all(b == a + 1 for a, b in itertools.pairwise(numbers)), numbers
        assert not device.gaps


async def test_devices_that_come_back_miss_nothing(settings: Settings) -> None:
    """Each of two hundred devices gets every event of its user, once and in order."""
    _assert_whole(await _come_back(settings))


@pytest.mark.long
@pytest.mark.power
@pytest.mark.parametrize(
    ("log", "words"),
    [(twins.InclusiveLog, "twice"), (twins.SharedCursorLog, f"of {2 * EACH}")],
)
async def test_careless_log_is_caught(
    settings: Settings, log: type[EventLog], words: str
) -> None:
    """A log that repeats, and one that takes two devices for one, are seen."""

    def replace(parts: Parts) -> Parts:
        return dataclasses.replace(parts, events=log(parts.redis))

    with pytest.raises(AssertionError, match=words):
        _assert_whole(await _come_back(settings, replace))


@pytest.mark.long
@pytest.mark.power
async def test_forgotten_cursor_is_caught(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that begins with what comes next loses what a device missed."""
    monkeypatch.setattr(endpoint, "_find_cursor", twins.from_the_end)

    with pytest.raises(AssertionError, match=f"of {2 * EACH}"):
        _assert_whole(await _come_back(settings, lambda parts: parts))


# -- clients that never read -----------------------------------------------------------


async def _is_broken_off(settings: Settings, *, within_s: float) -> bool:
    """Open a socket, read nothing of 24 MB, and return whether it is hung up on."""
    async with serving(settings) as service:
        (ada,) = await guests(service, 1)
        async with contextlib.AsyncExitStack() as stack:
            connection = await stack.enter_async_context(ada.socket(service))
            await connection.recv()
            sock = connection.transport.get_extra_info("socket")
            connection.transport.pause_reading()
            poller = select.poll()
            poller.register(sock.fileno(), select.POLLHUP | select.POLLERR)
            large = {"x": "x" * 60_000}
            for _ in range(400):
                await service.parts.events.append(
                    ada.user_id, "x", run_id="r", thread_id="t", data=large
                )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    while not poller.poll(0):  # noqa: ASYNC110  # the kernel has no event
                        await asyncio.sleep(0.02)
            is_broken = bool(poller.poll(0))
            connection.transport.abort()
    return is_broken


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "SEND_WITHIN_S", 0.2)
    monkeypatch.setattr(endpoint, "CLOSE_WITHIN_S", 0.1)
    monkeypatch.setattr(wire, "GO_AWAY_S", 0.2)


@pytest.mark.usefixtures("_impatient")
async def test_client_that_never_reads_is_broken_off(settings: Settings) -> None:
    """Its connection goes away with all its buffers, though it takes no close frame."""
    assert await _is_broken_off(settings, within_s=20)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.long
@pytest.mark.power
async def test_connection_kept_for_a_client_that_never_reads_is_caught(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's own protocol waits for the client for ever, which is seen."""
    monkeypatch.setattr(
        "tests.integration.app.service.BoundedWebSocket", WebSocketsSansIOProtocol
    )

    assert not await _is_broken_off(settings, within_s=2)
