"""Certificates are exchanged under a hundred clients: no handshake fails for it."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from app.llm import HttpPool
from app.main import create_app
from app.security import CertificateError, Certificates, ResumingContext
from app.serve import TlsServer
from app.settings import Settings
from tests.integration.security.certificates_twins import InPlace
from tests.integration.security.certs import HOST, Authority, Files

pytestmark = [pytest.mark.integration, pytest.mark.slow]
CLIENTS = 100
ROTATIONS = 6


@dataclass
class Seen:
    """What clients saw.

    Attributes:
        numbers: The certificates that were shown, by number.
        failed: Handshakes that failed, by what was wrong.
        resumed: Handshakes that resumed a session (count).
    """

    numbers: list[int] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    resumed: int = 0


@dataclass(frozen=True)
class Listener:
    """A server that says one byte to whoever has shaken hands."""

    authority: Authority
    port: int

    def client(self) -> ssl.SSLContext:
        """Return a context that knows the authority and no session."""
        return ssl.create_default_context(cadata=self.authority.pem)

    def resuming(self) -> ResumingContext:
        """Return a context that knows the authority and resumes sessions."""
        context = ResumingContext()
        context.load_verify_locations(cadata=self.authority.pem)
        return context

    async def shake(self, context: ssl.SSLContext, seen: Seen) -> None:
        """Shake hands once and read what the server says."""
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=context, server_hostname=HOST
            )
        except (OSError, EOFError) as exc:
            seen.failed.append(str(exc))
            return
        try:
            assert await reader.read(1) == b"x"
            tls = writer.get_extra_info("ssl_object")
            seen.numbers.append(int(tls.getpeercert()["serialNumber"], 16))
            seen.resumed += bool(tls.session_reused)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def listening(
    authority: Authority, certificates: Certificates
) -> AsyncIterator[Listener]:
    """Listen with certificates that are watched."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(b"x")
            await writer.drain()
            await reader.read(1)
        writer.close()

    server = await asyncio.start_server(
        greet, "127.0.0.1", 0, ssl=certificates.listening, backlog=2 * CLIENTS
    )
    certificates.start()
    try:
        yield Listener(authority, server.sockets[0].getsockname()[1])
    finally:
        await certificates.close()
        server.close()


