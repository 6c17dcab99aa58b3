"""A clock that jumps, and rounds as a test wants them."""

import asyncio
import random
from collections.abc import Callable, Iterable

from test_framework.core import Verdict
from test_framework.sentinel import (
    Memory,
    Policy,
    Round,
    Schedule,
    Sentinel,
    Trouble,
)

EPOCH_S = 1_700_000_000.0
LEAK = Trouble("foreign-canary-in-response", "user-01 received data of user-00")
SLOW = Trouble("p95-gate", "GET /notes has a P95 of 6.00 s")


class VirtualTime:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now_s(self) -> float:
        """Return the instant."""
        return self._now_s

    def wall_s(self) -> float:
        """Return the instant as Unix time."""
        return EPOCH_S + self._now_s

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._now_s += max(0.0, seconds)
        await asyncio.sleep(0)


def a_round(number: int = 1, *troubles: Trouble, **values: object) -> Round:
    """Return a round: valid, unless something is said of it."""
    facts: dict[str, object] = {
        "started_at": EPOCH_S,
        "seconds": 5.0,
        "users": 5,
        "seed": number,
        "verdict": Verdict.INVALID if troubles else Verdict.VALID,
    }
    return Round(number=number, troubles=troubles, **(facts | values))  # type: ignore[arg-type]  # by name


def unknown(number: int = 1) -> Round:
    """Return a round that proved nothing."""
    return a_round(
        number, verdict=Verdict.UNKNOWN, is_conclusive=False, reason="nobody met"
    )


def down(number: int = 1) -> Round:
    """Return a round that did not reach the service."""
    return a_round(
        number,
        verdict=Verdict.UNKNOWN,
        is_reached=False,
        is_conclusive=False,
        reason="Nobody listens at notes:80.",
    )


Make = Callable[[int], Round]


class Script:
    """An auditor that returns the rounds of a list, and then valid ones."""

    def __init__(
        self, time: VirtualTime, rounds: Iterable[Make] = (), *, takes_s: float = 5.0
    ) -> None:
        self._time = time
        self._rounds = list(rounds)
        self._takes_s = takes_s
        self.started_s: list[float] = []
        self.users: list[int] = []
        self.at_work = 0
        self.most_at_work = 0

    async def hold(self, number: int, users: int) -> Round:
        """Return the next round of the list."""
        self.started_s.append(self._time.now_s())
        self.users.append(users)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        await self._time.sleep(self._takes_s)
        self.at_work -= 1
        make = self._rounds.pop(0) if self._rounds else a_round
        return make(number)

    async def drain(self) -> None:
        """Nothing is under way."""


def make_sentinel(
    auditor: Script, time: VirtualTime, memory: Memory | None = None, **options: object
) -> Sentinel:
    """Return a sentinel on virtual time that stores nothing."""
    parts: dict[str, object] = {
        "schedule": Schedule(interval_s=60, users=5, jitter=0),
        "policy": Policy(),
        "save": lambda _: None,
        "rng": random.Random(1),
    }
    return Sentinel(
        auditor,
        memory if memory is not None else Memory("http://notes"),
        time=time,
        **(parts | options),  # type: ignore[arg-type]  # by name
    )
