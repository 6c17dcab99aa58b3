"""Conformance of a lock: one holder at a time, and whoever waits gets it in the end.

Each scenario takes a fresh lock. Cancellation strikes while a worker waits, and anywhere
from the acquire to the release. A lease is held for longer than it lasts: its holder
goes on to act, and must be refused if another one has acted meanwhile.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from test_framework.battery.config import RaceTestConfig
from test_framework.battery.conformance import Conformance, Evidence, Scenario
from test_framework.battery.holding import (
    check_exclusion,
    check_fairness,
    check_fencing,
    check_progress,
    holds_of,
)
from test_framework.battery.locks.lock import Lease, Mutex, ReadWriteLock
from test_framework.battery.preemption import block_briefly
from test_framework.battery.subject import Make, Offer, settled
from test_framework.battery.worker import CANCELLED, Work, Worker
from test_framework.check.witness import Checked

MAX_STAY = 4
"""Turns of the loop that a worker stays inside."""

BLOCK_SHARE = 0.5
READ_SHARE = 0.7
STALL_SHARE = 0.15
_MOST_ACTS = 100
"""Turns of all workers: a part of them waits for the end of a lease."""

STALL_TTLS = 1.5
"""How long a worker that stalls keeps a lease, in times of its life."""

AnyLock = Mutex | Lease | ReadWriteLock


@dataclass(frozen=True, slots=True)
class _UntilAllAreDone:
    """Keeps every worker connected to the end.

    A connection that is closed gives back what its worker forgot: too early, and nobody
    would wait for it in vain.
    """

    turn: Work[Any]

    async def __call__(self, worker: Worker[Any]) -> None:
        is_last = worker.iteration + 1 == worker.config.iterations
        try:
            await settled(self.turn(worker))
        except Exception:
            if is_last:
                await worker.meet()
            raise
        if is_last:
            await worker.meet()


async def _stay(worker: Worker[Any]) -> None:
    """Have the lock for a while, so that others come and wait."""
    if worker.config.kind != "task" and worker.rng.random() < BLOCK_SHARE:
        block_briefly(worker.rng)
    for _ in range(worker.rng.randrange(MAX_STAY)):
        await asyncio.sleep(0)


async def _hold(worker: Worker[Any], kind: str = "") -> None:
    """Acquire, stay, release, as one should."""
    lock, journal = worker.shared, worker.journal
    acquire, release = f"acquire{kind}", f"release{kind}"
    if await journal.call(acquire, getattr(lock, acquire)) is False:
        return
    try:
        await _stay(worker)
    finally:
        await journal.call(release, getattr(lock, release))


async def _take_turn(worker: Worker[Any]) -> None:
    await _hold(worker)
    await worker.pause()


async def _take_round(worker: Worker[Any]) -> None:
    await worker.meet()
    await _take_turn(worker)


async def _wait_cancelled(worker: Worker[Any]) -> None:
    if worker.rng.random() >= worker.config.cancellations:
        await _take_turn(worker)
        return
    granted = await worker.cancelled(
        worker.journal.call("acquire", worker.shared.acquire)
    )
    if granted is not CANCELLED and granted is not False:
        await worker.journal.call("release", worker.shared.release)


async def _hold_cancelled(worker: Worker[Any]) -> None:
    if worker.rng.random() >= worker.config.cancellations:
        await _take_turn(worker)
    else:
        await worker.cancelled(_hold(worker))


async def _read_or_write(worker: Worker[Any]) -> None:
    is_read = worker.rng.random() < READ_SHARE
    await _hold(worker, "_read" if is_read else "_write")
    await worker.pause()


async def _read_together(worker: Worker[Any]) -> None:
    lock, journal = worker.shared, worker.journal
    await worker.meet()
    await journal.call("acquire_read", lock.acquire_read)
    try:
        # All others have the lock as well when this ends, or it does not end.
        await worker.meet()
    finally:
        await journal.call("release_read", lock.release_read)


async def _act(worker: Worker[Any]) -> None:
    lease, journal = worker.shared, worker.journal
    token = await journal.call("acquire", lease.acquire)
    try:
        if worker.rng.random() < STALL_SHARE:
            await asyncio.sleep(lease.ttl_s * STALL_TTLS)
        else:
            await _stay(worker)
        await journal.call("act", lease.act, token)
    finally:
        await journal.call("release", lease.release)
    await worker.pause()


def _judge(evidence: Evidence) -> Iterator[Checked]:
    ttl_s = getattr(evidence.subject, "ttl_s", None)
    calls = evidence.run.calls()
    yield check_exclusion(holds_of(calls, ttl_s=ttl_s))
    yield check_progress(calls, evidence.run.hang, ttl_s=ttl_s)


def _judge_lease(evidence: Evidence) -> Iterator[Checked]:
    yield from _judge(evidence)
    yield check_fencing(evidence.run.calls(), ttl_s=evidence.subject.ttl_s)


class MutexRaceTest(Conformance[AnyLock]):
    """Conformance of a ``Mutex``, a ``Lease`` or a ``ReadWriteLock``.

    Scenarios: ``exclusion`` (one holder at a time), ``rounds`` (all come at once, and
    nobody later who would wake a waiter that was forgotten), ``waiting`` (those who
    wait are cancelled), ``holding`` (a whole turn is cancelled anywhere), ``readers``
    (readers share, writers do not), ``sharing`` (all read at the same time),
    ``fencing`` (a lease that has ended acts no more).

    Args:
        make: Makes a fresh lock, such as ``asyncio.Lock``.
        overtakes: How often others that came later may get the lock before one that
            waits; None if it promises nothing, as most locks of threads do.
        name: What reports call it.
    """

    protocol: ClassVar[tuple[str, ...]] = (
        *("acquire", "release", "act"),
        *("acquire_read", "release_read", "acquire_write", "release_write"),
    )

    def __init__(
        self,
        make: Make[AnyLock],
        *,
        overtakes: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(make, name=name)
        self._overtakes = overtakes

    scenarios: ClassVar[tuple[Scenario, ...]] = (
        Scenario(
            "exclusion", ("acquire", "release"), _UntilAllAreDone(_take_turn), _judge
        ),
        Scenario(
            "rounds", ("acquire", "release"), _UntilAllAreDone(_take_round), _judge
        ),
        Scenario(
            "waiting",
            ("acquire", "release"),
            _UntilAllAreDone(_wait_cancelled),
            _judge,
            is_cancelling=True,
        ),
        Scenario(
            "holding",
            ("acquire", "release"),
            _UntilAllAreDone(_hold_cancelled),
            _judge,
            is_cancelling=True,
        ),
        Scenario(
            "readers",
            ("acquire_read", "release_read", "acquire_write", "release_write"),
            _UntilAllAreDone(_read_or_write),
            _judge,
        ),
        Scenario(
            "sharing",
            ("acquire_read", "release_read"),
            _UntilAllAreDone(_read_together),
            _judge,
            needs_overlap=False,
        ),
        Scenario(
            "fencing",
            ("acquire", "release", "act"),
            _UntilAllAreDone(_act),
            _judge_lease,
            most=_MOST_ACTS,
        ),
    )

    def obstacle(self, scenario: Scenario, offer: Offer, config: RaceTestConfig) -> str:
        """Return why a scenario cannot be played; empty if it can."""
        has_any = any(name in offer.methods for name in self.protocol)
        if has_any and config.kind == "task" and not offer.is_async:
            return 'it blocks the loop of all tasks while it waits: use kind="thread"'
        return super().obstacle(scenario, offer, config)

    def judge(self, scenario: Scenario, evidence: Evidence) -> Iterator[Checked]:
        """Say what the history of a scenario shows, and whether anyone starved."""
        yield from super().judge(scenario, evidence)
        if evidence.run.config.check_ordering:
            yield check_fairness(evidence.run.calls(), overtakes=self._overtakes)
