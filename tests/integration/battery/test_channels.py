"""Channels over Redis, Postgres and WebSockets: sound ones pass, twins are caught.

A twin is missed by at most 1 of 10 seeds (measured: docs/battery.md), so that all of
three miss it happens once in 1,000 runs at most.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from test_framework.battery import ChannelRaceTest, RaceTestConfig
from test_framework.battery.channels import (
    PostgresNotifyChannel,
    PostgresQueueChannel,
    RedisListChannel,
    RedisPubSubChannel,
    RedisReliableListChannel,
    RedisStreamChannel,
    WebSocketChannel,
)
from test_framework.check.channels import Delivery
from test_framework.core import TargetError, Verdict
from tests.integration.battery import server_channel_twins as twins

pytestmark = pytest.mark.integration

SEEDS = 3
QUIET_S = 1.0
"""A twin that hangs is given up after it; a sound channel has more time."""

SOUND = [
    RedisListChannel,
    RedisReliableListChannel,
    RedisStreamChannel,
    RedisPubSubChannel,
    PostgresNotifyChannel,
    PostgresQueueChannel,
    WebSocketChannel,
]

TWINS = [
    (twins.RedisStack, "reordered message"),
    (twins.RedisPeek, "duplicate message"),
    (twins.RedisCarelessList, "lost message"),
    (twins.RedisUngrouped, "duplicate message"),
    (twins.RedisLatest, "lost message"),
    (twins.RedisWildcard, "misdelivered message"),
    (twins.PostgresUnlocked, "duplicate message"),
    (twins.PostgresNewest, "reordered message"),
    (twins.PostgresLateListener, "lost wake-up"),
    (twins.PostgresBroadcast, "misdelivered message"),
    (twins.WebSocketSharedTarget, "misdelivered message"),
    (twins.WebSocketDropping, "lost message"),
    (twins.WebSocketUnordered, "reordered message"),
    (twins.WebSocketRetrying, "duplicate message"),
]


@pytest.fixture
def make(database_url: str, redis_url: str) -> Callable[[type], Awaitable[Any]]:
    """Return what makes a channel on the service that it needs."""

    async def make(channel: type) -> Any:  # noqa: ANN401  # a channel
        if channel.__name__.startswith("Redis"):
            return await channel(redis_url).open()
        if channel.__name__.startswith("Postgres"):
            return await channel(database_url).open()
        return await channel().open()

    return make


def conformance(
    channel: type, make: Callable[[type], Awaitable[Any]], *, rounds: int = 10
) -> ChannelRaceTest:
    """Return the test of a channel."""
    return ChannelRaceTest(lambda: make(channel), name=channel.__name__, rounds=rounds)


def config(seed: int, *, quiet_s: float = 5.0) -> RaceTestConfig:
    """Return a small run; how often it finds each twin is what was measured."""
    return RaceTestConfig(workers=6, iterations=25, seed=seed, quiet_s=quiet_s)


@pytest.mark.parametrize("channel", SOUND)
async def test_sound_channel_of_server_is_valid(
    channel: type, make: Callable[[type], Awaitable[Any]]
) -> None:
    """Nothing is found wrong with a channel that is right."""
    report = await conformance(channel, make, rounds=1).run(config(1))

    assert report.verdict is Verdict.VALID


@pytest.mark.parametrize(
    "channel",
    [RedisListChannel, RedisReliableListChannel, RedisStreamChannel],
)
async def test_addressed_list_or_stream_is_valid(
    channel: Callable[..., Any], redis_url: str
) -> None:
    """With a key for each consumer, the same channels keep messages apart."""

    def addressed() -> Any:  # noqa: ANN401  # a channel
        return channel(redis_url, is_addressed=True)

    report = await ChannelRaceTest(addressed, rounds=0).run(config(2))

    assert report.verdict is Verdict.VALID


@pytest.mark.long
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("channel", SOUND)
async def test_sound_channel_of_server_is_valid_over_100_seeds(
    channel: type, make: Callable[[type], Awaitable[Any]]
) -> None:
    """The same for each of a hundred seeds: ``run`` raises what is not valid."""
    for seed in range(100):
        await conformance(channel, make, rounds=1).run(config(seed))


@pytest.mark.power
@pytest.mark.parametrize(("channel", "anomaly"), TWINS)
async def test_channel_twin_of_server_is_caught(
    channel: type, anomaly: str, make: Callable[[type], Awaitable[Any]]
) -> None:
    """Each wrong channel is told by the name of what it does wrong."""
    found: set[str] = set()
    for seed in range(SEEDS):
        report = await conformance(channel, make).check(config(seed, quiet_s=QUIET_S))
        found |= {one.name for one in report.anomalies}
        if anomaly in found:
            break

    assert anomaly in found


@pytest.mark.long
@pytest.mark.usefixtures("patient")
@pytest.mark.power
@pytest.mark.parametrize(("channel", "anomaly"), TWINS)
async def test_channel_twin_of_server_is_caught_by_most_seeds(
    channel: type, anomaly: str, make: Callable[[type], Awaitable[Any]]
) -> None:
    """At least 80 of 100 seeds catch it; docs/battery.md says how many did."""
    caught = 0
    for seed in range(100):
        report = await conformance(channel, make).check(config(seed, quiet_s=QUIET_S))
        caught += anomaly in {one.name for one in report.anomalies}

    print(f"{channel.__name__}: {caught} of 100 seeds")  # noqa: T201  # the measurement
    assert caught >= 80


async def test_subscription_promises_at_most_once(redis_url: str) -> None:
    """Pub/sub may lose by its promise; held to exactly once, it is told so."""
    assert RedisPubSubChannel.promise.delivery is Delivery.AT_MOST_ONCE

    class Deaf(RedisPubSubChannel):
        """Of which every tenth message is not sent at all."""

        async def send(self, message: str, to: int) -> None:
            if not message.partition(" ")[0].endswith("7"):
                await super().send(message, to)

    as_promised = ChannelRaceTest(lambda: Deaf(redis_url), rounds=0)
    exactly_once = ChannelRaceTest(
        lambda: Deaf(redis_url), PostgresNotifyChannel.promise, rounds=0
    )

    assert (await as_promised.check(config(1))).verdict is Verdict.VALID
    report = await exactly_once.check(config(1))
    assert {one.name for one in report.anomalies} == {"lost message"}


@pytest.mark.parametrize(
    "channel",
    [
        RedisListChannel("redis://127.0.0.1:1/0"),
        PostgresQueueChannel("postgresql://127.0.0.1:1/none"),
    ],
)
async def test_channel_of_service_that_is_down_says_so(channel: Any) -> None:  # noqa: ANN401  # either
    """Nobody listens there: it is told, and what to do."""
    with pytest.raises(TargetError, match="does not answer"):
        await ChannelRaceTest(channel.open).check(config(1))
