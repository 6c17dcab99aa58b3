"""Runs the service behind TLS: ``python -m app.serve --port 8443``.

One worker with the certificate in TLS_CERTIFICATE_FILE and TLS_KEY_FILE, which is
exchanged whenever the files change, without a dropped handshake; SIGHUP looks at once.
Replicas share the load. Where a balancer ends TLS, run uvicorn as the Dockerfile does.
"""

import argparse
import asyncio
import signal
import socket
import ssl
import sys
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.security import CertificateError, Certificates
from app.settings import Settings, SettingsError

GRACE_S = 8


class TlsServer(uvicorn.Server):
    """A server that watches the files of its certificate while it runs."""

    def __init__(
        self, app: FastAPI, certificates: Certificates, *, host: str, port: int
    ) -> None:
        """Serve ``app`` with whatever pair the certificates hold."""

        def listening(
            _config: uvicorn.Config, _default: Callable[[], ssl.SSLContext]
        ) -> ssl.SSLContext:
            return certificates.listening

        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                ssl_context_factory=listening,
                access_log=False,
                log_config=None,
                ws="websockets-sansio",
                reset_contextvars=True,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._certificates = certificates

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve and to watch."""
        await super().startup(sockets)
        self._certificates.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop both."""
        await self._certificates.close()
        await super().shutdown(sockets)


def _certificates(settings: Settings) -> Certificates:
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        message = (
            "TLS_CERTIFICATE_FILE and TLS_KEY_FILE are missing; expected the paths of a "
            "certificate and its key. Set them, or run uvicorn without TLS."
        )
        raise SettingsError(message)
    return Certificates(settings.tls_certificate_file, settings.tls_key_file)


async def _serve(server: TlsServer, certificates: Certificates) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, certificates.look)
    await server.serve()


def main() -> int:
    """Serve until the process is told to stop; the exit code is 2 for bad settings."""
    parser = argparse.ArgumentParser(prog="python -m app.serve", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8443)
    chosen = parser.parse_args()
    try:
        settings = Settings.from_environment()
        certificates = _certificates(settings)
    except (SettingsError, CertificateError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    server = TlsServer(
        create_app(settings), certificates, host=chosen.host, port=chosen.port
    )
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_serve(server, certificates))
    return 0 if server.started else 3


if __name__ == "__main__":
    raise SystemExit(main())
