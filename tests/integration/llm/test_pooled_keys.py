"""Three keys of a provider under a hundred users, counted by the provider.

What the server saw is what is judged: which key a request showed, and how many that
show one key were under way at one time, each until its answer was sent to the end.
"""

import asyncio
import contextlib
import logging
import random
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from app.llm import (
    ChatMessage,
    CircuitBreaker,
    HttpPool,
    KeysBusyError,
    ModelBusyError,
    ModelError,
    ModelGuards,
    ModelNotAskedError,
    OpenAICompatibleModel,
    PooledKeys,
    Provider,
    Reply,
    Retry,
    UserLimits,
)
from tests.integration.llm.conftest import KEYS, RunningServer
from tests.unit.app.parts import context_of
from tests.unit.app.pooled_keys_twins import (
    GivesBackAtFirstByte,
    HoldsWhileWaiting,
    KeepsRefusedKeys,
    RestsNever,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]

USERS = 100
FEW = 30
"""Users where a twin is to be caught, and where more would show no more."""
WITHIN_S = 60
"""What no call needs, on any machine: a test does not hang."""
LIMIT = 4
"""Requests under way with one key: fewer than the pool has connections."""


@dataclass
class Service:
    """A model behind pooled keys.

    Attributes:
        server: The model server.
        pool: The connections to it.
        names: The keys.
        limit: How many requests may be under way with one.
        provider_kind: The provider, or a twin.
        keys_kind: The pooled keys, or a twin.
        now_s: The time of the rests, in seconds.
    """

    server: RunningServer
    pool: HttpPool
    names: Sequence[str] = KEYS
    limit: int = LIMIT
    provider_kind: type[Provider] = Provider
    keys_kind: type[PooledKeys] = PooledKeys
    now_s: float = 0.0
    keys: PooledKeys = field(init=False)
    model: OpenAICompatibleModel = field(init=False)

    def __post_init__(self) -> None:
        """Build it."""
        secrets = [SecretStr(name) for name in self.names]
        self.keys = self.keys_kind(
            secrets, requests=self.limit, clock=lambda: self.now_s
        )
        provider = self.provider_kind(f"{self.server.url}/v1", self.pool, self.keys)
        self.model = OpenAICompatibleModel(provider, model="local")

    async def ask(self, user: int) -> None:
        """Ask for one user, every other one by a stream; judge the answer."""
        async with asyncio.timeout(WITHIN_S):
            await self._ask(user)

    async def _ask(self, user: int) -> None:
        said = [ChatMessage("user", f"CANARY{user:03}")]
        reply = None
        if user % 2:
            reply = await self.model.complete(said, tools=[])
        else:
            async with contextlib.aclosing(self.model.stream(said, tools=[])) as stream:
                async for piece in stream:
                    reply = piece if isinstance(piece, Reply) else None
        assert reply is not None
        assert reply.content == f"Goal: CANARY{user:03}"

    async def ask_all(self, users: int) -> None:
        """Ask for so many users at one time."""
        await asyncio.gather(*map(self.ask, range(users)))

    async def shown(self) -> list[int]:
        """Return how often each key was shown since the last fault was set."""
        counts = (await self.server.counts())["shown"]
        return [counts.get(name, 0) for name in self.names]

    async def most(self) -> list[int]:
        """Return how many showed each key at one time, since then."""
        counts = (await self.server.counts())["most"]
        return [counts.get(name, 0) for name in self.names]


async def _stall_and_go_on(service: Service, *, users: int, within_s: float) -> int:
    """Let users ask while no stream ends, then let all end; judge what they get.

    Returns:
        How many showed one key at one time.
    """
    places = len(service.names) * service.limit
    await service.server.misbehave(stall_after=1)
    asking = [asyncio.create_task(service.ask(2 * user)) for user in range(users)]
    with contextlib.suppress(TimeoutError):
        await service.server.wait_for(places + 1, within_s=within_s)
    most = await service.most()
    assert min(most) >= service.limit, "there was room for more"
    await service.server.misbehave()
    await asyncio.gather(*asking)
    return max(*most, *await service.most())


async def test_hundred_users_stay_within_each_limit(
    server: RunningServer, pool: HttpPool
) -> None:
    """Each key has as many streams under way as it may, and all users are served."""
    service = Service(server, pool)

    assert await _stall_and_go_on(service, users=USERS, within_s=0.3) == LIMIT


@pytest.mark.power
async def test_key_given_back_at_first_byte_is_caught(
    server: RunningServer, pool: HttpPool
) -> None:
    """A provider that takes the head of an answer for its end goes above the limit."""
    service = Service(server, pool, provider_kind=GivesBackAtFirstByte)

    assert await _stall_and_go_on(service, users=FEW, within_s=20) > LIMIT


