"""Channels of tasks, threads and processes: sound ones pass, twins are caught.

A twin is missed by at most 1 of 10 seeds (measured: docs/battery.md), so that all of
three miss it happens once in 1,000 runs at most.
"""

import asyncio
import threading
from collections import deque

import pytest

from test_framework.battery import (
    ChannelRaceTest,
    RaceFailure,
    RaceTestConfig,
    WorkerKind,
)
from test_framework.battery.channel_room import Watchdog
from test_framework.battery.channels import (
    AsyncioChannel,
    AsyncioMailboxes,
    AsyncioRendezvous,
    ProcessChannel,
    ThreadChannel,
)
from test_framework.check.channels import Delivery, Promise
from test_framework.core import UsageError, Verdict
from tests.unit.battery import channel_twins as twins

SEEDS = 3
QUIET_S = 1.0
"""A twin that hangs is given up after it; a sound channel has more time."""

SOUND: list[tuple[WorkerKind, type]] = [
    ("task", AsyncioChannel),
    ("task", AsyncioMailboxes),
    ("task", AsyncioRendezvous),
    ("thread", ThreadChannel),
    ("process", ProcessChannel),
]

TWINS: list[tuple[WorkerKind, type, str]] = [
    ("task", twins.LifoChannel, "reordered message"),
    ("task", twins.OverwritingChannel, "lost message"),
    ("task", twins.PeekingChannel, "duplicate message"),
    ("task", twins.SharedAddressChannel, "misdelivered message"),
    ("task", twins.BoundlessChannel, "overfull channel"),
    ("task", twins.SleepyChannel, "lost wake-up"),
    ("task", twins.SleepyRendezvous, "lost wake-up"),
    ("task", twins.HandingChannel, "lost message"),
    ("task", twins.RetryingChannel, "duplicate message"),
    ("task", twins.GluingChannel, "phantom message"),
    ("thread", twins.ThreadLifoChannel, "reordered message"),
    ("thread", twins.ThreadOverwritingChannel, "lost message"),
    ("thread", twins.ThreadPeekingChannel, "lost message"),
    ("thread", twins.ThreadSharedAddressChannel, "misdelivered message"),
    ("thread", twins.ThreadSleepyChannel, "lost wake-up"),
    ("process", twins.ProcessRingChannel, "duplicate message"),
    ("process", twins.ProcessRingChannel, "lost message"),
    ("process", twins.ProcessTwoQueues, "reordered message"),
    ("process", twins.ProcessSharedAddress, "misdelivered message"),
]


def config(kind: WorkerKind, seed: int, *, quiet_s: float = 5.0) -> RaceTestConfig:
    """Return a small run; how often it finds each twin is what was measured."""
    return RaceTestConfig(
        kind=kind, workers=6, iterations=60, seed=seed, quiet_s=quiet_s
    )


@pytest.mark.parametrize(("kind", "channel"), SOUND)
async def test_sound_channel_is_valid(kind: WorkerKind, channel: type) -> None:
    """No seed finds anything wrong with a channel that is right."""
    for seed in range(SEEDS if kind == "task" else 1):
        report = await ChannelRaceTest(channel).run(config(kind, seed))

        assert report.verdict is Verdict.VALID


@pytest.mark.long
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(("kind", "channel"), SOUND)
async def test_sound_channel_is_valid_over_100_seeds(
    kind: WorkerKind, channel: type
) -> None:
    """The same for each of a hundred seeds: ``run`` raises what is not valid."""
    for seed in range(100):
        await ChannelRaceTest(channel).run(config(kind, seed))


@pytest.mark.power
@pytest.mark.parametrize(("kind", "channel", "anomaly"), TWINS)
async def test_channel_twin_is_caught(
    kind: WorkerKind, channel: type, anomaly: str
) -> None:
    """Each wrong channel is told by the name of what it does wrong."""
    found: set[str] = set()
    for seed in range(SEEDS):
        report = await ChannelRaceTest(channel).check(
            config(kind, seed, quiet_s=QUIET_S)
        )
        found |= {one.name for one in report.anomalies}
        if anomaly in found:
            break

    assert anomaly in found


@pytest.mark.long
@pytest.mark.usefixtures("patient")
@pytest.mark.power
@pytest.mark.parametrize(("kind", "channel", "anomaly"), TWINS)
async def test_channel_twin_is_caught_by_most_seeds(
    kind: WorkerKind, channel: type, anomaly: str
) -> None:
    """At least 80 of 100 seeds catch it; docs/battery.md says how many did."""
    caught = 0
    for seed in range(100):
        report = await ChannelRaceTest(channel).check(
            config(kind, seed, quiet_s=QUIET_S)
        )
        caught += anomaly in {one.name for one in report.anomalies}

    print(f"{channel.__name__}: {caught} of 100 seeds")  # noqa: T201  # the measurement
    assert caught >= 80


