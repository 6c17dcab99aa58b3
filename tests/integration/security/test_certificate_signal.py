"""SIGHUP to a process that serves TLS, while fifty clients shake hands all the time."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.settings import Settings
from tests.integration.security.certs import HOST, Authority, Files

pytestmark = [pytest.mark.integration, pytest.mark.slow]
CLIENTS = 50
LONGEST_S = 60.0
ROOT = Path(__file__).parents[3]


@dataclass
class _House:
    """A process that serves, and clients at its door.

    Attributes:
        shown: The certificates that were shown, by number, each with the round in
            which its handshake began.
        round: Goes up when it matters what began before and what after.
        failed: Handshakes that failed, by what was wrong.
        log: The events of the process's log.
    """

    process: asyncio.subprocess.Process
    port: int
    context: ssl.SSLContext
    shown: list[tuple[int, int]] = field(default_factory=list)
    round: int = 0
    failed: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    async def knock(self) -> None:
        """Shake hands again and again, each time to the first line of an answer."""
        while True:
            begun_in = self.round
            try:
                async with asyncio.timeout(LONGEST_S):
                    number = await self._shake()
            except (OSError, EOFError) as exc:
                self.failed.append(repr(exc))
                continue
            self.shown.append((begun_in, number))

    async def _shake(self) -> int:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.context, server_hostname=HOST
        )
        try:
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 ")
            shown = writer.get_extra_info("ssl_object").getpeercert()
            return int(shown["serialNumber"], 16)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def listen(self) -> None:
        """Take in the process's log."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            with contextlib.suppress(ValueError):
                self.log.append(json.loads(line)["event"])

    async def hang_up(self, event: str) -> None:
        """Send SIGHUP, and wait until the log tells what came of it."""
        expected = self.log.count(event) + 1
        self.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(LONGEST_S):
            while self.log.count(event) < expected:
                self.assert_served()
                await asyncio.sleep(0.01)

    async def all_come(self) -> set[int]:
        """Let as many come from now on as there are clients; return what they saw."""
        self.round += 1
        async with asyncio.timeout(LONGEST_S):
            while len(seen := [n for r, n in self.shown if r == self.round]) < CLIENTS:
                self.assert_served()
                await asyncio.sleep(0.01)
        return set(seen)

    def assert_served(self) -> None:
        """Check that the process runs and has turned nobody away."""
        assert self.process.returncode is None, "the process has ended"
        assert not self.failed, f"{len(self.failed)} failed: {self.failed[0]}"


@contextlib.asynccontextmanager
async def _serving(
    authority: Authority,
    words: list[str],
    *,
    port: int = 0,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[_House]:
    """Run a process, and clients that shake hands with it all the time.

    Args:
        authority: Whom the clients trust.
        words: What comes after ``python -m``.
        port: Where it listens; 0 when its first line says so.
        environment: Variables that are added to ours.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *words,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=asyncio.subprocess.PIPE,
    )
    tasks: list[asyncio.Task[None]] = []
    try:
        assert process.stdout is not None
        async with asyncio.timeout(LONGEST_S):
            port = port or int(await process.stdout.readline())
            while not await _is_open(port):
                assert process.returncode is None, "the process did not start"
                await asyncio.sleep(0.05)
        context = ssl.create_default_context(cadata=authority.pem)
        house = _House(process, port, context)
        tasks = [asyncio.create_task(house.listen())]
        tasks += [asyncio.create_task(house.knock()) for _ in range(CLIENTS)]
        yield house
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def _is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _exchange(
    house: _House, authority: Authority, files: Files, *, times: int = 1
) -> None:
    """Exchange the pair in steps, with a signal after each; judge what clients saw."""
    await house.all_come()
    for _ in range(times):
        old = authority.issued
        certificate, key = authority.issue()
        files.certificate.write_bytes(certificate[: len(certificate) // 2])
        await house.hang_up("certificate.refused")
        files.certificate.write_bytes(certificate)
        await house.hang_up("certificate.refused")
        assert await house.all_come() == {old}

        files.key.write_bytes(key)
        await house.hang_up("certificate.loaded")
        assert await house.all_come() == {authority.issued}
    house.assert_served()


def _words(kind: str, files: Files) -> list[str]:
    module = "tests.integration.security.tls_process"
    return [module, kind, str(files.certificate), str(files.key)]


async def test_no_handshake_fails_for_a_signal(tmp_path: Path) -> None:
    """Half a pair is refused and logged, a whole one is shown, and nobody is dropped."""
    authority = Authority()
    files = Files.within(tmp_path, authority.issue())

    async with _serving(authority, _words("sound", files)) as house:
        await _exchange(house, authority, files)

    assert house.log == [*2 * ["certificate.refused"], "certificate.loaded"]


@pytest.mark.long
@pytest.mark.power
@pytest.mark.parametrize("kind", ["restarts", "halves"])
async def test_signal_that_drops_handshakes_is_caught(
    tmp_path: Path, kind: str
) -> None:
    """A listener that restarts, and one that shows half a pair, turn clients away."""
    authority = Authority()
    files = Files.within(tmp_path, authority.issue())

    async with _serving(authority, _words(kind, files)) as house:
        with pytest.raises(AssertionError, match="failed: "):
            await _exchange(house, authority, files)


@pytest.mark.long
async def test_service_is_told_by_a_signal(settings: Settings, tmp_path: Path) -> None:
    """``python -m app.serve`` itself, with the whole service behind it."""
    authority = Authority()
    files = Files.within(tmp_path, authority.issue())
    environment = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "SIGNING_KEYS": settings.signing_keys.get_secret_value(),
        "LEADER_ELECTION": "none",
        "TLS_CERTIFICATE_FILE": str(files.certificate),
        "TLS_KEY_FILE": str(files.key),
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    async with _serving(
        authority,
        ["app.serve", "--port", str(port)],
        port=port,
        environment=environment,
    ) as house:
        await _exchange(house, authority, files, times=5)
