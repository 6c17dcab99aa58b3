"""A process that serves TLS by ``app.serve``, with nothing behind it, or by a twin.

    python -m tests.integration.security.tls_process KIND CERTIFICATE KEY

Prints its port, then its log. It looks at the files when it is told to, and at no other
time: what a signal does is not done by the clock a moment later.
"""

import asyncio
import logging
import signal
import socket
import ssl
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from app.monitoring import configure_logging, log_event
from app.security import Certificates
from app.serve import TlsServer, _serve
from tests.integration.security.certificates_twins import InPlace

NEVER_S = 86_400.0


class RestartsTheListener(TlsServer):
    """Listens anew with the pair that is there, as a restart of the process does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and to restart when told."""
        await super().startup(sockets)
        self.config.port = self.servers[0].sockets[0].getsockname()[1]
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._restart)

    def _restart(self) -> None:
        self._restarting = asyncio.create_task(self._listen_anew())

    async def _listen_anew(self) -> None:
        for server in self.servers:
            server.close()
        self._certificates.reload()
        await asyncio.sleep(0.1)  # a process takes longer to come up
        await uvicorn.Server.startup(self)


class ShowsHalves(InPlace):
    """Loads what it finds into the context in use, and goes on when it does not fit."""

    def reload(self) -> bool:
        """Load what is there."""
        try:
            return super().reload()
        except ssl.SSLError:
            log_event(logging.getLogger("app.security"), "certificate.refused")
            return False


KINDS: dict[str, tuple[type[Certificates], type[TlsServer]]] = {
    "sound": (Certificates, TlsServer),
    "restarts": (Certificates, RestartsTheListener),
    "halves": (ShowsHalves, TlsServer),
}


async def _tell_and_serve(server: TlsServer, certificates: Certificates) -> None:
    serving = asyncio.create_task(_serve(server, certificates))
    while not (server.started or serving.done()):  # noqa: ASYNC110  # nobody tells of it
        await asyncio.sleep(0.01)
    if server.servers:
        sys.stdout.write(f"{server.servers[0].sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
    await serving


def main() -> None:
    """Serve until a signal ends it."""
    kind, certificate, key = sys.argv[1:]
    configure_logging("INFO")
    of_certificates, of_server = KINDS[kind]
    certificates = of_certificates(Path(certificate), Path(key), check_s=NEVER_S)
    server = of_server(FastAPI(), certificates, host="127.0.0.1", port=0)
    asyncio.run(_tell_and_serve(server, certificates))


if __name__ == "__main__":
    main()
