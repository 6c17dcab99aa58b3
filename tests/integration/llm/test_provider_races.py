"""Tokens, batches, the breaker and slots under a hundred users, over real HTTP."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from app.llm import (
    BatchedEmbedder,
    ChatMessage,
    CircuitBreaker,
    CircuitOpenError,
    Embedding,
    HttpPool,
    LocalModel,
    ModelError,
    ModelGuards,
    ModelRejectedError,
    ModelUnavailableError,
    OpenAICompatibleEmbedder,
    OpenAICompatibleModel,
    Provider,
    ProviderTokens,
    Reply,
    Retry,
    ToolSpec,
    UserLimits,
    token_fetcher,
)
from app.llm.embeddings import embedding_of
from tests.integration.llm.conftest import KEY, RunningServer
from tests.integration.llm.llm_twins import ReadsByPosition
from tests.unit.app.llm_twins import FirstComeFirstServed, ManyProbes, RefreshesEach
from tests.unit.app.parts import context_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]

USERS = 100
FEW = 30
"""Users where a twin is to be caught: two would do."""
HELLO = [ChatMessage("user", "hello")]


async def _ask_with_tokens(
    server: RunningServer, pool: HttpPool, kind: type[ProviderTokens], *, users: int
) -> int:
    """Let users need a token at once, every third leave; count the tokens."""
    tokens = kind(token_fetcher(pool, f"{server.url}/v1/token", key=KEY))
    model = OpenAICompatibleModel(
        Provider(f"{server.url}/v1", pool, tokens), model="local"
    )
    await server.misbehave(latency_s=0.1, paths=["/v1/token"])
    tasks = [asyncio.create_task(model.complete(HELLO, tools=[])) for _ in range(users)]
    await asyncio.sleep(0.02)
    for task in tasks[::3]:
        task.cancel()

    ends = await asyncio.gather(*tasks, return_exceptions=True)

    for number, end in enumerate(ends):
        assert isinstance(end, asyncio.CancelledError if number % 3 == 0 else Reply)
    await tokens.aclose()
    return await server.served("/v1/token")


async def test_hundred_users_fetch_one_token(
    server: RunningServer, pool: HttpPool
) -> None:
    """One request for a token serves all, also when those who began it have left."""
    assert await _ask_with_tokens(server, pool, ProviderTokens, users=USERS) == 1


@pytest.mark.power
async def test_token_for_each_is_caught(server: RunningServer, pool: HttpPool) -> None:
    """Without a single flight there is a stampede on the token endpoint."""
    assert await _ask_with_tokens(server, pool, RefreshesEach, users=FEW) > 1


async def test_refused_token_is_renewed_once(
    server: RunningServer, pool: HttpPool
) -> None:
    """A token that the provider forgot is renewed on its first refusal, by one flight."""
    tokens = ProviderTokens(token_fetcher(pool, f"{server.url}/v1/token", key=KEY))
    provider = Provider(f"{server.url}/v1", pool, tokens)
    model = OpenAICompatibleModel(provider, model="local")
    good = await tokens.headers()
    assert tokens._token is not None
    tokens._token = type(tokens._token)("forgotten", tokens._token.good_until_s)
    await server.misbehave()

    replies = await asyncio.gather(
        *(model.complete(HELLO, tools=[]) for _ in range(50))
    )

    assert len(replies) == 50
    assert await tokens.headers() != good
    # Those whose refusal came after the renewal had begun anew find it done.
    assert await server.served("/v1/token") == 1


async def test_wrong_key_is_one_sentence(server: RunningServer, pool: HttpPool) -> None:
    """A key that buys no token fails the call, and is not repeated."""
    tokens = ProviderTokens(
        token_fetcher(pool, f"{server.url}/v1/token", key="hunter2")
    )
    provider = Provider(f"{server.url}/v1", pool, tokens)

    with pytest.raises(ModelRejectedError, match="HTTP 401") as caught:
        await OpenAICompatibleModel(provider, model="m").complete(HELLO, tools=[])

    assert "hunter2" not in str(caught.value)


def _texts(user: int) -> list[str]:
    return [f"user {user} writes about topic{user * 7}", f"and signs user{user}"]


async def _embed_all(
    server: RunningServer,
    pool: HttpPool,
    kind: type[OpenAICompatibleEmbedder] = OpenAICompatibleEmbedder,
) -> None:
    """Let a hundred users embed two texts each, some leave, one send poison; judge."""
    embedder = BatchedEmbedder(
        kind(server.provider(pool), model="e"),
        breaker=CircuitBreaker(),
        max_items=32,
        max_wait_s=0.01,
    )
    await server.misbehave(shuffle=True, poison="POISON")
    rng = random.Random(4)

    async def embed(user: int) -> list[Embedding]:
        texts = ["POISON"] if user == 50 else _texts(user)
        return await embedder.embed(texts)

    tasks = [asyncio.create_task(embed(user)) for user in range(USERS)]
    await asyncio.sleep(0)
    leaving = set(rng.sample(range(USERS), 20)) - {50}
    for user in leaving:
        tasks[user].cancel()

    ends = await asyncio.gather(*tasks, return_exceptions=True)

    await embedder.aclose()
    for user, end in enumerate(ends):
        if user in leaving:
            assert isinstance(end, asyncio.CancelledError)
        elif user == 50:
            assert isinstance(end, ModelRejectedError)
        else:
            assert not isinstance(end, BaseException), end
            expected = [embedding_of(text) for text in _texts(user)]
            assert end == expected, f"user {user} got the points of other texts"


async def test_hundred_users_get_own_embeddings(
    server: RunningServer, pool: HttpPool
) -> None:
    """Shuffled, with poison in one batch and members gone, each gets the own points."""
    await _embed_all(server, pool)

    # 161 texts at 32 a request, and what it takes to find the poison among 32.
    assert await server.served("/v1/embeddings") <= 6 + 2 * 5 + 2


@pytest.mark.power
async def test_embeddings_by_position_are_caught(
    server: RunningServer, pool: HttpPool
) -> None:
    """A client that trusts the order of the list mixes users up."""
    with pytest.raises(AssertionError, match="of other texts"):
        await _embed_all(server, pool, ReadsByPosition)


class _Outage:
    """A provider that is down, and a hundred users who do not know.

    Attributes:
        now: The breaker's time.
    """

    def __init__(
        self, server: RunningServer, pool: HttpPool, kind: type[CircuitBreaker]
    ) -> None:
        self.now = 0.0
        self._server = server
        self._model = server.model(pool)
        self._guards = ModelGuards(
            breaker=kind(failures=5, open_s=10, clock=lambda: self.now),
            limits=UserLimits(total=20, per_user=5),
        )

    async def ask_all(self) -> list[str]:
        """Let each user ask once, and return how each call ended."""

        async def ask(user: int) -> str:
            try:
                await self._guards.complete(
                    self._model, context_of(f"user {user}"), HELLO, tools=[]
                )
            except ModelError as exc:
                return type(exc).__name__
            return "answered"

        return list(await asyncio.gather(*map(ask, range(USERS))))


async def _probe(server: RunningServer, outage: _Outage) -> int:
    """Let the outage begin and end, and return how many probed at one time."""
    await server.misbehave(status=500)
    ends = await outage.ask_all()
    assert ends.count(ModelUnavailableError.__name__) == await server.served() <= 25
    # Open: nobody reaches the server.
    assert set(await outage.ask_all()) == {CircuitOpenError.__name__}
    await server.misbehave(latency_s=0.2)
    outage.now = 10.0
    ends = await outage.ask_all()
    probes = await server.served()
    assert ends.count("answered") == probes
    return probes


async def test_hundred_users_send_one_probe(
    server: RunningServer, pool: HttpPool
) -> None:
    """An outage costs the provider no more calls than were open, then one probe."""
    outage = _Outage(server, pool, CircuitBreaker)

    assert await _probe(server, outage) == 1
    await server.misbehave()
    assert set(await outage.ask_all()) == {"answered"}


@pytest.mark.power
async def test_stampede_of_probes_is_caught(
    server: RunningServer, pool: HttpPool
) -> None:
    """A breaker that lets all through falls on a provider that just came back."""
    assert await _probe(server, _Outage(server, pool, ManyProbes)) > 1


@pytest.mark.long
async def test_breaker_opens_and_closes_again_and_again(
    server: RunningServer, pool: HttpPool
) -> None:
    """Ten outages under a hundred users: it opens each time, and each time it closes."""
    outage = _Outage(server, pool, CircuitBreaker)
    for number in range(1, 11):
        await server.misbehave(status=500)
        assert "answered" not in await outage.ask_all()
        await server.misbehave()
        outage.now = 10.0 * number
        assert (await outage.ask_all()).count("answered") >= 1
        assert set(await outage.ask_all()) == {"answered"}


class _Watched(LocalModel):
    """Asks the server, and notes what one user holds at most."""

    def __init__(self, model: OpenAICompatibleModel, limits: UserLimits) -> None:
        self.most = 0
        self._model = model
        self._limits = limits

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> Reply:
        self.most = max(self.most, self._limits.held.get("greedy", 0))
        return await self._model.complete(messages, tools=tools)


async def _share(
    server: RunningServer, pool: HttpPool, kind: type[UserLimits]
) -> tuple[int, int]:
    """Let one user ask 60 times and forty others once.

    Returns:
        Slots that the greedy user held at most, and how many of the others were
        served before the greedy user's last call.
    """
    limits = kind(total=10, per_user=3)
    model, ended = _Watched(server.model(pool), limits), list[str]()
    guards = ModelGuards(limits=limits)
    await server.misbehave(latency_s=0.005)

    async def ask(user: str) -> None:
        await guards.complete(model, context_of(user), HELLO, tools=[])
        ended.append(user)

    users = ["greedy"] * 60 + [f"user {number}" for number in range(40)]
    await asyncio.gather(*map(ask, users))
    assert limits.free == 10
    last = len(ended) - 1 - ended[::-1].index("greedy")
    return model.most, sum(user != "greedy" for user in ended[:last])


async def test_greedy_user_leaves_slots_to_others(
    server: RunningServer, pool: HttpPool
) -> None:
    """One user with sixty calls holds three slots; all others are served meanwhile."""
    assert await _share(server, pool, UserLimits) == (3, 40)


@pytest.mark.power
async def test_greedy_user_with_all_slots_is_caught(
    server: RunningServer, pool: HttpPool
) -> None:
    """Without shares the greedy user takes all."""
    most, _ = await _share(server, pool, FirstComeFirstServed)

    assert most > 3


async def test_busy_provider_is_asked_again(
    server: RunningServer, pool: HttpPool
) -> None:
    """Retry-After is waited for without a slot, and the call is made in the end."""
    limits = UserLimits(total=2, per_user=1)
    held: list[int] = []

    async def sleep(seconds: float) -> None:
        assert seconds >= 3
        held.append(2 - limits.free)
        await server.misbehave()

    guards = ModelGuards(limits=limits, retry=Retry(rng=random.Random(1), sleep=sleep))
    await server.misbehave(status=429, retry_after_s=3)

    reply = await guards.complete(
        server.model(pool), context_of("ada"), HELLO, tools=[]
    )

    assert reply.content == "Goal: hello"
    assert held == [0]