async def test_own_channel_takes_five_lines() -> None:
    """A queue of a user gets the whole suite; no promise means once and in order."""

    class Mine:
        def __init__(self) -> None:
            self.queue: asyncio.PriorityQueue[str] = asyncio.PriorityQueue()

        async def send(self, message: str, to: int) -> None:  # noqa: ARG002  # for any
            await self.queue.put(message)

        async def receive(self, consumer: int) -> str:  # noqa: ARG002  # any may
            return await self.queue.get()

    with pytest.raises(RaceFailure, match="reordered message") as caught:
        await ChannelRaceTest(Mine).run(config("task", 1))

    assert caught.value.report.verdict is Verdict.INVALID


async def test_witness_shows_both_messages_that_changed_places() -> None:
    """A message that overtook is shown with the one it overtook, sends and receives."""
    report = await ChannelRaceTest(twins.LifoChannel).check(config("task", 1))

    first = report.anomalies[0]
    assert [item.label for item in first.items] == ["s1", "s2", "r2", "r1"]
    assert "s1 returned before s2 began" in str(report)


async def test_promise_of_the_caller_comes_first() -> None:
    """What is asked of a channel may be less than it says of itself, or more."""
    loose = Promise(delivery=Delivery.AT_LEAST_ONCE)

    test = ChannelRaceTest(twins.RetryingChannel, loose, rounds=0)

    assert (await test.run(config("task", 1))).verdict is Verdict.VALID


async def test_cancellations_and_throughput_are_reported() -> None:
    """Calls were cancelled while they waited, and a rate and the odds were measured."""
    report = await ChannelRaceTest(AsyncioChannel).run(config("task", 2))

    streamed = next(one for one in report.checks if one.checker == "stream: channel")
    rounds = [one for one in report.checks if "round" in one.checker]
    assert int(streamed.facts["messages per second"]) > 0
    # 183 messages: (1 - 1/1000) ** 183, and a few more for cancelled sends.
    assert 0.7 < float(streamed.facts["odds of missing 1 in 1000"]) < 0.9
    assert len(rounds) == 10
    assert sum(int(one.facts["receives cancelled"]) for one in rounds) > 10


async def test_send_that_never_returns_is_a_stall() -> None:
    """Producers and consumers that wait for each other are shown where they stand."""

    class Stuck(AsyncioChannel):
        async def send(self, message: str, to: int) -> None:  # noqa: ARG002  # it hangs
            await asyncio.Event().wait()

    report = await ChannelRaceTest(Stuck).check(config("task", 1, quiet_s=0.2))

    assert report.verdict is Verdict.INVALID
    assert {one.name for one in report.anomalies} == {"task-stall", "lost wake-up"}
    assert "w and s waited for each other" in str(report)
    assert "Stuck.send" in str(report)


async def test_machine_that_stood_still_ends_nobodys_patience() -> None:
    """A loop that did not turn for longer than the patience has ticked but once."""
    async with Watchdog(0.2) as watchdog:
        await asyncio.sleep(0)
        threading.Event().wait(0.4)
        await asyncio.sleep(0)
        watchdog.rest()


async def test_waiting_in_vain_ends_patience_and_cancellation_passes() -> None:
    """It ends with TimeoutError; who is cancelled from outside is still cancelled."""
    with pytest.raises(TimeoutError):
        async with Watchdog(0.01):
            await asyncio.Event().wait()

    async def wait() -> None:
        async with Watchdog(60):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()


async def test_one_worker_is_no_channel() -> None:
    """A channel has two ends."""
    with pytest.raises(UsageError, match="workers=1: a channel has a producer and"):
        await ChannelRaceTest(AsyncioChannel).check(RaceTestConfig(workers=1))


async def test_channel_without_consumers_gets_a_sentence() -> None:
    """It is named as it is written, with what it should take."""

    class Narrow(AsyncioChannel):
        async def receive(self) -> str:  # type: ignore[override]  # the mistake
            return ""

    with pytest.raises(
        UsageError, match=r"method receive\(\) -> str. A channel has send"
    ):
        await ChannelRaceTest(Narrow).check(config("task", 1))


async def test_what_cannot_receive_is_no_channel() -> None:
    """The missing method is named, with those that a channel has."""
    with pytest.raises(UsageError, match="deque has no method send"):
        await ChannelRaceTest(deque).check(config("task", 1))
