"""Streams behind the guards: a hundred at one time, over real HTTP, in all their ends.

Every stream has a way to end that its number decides, and the server is told to play its
part in it. What each costs is known to the token, so budgets are compared exactly.
"""

import asyncio
import contextlib
import gc
import json
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from app.context import UserExecutionContext
from app.llm import (
    BudgetError,
    ChatMessage,
    CircuitBreaker,
    HttpPool,
    ModelError,
    ModelGuards,
    ModelUnavailableError,
    OpenAICompatibleModel,
    Provider,
    Reply,
    StaticKey,
    TokenBudgets,
    ToolSpec,
    UserLimits,
)
from app.llm.guards import prompt_tokens
from tests.integration.llm.conftest import KEY, RunningServer, user_context
from tests.unit.app.llm_twins import ClosedByCancellation, JammedByCancellation
from tests.unit.app.parts import context_of
from tests.unit.app.stream_twins import (
    LetsGoOfTheSlot,
    SettlesGoodEndsOnly,
    SharesItsBuffer,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]

USERS = 50
FEW = 10
"""Users where a twin is to be caught: each way to end comes three times."""
TOTAL = 20
LONGEST = 500
BUDGET = 100_000
LATE = {"latency_s": 0.01}


@dataclass(frozen=True)
class Kind:
    """A way for a stream to end.

    Attributes:
        fault: What the server does.
        most: Pieces that are read; the reader stops then.
        leaves: How the reader ends a stream that it does not read to its end.
    """

    fault: Mapping[str, object]
    most: int = 99
    leaves: str = "closes"


KINDS = (
    Kind(LATE),
    Kind({**LATE, "drop_after": 2}),
    Kind(LATE, most=1),
    Kind({**LATE, "stall_after": 1}, most=1, leaves="is cancelled"),
    Kind({"latency_s": 0.03}, leaves="is cancelled at random"),
    Kind(LATE, most=2, leaves="drops it"),
)


@dataclass(frozen=True, slots=True)
class _Misbehaving(StaticKey):
    """A key, and what the server is asked to do with this request."""

    fault: Mapping[str, object] = field(default_factory=dict)

    async def headers(self) -> Mapping[str, str]:
        return {**await StaticKey.headers(self), "x-fault": json.dumps(self.fault)}


@dataclass
class _Stream:
    """One stream of a user.

    Attributes:
        number: Decides its user and its end.
        is_asked: Whether the model was asked.
        sent: What the model sent.
        pieces: What its reader got of that.
    """

    number: int
    user: int
    is_asked: bool = False
    sent: list[str | Reply] = field(default_factory=list)
    pieces: list[str | Reply] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        return KINDS[self.number % len(KINDS)]

    @property
    def asked(self) -> list[ChatMessage]:
        goal = "".join(f"\n{word} CANARY{self.user:03}" for word in ("b", "c", "d"))
        return [ChatMessage("user", f"CANARY{self.user:03}{goal}")]

    def assert_own(self) -> None:
        """Check that its reader got the own text from its beginning, and no other."""
        whole = f"Goal: {self.asked[0].content}"
        text = "".join(piece for piece in self.pieces if isinstance(piece, str))
        assert whole.startswith(text), f"user {self.user} got {text!r}"
        for reply in (piece for piece in self.pieces if isinstance(piece, Reply)):
            assert reply.content == text == whole, f"user {self.user} got {reply}"

    @property
    def costs(self) -> int:
        """What it costs, in tokens."""
        prompt = prompt_tokens(self.asked, [])
        if not self.is_asked:
            return 0
        if not self.sent:
            return prompt + LONGEST
        if isinstance(end := self.sent[-1], Reply):
            assert end.tokens is not None
            return end.tokens
        return prompt + sum(len(piece) for piece in self.sent if isinstance(piece, str))


