"""The certificate that the service shows, exchanged while it serves.

Whoever renews certificates writes two files, and not at one instant. So both are read
again every second; a new pair is loaded into a context of its own, and only when it is
whole, fits and is valid does it take the place of the old one. A handshake takes the
context that is there when it begins, and so never sees half of a pair. One that is half
written is refused with a sentence in the log, and the old one stays.

Sessions outlive the exchange: OpenSSL takes the keys of session tickets, and the session
cache, from the context that a server listens with (``session_ctx``), which stays; the
pair comes from the one that the handshake is moved to. A session that is resumed sees no
certificate at all, so who held the old one is believed until the ticket expires
(``SESSION_S``). After the theft of a private key, restart the service.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from app.monitoring import log_event

CHECK_S = 1.0
"""How often the files are read, in seconds."""

SESSION_S = 300
"""How long a session can be resumed, in seconds: OpenSSL's default."""

_log = logging.getLogger("app.security")


class CertificateError(ValueError):
    """Raised when a certificate and its key cannot be used: the operator's fault."""


class Certificates:
    """The certificate and key in two files, as the files are by now.

    Attributes:
        listening: The context to listen with; it stays the same for good.
        loaded: How often a pair was loaded (count).
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        *,
        check_s: float = CHECK_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Load the pair; blocks on the files.

        Args:
            certificate: PEM: the certificate, then those up to the authority's.
            key: PEM: its private key, not encrypted.
            check_s: How often to look whether they have changed.
            now: Tells the date.

        Raises:
            CertificateError: The pair cannot be used.
        """
        self._certificate = certificate
        self._key = key
        self._check_s = check_s
        self._now = now
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._seen = self._read()
        self._current = self._load(self._seen)
        self.loaded = 1
        self.listening = _context()
        self.listening.sni_callback = self._choose

    def reload(self) -> bool:
        """Load the pair if it has changed and can be used; blocks on the files.

        Returns:
            Whether a new pair is shown from now on.
        """
        try:
            found = self._read()
            if found == self._seen:
                return False
            fresh = self._load(found)
            # OpenSSL reads files itself: what it read must be what was judged.
            if self._read() != found:
                return False
        except CertificateError as exc:
            if self._seen != (refused := self._glimpse()):
                self._seen = refused
                log_event(
                    _log,
                    "certificate.refused",
                    level=logging.WARNING,
                    problem=str(exc),
                )
            return False
        self._seen, self._current = found, fresh
        self.loaded += 1
        return True

    def start(self) -> None:
        """Begin to look whether the files have changed."""
        self._task = asyncio.create_task(self._watch(), name="certificates")

    def look(self) -> None:
        """Have the files read now, and not only at the next time."""
        self._wanted.set()

    async def close(self) -> None:
        """Look no more; the pair that was loaded last stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _choose(
        self,
        connection: ssl.SSLSocket | ssl.SSLObject,
        _name: str | None,
        _listening: ssl.SSLContext,
    ) -> None:
        connection.context = self._current

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._check_s):
                    await self._wanted.wait()
            self._wanted.clear()
            # In a thread: the files may be far away.
            if await asyncio.to_thread(self.reload):
                log_event(_log, "certificate.loaded", path=str(self._certificate))

    def _read(self) -> tuple[bytes, bytes]:
        try:
            return self._certificate.read_bytes(), self._key.read_bytes()
        except OSError as exc:
            message = (
                f"{exc.filename} cannot be read: {exc.strerror}. Put the certificate "
                "and its key there, readable by the service."
            )
            raise CertificateError(message) from exc

    def _glimpse(self) -> tuple[bytes, bytes]:
        try:
            return self._read()
        except CertificateError:
            return b"", b""

    def _load(self, pair: tuple[bytes, bytes]) -> ssl.SSLContext:
        context = _context()
        try:
            # The password is never asked for on a terminal.
            context.load_cert_chain(self._certificate, self._key, password=bytes)
            leaf = x509.load_pem_x509_certificates(pair[0])[0]
        except (ssl.SSLError, OSError, ValueError) as exc:
            reason = getattr(exc, "reason", None) or str(exc) or type(exc).__name__
            message = (
                f"{self._certificate} and {self._key} are no certificate and its key "
                f"({reason}). Write both files whole, from one request."
            )
            raise CertificateError(message) from exc
        if not leaf.not_valid_before_utc <= self._now() < leaf.not_valid_after_utc:
            message = (
                f"{self._certificate} is valid from {leaf.not_valid_before_utc} until "
                f"{leaf.not_valid_after_utc}, and not now. Renew it."
            )
            raise CertificateError(message)
        return context


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