async def rotate(authority: Authority, files: Files, certificates: Certificates) -> int:
    """Write new pairs, the key after a while, each until it is shown; return the last.

    A watch of the files sees many a half-written pair.
    """
    for _ in range(ROTATIONS):
        certificate, key = authority.issue()
        was = certificates.loaded
        files.certificate.write_bytes(certificate[: len(certificate) // 2])
        await asyncio.sleep(0.01)
        files.certificate.write_bytes(certificate)
        await asyncio.sleep(0.02)
        files.key.write_bytes(key)
        while certificates.loaded == was:  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0.005)
    return authority.issued


async def test_no_handshake_fails_for_a_rotation(tmp_path: Path) -> None:
    """A hundred clients in a loop, six rotations: whole pairs, and soon the new one."""
    authority = Authority()
    files = Files.within(tmp_path, authority.issue())
    certificates = Certificates(files.certificate, files.key, check_s=0.005)
    seen, last = Seen(), Seen()
    async with listening(authority, certificates) as listener, asyncio.timeout(60):
        context = listener.client()
        rotating = asyncio.create_task(rotate(authority, files, certificates))

        async def knock() -> None:
            while not rotating.done():
                await listener.shake(context, seen)

        await asyncio.gather(rotating, *(knock() for _ in range(CLIENTS)))
        await listener.shake(context, last)

    assert seen.failed == []
    assert len(set(seen.numbers)) > ROTATIONS / 2
    assert last.numbers == [authority.issued]


@pytest.mark.power
async def test_loading_into_the_context_in_use_is_caught(tmp_path: Path) -> None:
    """A twin that loads the files into the live context fails handshakes meanwhile."""
    authority = Authority()
    files = Files.within(tmp_path, authority.issue())
    certificates = InPlace(files.certificate, files.key)
    seen = Seen()
    async with listening(authority, certificates) as listener:
        context = listener.client()
        await listener.shake(context, seen)
        certificate, key = authority.issue()
        files.certificate.write_bytes(certificate)
        with contextlib.suppress(ssl.SSLError):
            certificates.reload()
        await listener.shake(context, seen)
        files.key.write_bytes(key)
        certificates.reload()
        await listener.shake(context, seen)

    assert len(seen.failed) == 1
    assert seen.numbers == [1, 2]


Pair = tuple[bytes, bytes]


def bad_pairs(good: Pair, new: Pair) -> dict[str, Pair]:
    """Return what must not be shown, by name."""
    return {
        "half a certificate": (new[0][: len(new[0]) // 2], new[1]),
        "half a key": (new[0], new[1][: len(new[1]) // 2]),
        "key of the old one": (new[0], good[1]),
        "certificate of the old one": (good[0], new[1]),
        "nothing": (b"", b""),
        "no PEM": (b"\x00" * 99, b"\x00" * 99),
        "the other way round": (new[1], new[0]),
    }


@pytest.mark.parametrize("kind", bad_pairs((b"", b""), (b"", b"")))
async def test_bad_pair_is_refused_and_the_old_one_stays(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no certificate and its key is told once, in a sentence, and not shown."""
    authority = Authority()
    good = authority.issue()
    files = Files.within(tmp_path, good)
    certificates = Certificates(files.certificate, files.key)
    seen = Seen()
    async with listening(authority, certificates) as listener:
        new = authority.issue()
        files.write(bad_pairs(good, new)[kind])

        with caplog.at_level(logging.WARNING, "app.security"):
            assert not certificates.reload()
            assert not certificates.reload()

        await listener.shake(listener.client(), seen)
        files.write(new)
        assert certificates.reload()
        await listener.shake(listener.client(), seen)

    assert [record.getMessage() for record in caplog.records] == ["certificate.refused"]
    assert seen.numbers == [1, 2]


async def test_pair_that_is_not_valid_now_is_refused(tmp_path: Path) -> None:
    """An expired certificate takes no valid one's place, nor does a file that is gone."""
    authority = Authority()
    files = Files.within(tmp_path, authority.issue())
    certificates = Certificates(files.certificate, files.key)

    files.write(authority.issue(ends_in=timedelta(days=-1)))
    assert not certificates.reload()
    with pytest.raises(CertificateError, match="Renew it"):
        Certificates(files.certificate, files.key)
    files.key.unlink()
    assert not certificates.reload()
    with pytest.raises(CertificateError, match=r"tls\.key cannot be read"):
        Certificates(files.certificate, files.key)
    files.write(authority.issue())
    assert certificates.reload()


def test_pair_that_changes_while_it_is_read_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What OpenSSL has read may be another pair than was judged: it is read again."""
    authority = Authority()
    files = Files.within(tmp_path, authority.issue())
    certificates = Certificates(files.certificate, files.key)
    load = certificates._load

    def load_and_change(pair: tuple[bytes, bytes]) -> ssl.SSLContext:
        context = load(pair)
        monkeypatch.undo()
        files.write(authority.issue())
        return context

    files.write(authority.issue())
    monkeypatch.setattr(certificates, "_load", load_and_change)

    assert not certificates.reload()
    assert certificates.reload()
    assert not certificates.reload()


async def test_sessions_are_resumed_across_a_rotation(tmp_path: Path) -> None:
    """A client that was there before goes on with its session, others see the new pair."""
    authority = Authority()
    files = Files.within(tmp_path, authority.issue())
    certificates = Certificates(files.certificate, files.key)
    known, new = Seen(), Seen()
    async with listening(authority, certificates) as listener:
        context = listener.resuming()
        await listener.shake(context, known)
        files.write(authority.issue())
        assert certificates.reload()

        for _ in range(10):
            await listener.shake(context, known)
        await listener.shake(listener.client(), new)
        context.forget()
        await listener.shake(context, known)

    assert known.resumed == 10
    assert known.numbers == [*[1] * 11, 2]
    assert (new.numbers, new.resumed) == ([2], 0)


async def test_sessions_belong_to_one_client_and_host(tmp_path: Path) -> None:
    """Another context, which is another tenant's, and another name begin anew."""
    authority = Authority()
    files = Files.within(tmp_path, authority.issue())
    certificates = Certificates(files.certificate, files.key)
    seen = Seen()
    async with listening(authority, certificates) as listener:
        ada, bob = listener.resuming(), listener.resuming()
        await listener.shake(ada, seen)
        await listener.shake(bob, seen)
        assert seen.resumed == 0
        await listener.shake(ada, seen)
        assert (seen.resumed, ada.offered, bob.offered) == (1, 1, 0)
        # Each session is used once: of two connections at one time one begins anew.
        bios = ssl.MemoryBIO(), ssl.MemoryBIO()
        at_once = [bob.wrap_bio(*bios, server_hostname=HOST) for _ in range(2)]
        assert [tls.session is None for tls in at_once] == [False, True]

        # A new client certificate is another client.
        ada.load_cert_chain(files.certificate, files.key)
        await listener.shake(ada, seen)
        assert (seen.resumed, ada.offered) == (1, 1)
        ada.check_hostname = False
        elsewhere = ada.wrap_bio(
            ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="elsewhere.invalid"
        )
        assert elsewhere.session is None
        assert ada.offered == 1


async def test_requests_to_a_provider_resume_sessions(tmp_path: Path) -> None:
    """The pool of the model's connections resumes, however its connections come and go."""
    authority = Authority()
    files = Files.within(tmp_path, authority.issue())
    certificates = Certificates(files.certificate, files.key)
    resumed = []

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        resumed.append(writer.get_extra_info("ssl_object").session_reused)
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(
        answer, "127.0.0.1", 0, ssl=certificates.listening
    )
    port = server.sockets[0].getsockname()[1]
    context = Listener(authority, port).resuming()
    pool = HttpPool(connections=2, tls=context)
    for _ in range(3):
        assert await pool.fetch(f"https://{HOST}:{port}/v1", {}, headers={}) == b"{}"
    await pool.aclose()
    server.close()

    assert resumed == [False, True, True]


async def test_service_exchanges_its_certificate(
    settings: Settings, tmp_path: Path
) -> None:
    """The service itself, behind its own entry: served on, with the new certificate."""
    authority = Authority()
    files = Files.within(tmp_path, authority.issue())
    certificates = Certificates(files.certificate, files.key, check_s=3_600)
    server = TlsServer(create_app(settings), certificates, host="127.0.0.1", port=0)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
        assert not serving.done()
    listener = Listener(authority, server.servers[0].sockets[0].getsockname()[1])
    url = f"https://{HOST}:{listener.port}/health/live"
    try:
        async with httpx.AsyncClient(
            verify=listener.client(), trust_env=False, timeout=20
        ) as kept:
            assert (await kept.get(url)).status_code == 200
            files.write(authority.issue())
            certificates.look()
            async with asyncio.timeout(20):
                while certificates.loaded < 2:  # noqa: ASYNC110  # nobody tells of it
                    await asyncio.sleep(0.01)
            # A connection from before is served on.
            assert (await kept.get(url)).status_code == 200
        async with (
            httpx.AsyncClient(
                verify=listener.client(), trust_env=False, timeout=20
            ) as fresh,
            fresh.stream("GET", url) as answer,
        ):
            tls = answer.extensions["network_stream"].get_extra_info("ssl_object")
            assert int(tls.getpeercert()["serialNumber"], 16) == 2
    finally:
        server.should_exit = True
        await serving
