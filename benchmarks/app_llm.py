"""Cost of what stands around a model: client, guards, batches, budgets, retrieval.

Run ``python -m benchmarks.app_llm``; Postgres, Redis and the model server are started.
Each thing stands beside the plain one, in turns within one process, and the round with
the middle ratio is told, in CPU time of this process: the ratio is what to read. Calls
per second are by the clock, and say as much about the machine as about the service.
"""

import argparse
import asyncio
import contextlib
import itertools
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import httpx
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy import insert

from app.cache import UserKeyspace, connect
from app.context import UserExecutionContext
from app.llm import (
    BatchedEmbedder,
    ChatMessage,
    CircuitBreaker,
    Credentials,
    HashingEmbedder,
    HttpPool,
    LocalModel,
    ModelGuards,
    OpenAICompatibleEmbedder,
    OpenAICompatibleModel,
    PooledKeys,
    Provider,
    ProviderTokens,
    Reply,
    ResponseCache,
    Retry,
    StaticKey,
    TokenBudgets,
    UserLimits,
    retrieve,
)
from app.llm.wire import chat_request
from app.settings import Settings
from app.storage import (
    Passages,
    SessionFactory,
    TextPassages,
    UserAuditTrail,
    VectorPassages,
    create_document,
    open_engine,
    search_documents,
)
from app.storage.migrate import migrate
from app.storage.tables import users
from test_framework.services import running_services

ROUNDS = 5
USERS = 100
ASKED = [ChatMessage("user", "Find what there is about soup")]

Work = Callable[[int], Awaitable[object]]
"""Does a thing once, for the user of a number."""


class NoEvents:
    """Sends nothing."""

    def __init__(self, user_id: str) -> None:
        """Belong to a user."""
        self.user_id = user_id

    async def emit(self, *_: object, **__: object) -> int:
        """Send nothing."""
        return 0


def context_of(redis: Redis) -> UserExecutionContext:
    """Return a context of a new user."""
    user_id = str(uuid4())
    return UserExecutionContext(
        user_id=user_id,
        request_id="bench",
        keyspace=UserKeyspace(redis, user_id),
        emitter=NoEvents(user_id),
        audit=UserAuditTrail(user_id, "bench"),
        run_id=str(uuid4()),
    )


async def cost_us(work: Work, times: int, at_once: int) -> float:
    """Return the CPU time of one turn, microseconds."""
    numbers = itertools.count()

    async def repeat() -> None:
        for _ in range(times):
            await work(next(numbers))

    started = time.process_time()
    await asyncio.gather(*(repeat() for _ in range(at_once)))
    return (time.process_time() - started) / (times * at_once) * 1e6


