"""The model server of the test session: a process of its own, and how it misbehaves."""

import asyncio
import dataclasses
import gc
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from app.cache import UserKeyspace, connect
from app.context import UserExecutionContext
from app.llm import HttpPool, OpenAICompatibleModel, Provider, StaticKey
from tests.unit.app.parts import context_of

KEY = "the key of the service"
KEYS = ("first pooled key", "second pooled key", "third pooled key")
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class RunningServer:
    """A model server that runs."""

    url: str

    async def misbehave(self, **fault: object) -> None:
        """Let all that follows meet a fault, and count from here; none ends it."""
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.put(f"{self.url}/faults", json=fault)
            assert answer.is_success, answer.text

    async def counts(self) -> dict[str, Any]:
        """Return what was served since the last fault was set."""
        async with httpx.AsyncClient(trust_env=False) as http:
            counts: dict[str, Any] = (await http.get(f"{self.url}/faults")).json()
        return counts

    async def served(self, path: str = CHAT) -> int:
        """Return how many requests to a path were served since then."""
        return int((await self.counts())["served"].get(path, 0))

    async def wait_for(self, count: int, *, within_s: float = 20) -> None:
        """Wait until so many conversations have come since then."""
        async with asyncio.timeout(within_s):
            while await self.served() < count:  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.01)

    def provider(self, pool: HttpPool) -> Provider:
        """Return the server as a provider."""
        return Provider(f"{self.url}/v1", pool, StaticKey(KEY))

    def model(self, pool: HttpPool) -> OpenAICompatibleModel:
        """Return a client of the server."""
        return OpenAICompatibleModel(self.provider(pool), model="local")


@pytest.fixture(scope="session")
def _server() -> Iterator[RunningServer]:
    options = ["--port", "0", "--token-s", "30", "--allow-faults"]
    options += [f"--key={key}" for key in (KEY, *KEYS)]
    with subprocess.Popen(
        [sys.executable, "-m", "app.llm.server", *options],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()  # empty when it did not start
        assert url.startswith("http"), "the model server did not start"
        yield RunningServer(url)
        process.kill()  # requests that are never answered are still open


@pytest_asyncio.fixture
async def server(_server: RunningServer) -> RunningServer:
    """Return the model server, well-behaved so far."""
    await _server.misbehave()
    return _server


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[HttpPool]:
    """Return a pool of twenty connections."""
    pool = HttpPool(connections=20, timeout_s=20)
    yield pool
    await pool.aclose()


@pytest_asyncio.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """Return a client of Redis with connections for fifty callers."""
    redis = connect(redis_url, connections=50)
    yield redis
    await redis.aclose()


def user_context(redis: Redis, run_id: str | None = None) -> UserExecutionContext:
    """Return a context of a new user, with a keyspace in Redis."""
    context = context_of(str(uuid4()))
    keyspace = UserKeyspace(redis, context.user_id)
    return dataclasses.replace(context, keyspace=keyspace, run_id=run_id)


@pytest_asyncio.fixture(autouse=True)
async def _settle() -> AsyncIterator[None]:
    """Let the loop finish httpx's generators, which end in tasks when they are left."""
    yield
    gc.collect()
    await asyncio.sleep(0.01)
