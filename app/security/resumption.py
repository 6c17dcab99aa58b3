"""Outgoing TLS connections that resume sessions: no certificate is sent or checked.

asyncio, uvloop and anyio offer no place for a session, but all of them ask the context
for each connection's object (``wrap_bio``). So the cache lives in the context: it hands a
session to the new object, and takes the next one when the server's first bytes have been
read, behind which its tickets have come.

The cache belongs to one context and so to one client certificate: what was negotiated
as one tenant is never resumed as another. Within a context sessions are kept by host
name, and each is used once (RFC 8446, appendix C.4): nobody who listens can tell two
connections of one client by a ticket.
"""

import collections
import ssl
import threading
from collections.abc import Callable
from os import PathLike
from typing import Any, Self

from app.security.tokens import wall_clock

HOSTS = 64
PER_HOST = 8


class ResumingContext(ssl.SSLContext):
    """A client's context that remembers the sessions of its own connections.

    Make one for each client certificate, and one for connections without any.

    Attributes:
        offered: Connections that began with an earlier session (count).
    """

    def __new__(cls, *_: object, **__: object) -> Self:
        """Make a context for clients, which checks names and certificates."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(
        self,
        *,
        hosts: int = HOSTS,
        per_host: int = PER_HOST,
        now: Callable[[], float] = wall_clock,
    ) -> None:
        """Trust the authorities of the system.

        Args:
            hosts: Hosts that are remembered; the one unused for longest is forgotten.
            per_host: Sessions that are kept for each of them.
            now: Tells seconds since the epoch, as OpenSSL dates sessions.
        """
        self.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load_default_certs()
        self.sslobject_class = _Resuming
        self.offered = 0
        self._hosts = hosts
        self._per_host = per_host
        self._now = now
        # anyio wraps in a thread when the context is not a plain one.
        self._lock = threading.Lock()
        self._sessions: collections.OrderedDict[
            str, collections.deque[ssl.SSLSession]
        ] = collections.OrderedDict()

    def load_cert_chain(
        self,
        certfile: str | bytes | PathLike[str] | PathLike[bytes],
        keyfile: str | bytes | PathLike[str] | PathLike[bytes] | None = None,
        password: Any = None,  # noqa: ANN401  # as ssl has it
    ) -> None:
        """Show a certificate from now on, and forget sessions from before."""
        super().load_cert_chain(certfile, keyfile, password)
        self.forget()

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002  # as ssl has it
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Return the object of a new connection, with a session if there is one."""
        host = _text(server_hostname)
        return super().wrap_bio(
            incoming,
            outgoing,
            server_side,
            server_hostname,
            session or self._take(host),
        )

    def forget(self) -> None:
        """Forget all sessions: the next connections make new ones."""
        with self._lock:
            self._sessions.clear()

    def keep(self, host: str, session: ssl.SSLSession) -> None:
        """Remember a session for one later connection."""
        with self._lock:
            kept = self._sessions.setdefault(
                host, collections.deque(maxlen=self._per_host)
            )
            kept.append(session)
            self._sessions.move_to_end(host)
            if len(self._sessions) > self._hosts:
                self._sessions.popitem(last=False)

    def _take(self, host: str) -> ssl.SSLSession | None:
        with self._lock:
            kept = self._sessions.get(host)
            while kept:
                session = kept.pop()
                if session.time + session.timeout > self._now():
                    self.offered += 1
                    return session
        return None


class _Resuming(ssl.SSLObject):
    _is_kept = False

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: ANN401  # as ssl has it
        got = super().read(len, buffer)
        if not self._is_kept and got:
            session, context = self.session, self.context
            # Tickets have come with the first bytes at the latest (TLS 1.3).
            if session and session.has_ticket and isinstance(context, ResumingContext):
                self._is_kept = True
                context.keep(_text(self.server_hostname), session)
        return got


def _text(host: str | bytes | None) -> str:
    return host.decode() if isinstance(host, bytes) else host or ""