class _Watched(OpenAICompatibleModel):
    """Asks the server for one stream, and watches how many a user has open."""

    def __init__(self, provider: Provider, stream: _Stream, house: "_House") -> None:
        super().__init__(provider, model="local", max_reply_tokens=LONGEST)
        self._stream = stream
        self._house = house

    async def stream(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[str | Reply, None]:
        house, user = self._house, self._stream.user
        self._stream.is_asked = True
        house.open[user] += 1
        house.most = max(house.most, house.open[user])
        try:
            stream = OpenAICompatibleModel.stream(self, messages, tools=tools)
            async with contextlib.aclosing(stream):
                async for piece in stream:
                    self._stream.sent.append(piece)
                    yield piece
        finally:
            house.open[user] -= 1


@dataclass
class _House:
    """The guards of all, and users who stream twice each at one time.

    Attributes:
        open: Streams that the provider works on, by user (count).
        most: Of one user, at most (count).
    """

    server: RunningServer
    pool: HttpPool
    redis: Redis
    kind: type[ModelGuards] = ModelGuards
    budgets: type[TokenBudgets] = TokenBudgets
    open: Counter[int] = field(default_factory=Counter)
    most: int = 0
    limits: UserLimits = field(
        default_factory=lambda: UserLimits(total=TOTAL, per_user=1)
    )

    async def serve(self, *, users: int) -> None:
        """Let all users stream, and judge what each got and what is left."""
        await self.server.misbehave()
        before = asyncio.all_tasks()
        contexts = [user_context(self.redis) for _ in range(users)]
        streams = [_Stream(number, number % users) for number in range(2 * users)]
        counted = self.budgets(self.redis, user_tokens=BUDGET, run_tokens=BUDGET)
        guards = self.kind(
            budgets=counted,
            limits=self.limits,
            breaker=CircuitBreaker(failures=2 * users),
            max_reply_tokens=LONGEST,
        )
        instants = random.Random(7)
        async with asyncio.timeout(120):
            await asyncio.gather(
                *(
                    self._read(guards, stream, contexts[stream.user], instants)
                    for stream in streams
                )
            )
            gc.collect()
            await asyncio.sleep(0)
            # The loop closes what was dropped, in tasks of its own.
            while late := asyncio.all_tasks() - before:
                await asyncio.wait(late)
        for stream in streams:
            stream.assert_own()
        assert self.most == 1, f"a user had {self.most} streams at one time"
        assert self.limits.held == {}
        assert guards.breaker is not None
        assert guards.breaker.state == "closed"
        for user, context in enumerate(contexts):
            costs = [stream.costs for stream in streams if stream.user == user]
            spent = await counted.spent(context)
            await _assert_nothing_reserved(counted, context, BUDGET - spent)
            assert spent == sum(costs), f"user {user} spent {spent} and not {costs}"

    async def _read(
        self,
        guards: ModelGuards,
        stream: _Stream,
        context: UserExecutionContext,
        instants: random.Random,
    ) -> None:
        key = _Misbehaving(KEY, stream.kind.fault)
        provider = Provider(f"{self.server.url}/v1", self.pool, key)
        pieces = guards.stream(
            _Watched(provider, stream, self), context, stream.asked, tools=[]
        )
        if stream.kind.leaves == "drops it":
            await _take(pieces, stream)
            return
        has_enough = asyncio.Event()

        async def read() -> None:
            async with contextlib.aclosing(pieces):
                await _take(pieces, stream)
                has_enough.set()
                if stream.kind.leaves == "is cancelled":
                    await anext(pieces)  # there is no more to come

        reading = asyncio.create_task(read())
        if stream.kind.leaves == "is cancelled":
            await has_enough.wait()
            await asyncio.sleep(instants.uniform(0, 0.02))
            reading.cancel()
        if stream.kind.leaves == "is cancelled at random":
            await asyncio.sleep(instants.uniform(0, 0.3))
            reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading


async def _take(pieces: AsyncGenerator[str | Reply, None], stream: _Stream) -> None:
    with contextlib.suppress(ModelUnavailableError):
        while len(stream.pieces) < stream.kind.most:
            piece = await anext(pieces, None)
            if piece is None:
                return
            stream.pieces.append(piece)


async def _assert_nothing_reserved(
    budgets: TokenBudgets, context: UserExecutionContext, rest: int
) -> None:
    """Check that a user can reserve what was not spent, to the last token."""
    try:
        await budgets.reserve(context, rest)
    except BudgetError as exc:
        message = f"something is still reserved: {exc}"
        raise AssertionError(message) from exc
    with pytest.raises(BudgetError, match="and 0 are left"):
        await budgets.reserve(context, 1)


async def test_hundred_streams_end_in_all_ways(
    server: RunningServer, pool: HttpPool, redis: Redis
) -> None:
    """Each of fifty users gets the own text; slots and budgets are exact at the end."""
    await _House(server, pool, redis).serve(users=USERS)


TWINS: dict[str, tuple[Callable[[RunningServer, HttpPool, Redis], _House], str]] = {
    "limit let go": (
        lambda server, pool, redis: _House(server, pool, redis, kind=LetsGoOfTheSlot),
        "streams at one time",
    ),
    "not settled": (
        lambda server, pool, redis: _House(
            server, pool, redis, budgets=SettlesGoodEndsOnly
        ),
        "still reserved",
    ),
    "shared buffer": (
        lambda server, pool, redis: _House(server, pool, redis, kind=SharesItsBuffer),
        "got",
    ),
}


@pytest.mark.power
@pytest.mark.parametrize("twin", TWINS)
async def test_streams_without_a_protection_are_caught(
    server: RunningServer, pool: HttpPool, redis: Redis, twin: str
) -> None:
    """The same judge sees each protection that is missing."""
    make, words = TWINS[twin]

    with pytest.raises(AssertionError, match=words):
        await make(server, pool, redis).serve(users=FEW)


class _Outage:
    """A provider that comes back, and a hundred streams of fifty users to find out.

    Attributes:
        now: The breaker's time.
    """

    def __init__(
        self, server: RunningServer, pool: HttpPool, kind: type[CircuitBreaker]
    ) -> None:
        self.now = 0.0
        self.server = server
        self.breaker = kind(failures=1, open_s=10, clock=lambda: self.now)
        self._model = server.model(pool)
        self._guards = ModelGuards(
            breaker=self.breaker, limits=UserLimits(total=TOTAL, per_user=2)
        )

    async def stream_all(self, *, most: int = 99) -> Counter[str]:
        """Let each user stream twice, leaving after ``most`` pieces; count the ends."""

        async def read(number: int) -> str:
            stream = self._guards.stream(
                self._model,
                context_of(f"user {number % USERS}"),
                [ChatMessage("user", "a\nb")],
                tools=[],
            )
            count = 0
            try:
                async with contextlib.aclosing(stream):
                    async for _ in stream:
                        count += 1
                        if count == most:
                            return "left"
            except ModelError as exc:
                return type(exc).__name__
            return "read"

        return Counter(await asyncio.gather(*map(read, range(2 * USERS))))

    async def probe(self, *, most: int = 99, **fault: object) -> tuple[str, str]:
        """Let the time pass and all come; return how the one probe ended, and the state."""
        self.now += 10
        # All come before the probe has its answer, and are refused meanwhile.
        await self.server.misbehave(**fault)
        ends = await self.stream_all(most=most)
        assert await self.server.served() == 1, ends
        (probe,) = set(ends) - {"CircuitOpenError"}
        return probe, self.breaker.state


async def _probe_in_all_ways(outage: _Outage) -> list[tuple[str, str]]:
    await outage.server.misbehave(status=500)
    await outage.stream_all()
    return [
        await outage.probe(drop_after=1),
        await outage.probe(most=1),
        await outage.probe(drop_after=0),
        await outage.probe(),
    ]


async def test_stream_that_probes_is_judged_by_its_end(
    server: RunningServer, pool: HttpPool
) -> None:
    """Broken off it opens the breaker, left it says nothing, read to its end it closes."""
    outage = _Outage(server, pool, CircuitBreaker)

    assert await _probe_in_all_ways(outage) == [
        ("ModelUnavailableError", "open"),
        ("left", "half-open"),
        ("ModelUnavailableError", "open"),
        ("read", "closed"),
    ]
    await server.misbehave()
    assert await outage.stream_all() == {"read": 2 * USERS}


@pytest.mark.power
@pytest.mark.parametrize("kind", [ClosedByCancellation, JammedByCancellation])
async def test_left_probe_that_counts_is_caught(
    server: RunningServer, pool: HttpPool, kind: type[CircuitBreaker]
) -> None:
    """A breaker that takes leaving for an answer closes; one that waits for ever jams."""
    outage = _Outage(server, pool, kind)
    await server.misbehave(status=500)
    await outage.stream_all()

    left = await outage.probe(most=1)

    if kind is ClosedByCancellation:
        assert left == ("left", "closed")
    else:
        with pytest.raises(AssertionError, match="CircuitOpenError"):
            await outage.probe()