async def row(
    name: str,
    work: Work,
    plain_name: str,
    plain: Work,
    *,
    times: int,
    at_once: int = 1,
) -> None:
    """Print how two things compare, ``at_once`` of each at one time."""
    await cost_us(work, 1, at_once)
    await cost_us(plain, 1, at_once)
    rounds = [
        (await cost_us(work, times, at_once), await cost_us(plain, times, at_once))
        for _ in range(ROUNDS)
    ]
    rounds.sort(key=lambda pair: pair[0] / pair[1])
    cost, base = rounds[len(rounds) // 2]
    print(
        f"| {name} | {cost:,.0f} | {plain_name} | {base:,.0f} | {cost / base:.2f} |",
        flush=True,
    )


def pooled_keys() -> PooledKeys:
    """Return three keys with places for fifty callers."""
    keys = [SecretStr(f"key {number}") for number in range(3)]
    return PooledKeys(keys, requests=17)


@contextlib.contextmanager
def model_server() -> Iterator[str]:
    """Run the model server and yield its URL."""
    with subprocess.Popen(
        [sys.executable, "-m", "app.llm.server", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdout is None:
            raise RuntimeError
        yield process.stdout.readline().strip()
        process.kill()


@dataclass(frozen=True)
class Bench:
    """What everything is measured with."""

    url: str
    redis: Redis
    times: int

    def provider(self, pool: HttpPool) -> Provider:
        """Return the model server as a provider."""
        return Provider(f"{self.url}/v1", pool, StaticKey(None))

    async def client(self) -> None:
        """Compare our client with httpx alone."""
        pool = HttpPool(connections=50)
        model = OpenAICompatibleModel(self.provider(pool), model="local")
        body = chat_request("local", ASKED, [], max_tokens=1024, is_streamed=False)
        url = f"{self.url}/v1/chat/completions"
        async with httpx.AsyncClient(trust_env=False) as http:

            async def plain(_: int) -> None:
                (await http.post(url, json=body)).json()

            async def whole(_: int) -> None:
                await model.complete(ASKED, tools=[])

            async def streamed(_: int) -> None:
                async with contextlib.aclosing(model.stream(ASKED, tools=[])) as stream:
                    async for _piece in stream:
                        pass

            await row("client", whole, "httpx", plain, times=4 * self.times)
            await row(
                "client, streamed", streamed, "httpx", plain, times=4 * self.times
            )
            await row(
                "client, 50 at once",
                whole,
                "httpx",
                plain,
                times=self.times // 2,
                at_once=50,
            )
            for name, work in (("client", whole), ("httpx", plain)):
                started = time.perf_counter()
                await asyncio.gather(*map(work, range(100)))
                per_s = 100 / (time.perf_counter() - started)
                print(
                    f"| {name}, 100 at once: {per_s:,.0f} calls a second |  |  |  |  |"
                )
        await pool.aclose()

    async def guards(self) -> None:
        """Compare guarded calls with calls of the local model."""
        model = LocalModel()
        contexts = [context_of(self.redis) for _ in range(USERS)]

        async def plain(_: int) -> Reply:
            return await model.complete(ASKED, tools=[])

        def guarded(guards: ModelGuards) -> Work:
            return lambda number: guards.complete(
                model, contexts[number % USERS], ASKED, tools=[]
            )

        budgets = TokenBudgets(self.redis, user_tokens=10**12, run_tokens=10**12)
        light = ModelGuards(
            breaker=CircuitBreaker(),
            limits=UserLimits(total=50, per_user=5),
            retry=Retry(rng=random.Random(1)),
        )
        for name, guards in (
            ("breaker", ModelGuards(breaker=CircuitBreaker())),
            ("breaker, slot, retry", light),
            ("budget reserved and settled", ModelGuards(budgets=budgets)),
            (
                "answer from the cache",
                ModelGuards(cache=ResponseCache(model="m", ttl_s=60)),
            ),
        ):
            await row(
                name, guarded(guards), "local model", plain, times=40 * self.times
            )

        async def plain_stream(_: int) -> None:
            async with contextlib.aclosing(model.stream(ASKED, tools=[])) as pieces:
                async for _piece in pieces:
                    pass

        async def guarded_stream(number: int) -> None:
            pieces = light.stream(model, contexts[number % USERS], ASKED, tools=[])
            async with contextlib.aclosing(pieces):
                async for _piece in pieces:
                    pass

        await row(
            "stream: breaker, slot, retry",
            guarded_stream,
            "local model's stream",
            plain_stream,
            times=40 * self.times,
        )

    async def shared(self) -> None:
        """Compare what many share with each doing it alone."""
        pool = HttpPool(connections=50)
        embedder = OpenAICompatibleEmbedder(self.provider(pool), model="e")
        batched = BatchedEmbedder(embedder, breaker=CircuitBreaker())

        async def alone(number: int) -> None:
            await embedder.embed([f"text {number} about soup"])

        async def together(number: int) -> None:
            await batched.embed([f"text {number} about soup"])

        await row(
            "embedding in a batch, 64 at once",
            together,
            "a request each",
            alone,
            times=2,
            at_once=64,
        )
        await batched.aclose()
        await pool.aclose()

        async def fetch() -> tuple[str, float]:
            return "token", 60.0

        tokens, key = ProviderTokens(fetch), StaticKey("key")

        def shown(credentials: Credentials) -> Work:
            async def show(_: int) -> None:
                async with credentials.lent():
                    pass

            return show

        static = shown(key)
        await row("token at hand", shown(tokens), "static key", static, times=2_000)
        await row(
            "one of 3 keys", shown(pooled_keys()), "static key", static, times=2_000
        )

    async def keys(self) -> None:
        """Compare calls with one of three keys, places for all, with a static key."""
        pool = HttpPool(connections=50)

        def call(credentials: Credentials) -> Work:
            provider = Provider(f"{self.url}/v1", pool, credentials)
            model = OpenAICompatibleModel(provider, model="local")

            async def ask(_: int) -> None:
                await model.complete(ASKED, tools=[])

            return ask

        await row(
            "client with 3 keys, 50 at once",
            call(pooled_keys()),
            "with one key",
            call(StaticKey("key")),
            times=self.times // 2,
            at_once=50,
        )
        await pool.aclose()

    async def budgets(self) -> None:
        """Compare budgets with counting by two plain commands."""
        contexts = [context_of(self.redis) for _ in range(USERS)]
        budgets = TokenBudgets(self.redis, user_tokens=10**12, run_tokens=10**12)

        def call(of: Callable[[int], UserExecutionContext]) -> Work:
            async def reserve(number: int) -> None:
                async with budgets.reserved(of(number), 100) as held:
                    held.used = 10

            return reserve

        async def plain(number: int) -> None:
            key = f"u:{contexts[number % USERS].user_id}:plain"
            await self.redis.incrby(key, 100)
            await self.redis.decrby(key, 90)

        for name, of, at_once in (
            ("budget, one run", lambda _: contexts[0], 1),
            ("budget, 100 users", lambda n: contexts[n % USERS], USERS),
            (
                "budget, 100 runs of one user",
                lambda n: replace(contexts[0], run_id=f"run {n % USERS}"),
                USERS,
            ),
        ):
            await row(
                name,
                call(of),
                "INCRBY, DECRBY",
                plain,
                times=max(10 * self.times // at_once, 2),
                at_once=at_once,
            )

    async def retrieval(self, settings: Settings) -> None:
        """Compare both stores with a search over documents."""
        engine = open_engine(
            settings.service_database_url, pool_size=8, pool_timeout_s=30
        )
        sessions = SessionFactory(engine)
        contexts = [context_of(self.redis) for _ in range(20)]
        async with sessions.for_auth() as session:
            for one in contexts:
                await session.execute(
                    insert(users).values(
                        user_id=one.user_id, username=one.user_id, password_hash="-"
                    )
                )
        rng = random.Random(3)
        for one in contexts:
            async with sessions.for_user(one.user_id) as session:
                working = one.child(session=session)
                for number in range(20):
                    words = (f"word{rng.randrange(500)}" for _ in range(1_000))
                    await create_document(
                        working,
                        document_id=str(uuid4()),
                        title=str(number),
                        body=" ".join(words),
                    )

        def search(store: Passages) -> Work:
            return lambda number: retrieve(
                contexts[number % 20],
                "word7 word77 word177",
                sessions=sessions,
                passages=store,
                embedder=HashingEmbedder(),
                limit=5,
            )

        async def plain(number: int) -> None:
            one = contexts[number % 20]
            async with sessions.for_user(one.user_id) as session:
                await search_documents(
                    one.child(session=session), ["word7", "word77"], limit=5
                )

        stores: Sequence[tuple[str, Passages]] = (
            ("passages by words", TextPassages()),
            ("passages by words and embedding", VectorPassages()),
        )
        for name, store in stores:
            for number in range(20):  # embeddings are made with the first search
                await search(store)(number)
            await row(name, search(store), "documents", plain, times=2 * self.times)
            started = time.perf_counter()
            await asyncio.gather(*map(search(store), range(100)))
            per_s = 100 / (time.perf_counter() - started)
            print(f"| {name}: {per_s:,.0f} searches a second |  |  |  |  |")
        await engine.dispose()


async def measure(settings: Settings, url: str, times: int) -> None:
    """Print the table."""
    await migrate(settings.owner_database_url)
    async with _redis(settings) as redis:
        bench = Bench(url, redis, times)
        print("| thing | us CPU each | beside | us CPU each | ratio |")
        print("|---|--:|---|--:|--:|")
        await bench.client()
        await bench.guards()
        await bench.shared()
        await bench.keys()
        await bench.budgets()
        await bench.retrieval(settings)


@contextlib.asynccontextmanager
async def _redis(settings: Settings) -> AsyncIterator[Redis]:
    redis = connect(settings.redis_url.get_secret_value(), connections=50)
    yield redis
    await redis.aclose()


def main() -> None:
    """Start services and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=4)
    times = parser.parse_args().times
    with running_services() as services, model_server() as url:
        settings = Settings(
            database_url=SecretStr(services.database_url),
            redis_url=SecretStr(services.redis_url),
            signing_keys=SecretStr("k" * 40),
            log_level="ERROR",
        )
        asyncio.run(measure(settings, url, times))


if __name__ == "__main__":
    main()
