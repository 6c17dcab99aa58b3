"""The stage that faults are tried on: a service, what it uses, and proxies between."""

import asyncio
import contextlib
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from test_framework.faults import Field, Proxy, proxying
from test_framework.services import Host, HostPlan, Services, hosting, running_services

LIMIT_S = 20.0
"""More than anything here takes on a busy machine; nothing waits for longer."""

HEAL_LIMIT_S = 10.0
"""A service must answer again within this long after a fault has healed."""


@dataclass(frozen=True)
class Stage:
    """Everything that a fault may reach; nothing of it is None."""

    host: Host
    services: Services
    database_url: str
    redis_url: str
    database_proxy: Proxy
    redis_proxy: Proxy
    service_proxy: Proxy
    field: Field

    async def get(self, path: str, *, limit_s: float = LIMIT_S) -> Any:  # noqa: ANN401  # JSON
        """Return the answer of the service, or the reason why there is none."""
        # Of its own: a client that tries again would hide what is looked for.
        parts = urlsplit(self.service_proxy.url)
        head = f"GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"
        try:
            async with asyncio.timeout(limit_s):
                reader, writer = await asyncio.open_connection(
                    parts.hostname, parts.port
                )
                try:
                    writer.write(head.encode())
                    answer = await reader.read(-1)
                finally:
                    writer.transport.abort()
        except OSError as exc:
            return type(exc).__name__
        body = answer.partition(b"\r\n\r\n")[2]
        try:
            return json.loads(body)
        except ValueError:
            return body.decode(errors="replace")

    async def answers(self, *, limit_s: float = HEAL_LIMIT_S) -> bool:
        """Whether the service does all it can do, within some time."""
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    told = [await self.get(p) for p in ("/database", "/redis", "/pid")]
                    if all(isinstance(answer, int) for answer in told):
                        return True
                    await asyncio.sleep(0.05)
        except TimeoutError:
            return False

    async def redis(self, proxied: bool = True) -> "Wire":  # noqa: FBT001, FBT002  # a test's
        """Connect to Redis, through the proxy."""
        url = self.redis_proxy.url if proxied else self.redis_url
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        wire = Wire(reader, writer)
        wire.send(f"AUTH {parts.password}")
        return wire


@dataclass(frozen=True)
class Wire:
    """A raw connection to Redis, which shows what a network does to it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, command: str) -> None:
        """Send one command."""
        self.writer.write(f"{command}\r\n".encode())

    async def hear(self, count: int, *, limit_s: float = LIMIT_S) -> str:
        """Return so many bytes, ``silence``, ``reset`` or ``end``."""
        try:
            async with asyncio.timeout(limit_s):
                return (await self.reader.readexactly(count)).decode()
        except TimeoutError:
            return "silence"
        except ConnectionError:
            return "reset"
        except asyncio.IncompleteReadError:
            return "end"

    def close(self) -> None:
        """Drop it."""
        self.writer.transport.abort()


@contextlib.contextmanager
def staging(folder: Path, *, workers: int = 1) -> Iterator[Stage]:
    """Yield a stage of its own servers, which may be killed."""
    given = ("DATABASE_URL", "REDIS_URL")
    environ = {k: v for k, v in os.environ.items() if k not in given}
    with contextlib.ExitStack() as stack:
        services = stack.enter_context(running_services(environ=environ))
        database_url, redis_url = services.database_url, services.redis_url
        assert database_url is not None
        assert redis_url is not None
        database = stack.enter_context(proxying(database_url))
        redis = stack.enter_context(proxying(redis_url))
        plan = HostPlan(
            "target:create_app",
            workers=workers,
            app_dir=Path(__file__).parent,
            env={"DATABASE_URL": database.url, "REDIS_URL": redis.url},
        )
        host = stack.enter_context(hosting(plan, work_dir=folder))
        service = stack.enter_context(proxying(host.url))
        field = Field(
            host=host,
            services=services,
            database_url=database_url,
            redis_url=redis_url,
            database_proxy=database,
            redis_proxy=redis,
            service_proxy=service,
            rng=random.Random(7),
        )
        yield Stage(
            host, services, database_url, redis_url, database, redis, service, field
        )