async def _refused(service: Service, users: int) -> tuple[int, int]:
    """Let the provider refuse the second key while users ask.

    Returns:
        How often it was shown by them, and by those who came later.
    """
    await service.server.misbehave(status=401, key=service.names[1])
    ends = await asyncio.gather(*map(service.ask, range(users)), return_exceptions=True)
    assert not any(isinstance(end, AssertionError) for end in ends)
    first = (await service.shown())[1]
    if first <= service.limit:
        assert ends == [None] * users
    # Even if the provider took it again: nobody knows who else has it.
    await service.server.misbehave()
    await service.ask_all(FEW)
    return first, (await service.shown())[1]


async def test_refused_key_is_never_shown_again(
    server: RunningServer, pool: HttpPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Only requests under way meet the refusal; each is served by another key."""
    logger = logging.getLogger("app.llm")
    logger.addHandler(caplog.handler)  # whether or not a service has set logging up

    first, later = await _refused(Service(server, pool), USERS)

    logger.removeHandler(caplog.handler)
    assert 1 <= first <= LIMIT
    assert later == 0
    told = {r.__dict__["fields"]["number"] for r in caplog.records if "key" in r.msg}
    assert told == {2}
    assert not any(key in caplog.text for key in KEYS)


@pytest.mark.power
async def test_refused_key_that_is_kept_is_caught(
    server: RunningServer, pool: HttpPool
) -> None:
    """Keys that are refused and lent again are shown again."""
    service = Service(server, pool, keys_kind=KeepsRefusedKeys)

    first, later = await _refused(service, FEW)

    assert first > LIMIT
    assert later > 0


async def _throttled(service: Service, users: int) -> list[int]:
    """Let the provider be tired of the first key; return how often each was shown."""
    await service.server.misbehave(status=429, retry_after_s=30, key=service.names[0])
    ends = await asyncio.gather(*map(service.ask, range(users)), return_exceptions=True)
    assert not any(isinstance(end, AssertionError) for end in ends)
    shown = await service.shown()
    if shown[0] <= service.limit:
        assert ends == [None] * users
    return shown


async def test_throttled_key_rests_alone(server: RunningServer, pool: HttpPool) -> None:
    """The others serve everyone meanwhile, and it serves again after its time."""
    service = Service(server, pool)

    shown = await _throttled(service, FEW)

    assert 1 <= shown[0] <= LIMIT
    assert sum(shown[1:]) == FEW
    assert min(shown[1:]) > 0
    await server.misbehave()
    await service.ask_all(3 * LIMIT)
    assert (await service.shown())[0] == 0
    service.now_s += 30
    await service.ask_all(3 * LIMIT)
    assert (await service.shown())[0] > 0


@pytest.mark.power
async def test_throttled_key_without_rest_is_caught(
    server: RunningServer, pool: HttpPool
) -> None:
    """A key that goes on being lent is refused again and again."""
    service = Service(server, pool, keys_kind=RestsNever)

    assert (await _throttled(service, FEW))[0] > LIMIT


async def test_busy_provider_tires_no_key(
    server: RunningServer, pool: HttpPool
) -> None:
    """A 503 is about the provider: it is asked once, and no key rests for it."""
    service = Service(server, pool)
    await server.misbehave(status=503, retry_after_s=30)

    with pytest.raises(ModelBusyError):
        await service.ask(1)

    assert sum(await service.shown()) == 1
    await server.misbehave()
    await service.ask_all(12)
    assert min(await service.shown()) > 0


async def test_provider_with_lower_limit_serves_all(
    server: RunningServer, pool: HttpPool
) -> None:
    """Keys with fewer places than we believe rest in turn, and everybody is served."""
    service = Service(server, pool, limit=3)
    slots = UserLimits(total=9, per_user=8)

    async def sleep(seconds: float) -> None:
        service.now_s += seconds
        await asyncio.sleep(0.01)

    guards = ModelGuards(
        limits=slots,
        retry=Retry(attempts=50, rng=random.Random(1), sleep=sleep),
        breaker=CircuitBreaker(failures=1),
    )
    # The third request of each key is refused, and the others are not answered yet.
    await server.misbehave(hold=True, most_per_key=2, retry_after_s=1)

    async def ask(user: int) -> None:
        said = [ChatMessage("user", f"CANARY{user:03}")]
        context = context_of(f"user {user}")
        reply = await guards.complete(service.model, context, said, tools=[])
        assert reply.content == f"Goal: CANARY{user:03}"

    asking = [asyncio.create_task(ask(user)) for user in range(FEW)]
    await server.wait_for(9)
    assert await service.most() == [3, 3, 3]
    await server.misbehave(most_per_key=2, retry_after_s=1)
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(*asking)

    assert slots.free == 9


async def test_nobody_waits_while_all_keys_rest(
    server: RunningServer, pool: HttpPool
) -> None:
    """Each key is asked once; then all come back at its time, and hold nothing."""
    service, slots = Service(server, pool), UserLimits(total=2, per_user=1)
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        assert slots.free == 2
        assert await service.shown() == [1, 1, 1]
        # Nor does anybody else ask, or wait.
        with pytest.raises(KeysBusyError):
            await service.ask(2)
        assert await service.shown() == [1, 1, 1]
        waits.append(seconds)
        service.now_s += seconds
        await server.misbehave()

    retry = Retry(rng=random.Random(1), sleep=sleep)
    guards = ModelGuards(limits=slots, retry=retry, breaker=CircuitBreaker(failures=1))
    await server.misbehave(status=429, retry_after_s=7)
    said = [ChatMessage("user", "hello")]

    async with asyncio.timeout(WITHIN_S):
        reply = await guards.complete(service.model, context_of("ada"), said, tools=[])

    assert reply.content == "Goal: hello"
    assert 7 <= waits[0] <= 8


async def test_no_key_left_is_one_sentence(
    server: RunningServer, pool: HttpPool, caplog: pytest.LogCaptureFixture
) -> None:
    """When all are refused, users are told so, nobody is asked, and no key is shown."""
    caplog.set_level(logging.DEBUG)
    service = Service(server, pool)
    await server.misbehave(status=401)

    told = ""
    for _ in range(2):
        with pytest.raises(ModelNotAskedError, match="MODEL_KEYS") as caught:
            await service.ask(1)
        told += "".join(traceback.format_exception(caught.value))

    assert await service.shown() == [1, 1, 1]
    told += f"{caplog.text} {service.keys!r} {vars(service.keys._pool)}"
    assert not any(key in told for key in KEYS)


async def _wait_for_second_key(service: Service, *, within_s: float) -> None:
    """Let a request be throttled while the other key is held, and need its key again.

    Raises:
        TimeoutError: Two were not served by a key that had rested.
    """
    long = service.model.stream([ChatMessage("user", "long")], tools=[])
    async with contextlib.aclosing(long) as stream:
        await anext(stream)  # the first key is held until the end of this block
        await service.server.misbehave(status=429)
        asking = [asyncio.create_task(service.ask(1))]
        try:
            async with asyncio.timeout(20):
                while not service.keys._pool._places[1].resting_until_s:  # noqa: ASYNC110  # another process
                    await asyncio.sleep(0.01)
            await service.server.misbehave()
            service.now_s += 1
            asking.append(asyncio.create_task(service.ask(2)))
            async with asyncio.timeout(within_s):
                await asyncio.gather(*asking)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            # Read to its end: what httpx leaves in the middle ends whenever it is found.
            async for _ in stream:
                pass


async def test_throttled_request_holds_nothing_while_it_waits(
    server: RunningServer, pool: HttpPool
) -> None:
    """It gives its key back before it asks for the next one."""
    service = Service(server, pool, names=KEYS[:2], limit=1)

    await _wait_for_second_key(service, within_s=20)


@pytest.mark.power
async def test_hold_and_wait_is_caught(server: RunningServer, pool: HttpPool) -> None:
    """Who holds a key and waits for another waits for the one it holds."""
    service = Service(
        server, pool, names=KEYS[:2], limit=1, provider_kind=HoldsWhileWaiting
    )

    with pytest.raises(TimeoutError):
        await _wait_for_second_key(service, within_s=0.5)


async def test_users_who_leave_keep_no_key(
    server: RunningServer, pool: HttpPool
) -> None:
    """After users left at random instants every key has all its places."""
    service, instants = Service(server, pool), random.Random(5)
    await server.misbehave(latency_s=0.01, stall_after=1, ratio=0.5)

    async def leave(user: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(instants.uniform(0, 0.1)):
                await service.ask(user)

    await asyncio.gather(*map(leave, range(USERS)))

    await server.misbehave(hold=True)
    users = [asyncio.create_task(service.ask(user)) for user in range(3 * LIMIT)]
    await server.wait_for(3 * LIMIT)
    await server.misbehave()
    await asyncio.gather(*users)
    with contextlib.suppress(ModelError):
        await service.ask(1)
