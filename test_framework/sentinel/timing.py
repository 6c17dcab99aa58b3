"""When rounds are held: instants, pauses and the plan of users.

Everything that waits takes a ``Timekeeper``, so tests run a day in a moment.
"""

import asyncio
import math
import random
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from test_framework.core import UsageError

SHORTEST_INTERVAL_S = 1.0
MOST_USERS = 1_000


_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> float:
    """Return the seconds of ``"90"``, ``"60s"``, ``"5m"``, ``"4h"`` or ``"1d"``.

    Raises:
        UsageError: It is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip(), re.ASCII)
    seconds = float(match[1]) * _UNITS_S[match[2]] if match else math.inf
    if seconds == math.inf:
        message = (
            f"{text!r} is no duration. Write a number and s, m, h or d: 60s, 5m, 4h."
        )
        raise UsageError(message)
    return seconds


class Timekeeper(Protocol):
    """A clock that can also be waited on."""

    def now_s(self) -> float:
        """Return the instant in seconds since an arbitrary origin; it never jumps."""
        ...

    def wall_s(self) -> float:
        """Return the Unix time in seconds, for people and for other programs."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; a checkpoint also for zero seconds."""
        ...


class SystemTime:
    """The clock of this machine."""

    def now_s(self) -> float:
        """Return the monotonic instant in seconds."""
        return time.monotonic()

    def wall_s(self) -> float:
        """Return the Unix time in seconds."""
        return datetime.now(UTC).timestamp()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often rounds are held, and with how many users.

    Attributes:
        interval_s: Seconds from one round's start to the next.
        users: Users of an ordinary round (count, >= 2).
        ramp: Users of the rounds that measure capacity, one after the other.
        ramp_every: Each how manieth round is one of these (count, >= 2).
        jitter: Largest delay of a round as a share of the interval, in [0, 1), so that
            many sentinels do not knock at the same instant.
    """

    interval_s: float
    users: int
    ramp: tuple[int, ...] = ()
    ramp_every: int = 10
    jitter: float = 0.1

    def __post_init__(self) -> None:
        """Check what a caller can get wrong.

        Raises:
            UsageError: A value is out of range.
        """
        if not self.interval_s >= SHORTEST_INTERVAL_S:
            message = (
                f"interval={self.interval_s:g} s: at least {SHORTEST_INTERVAL_S:g} s lie "
                "between two rounds. Pass --interval 60s."
            )
            raise UsageError(message)
        for users in (self.users, *self.ramp):
            if not 2 <= users <= MOST_USERS:  # contamination takes two
                message = (
                    f"users={users}: a round takes 2 to {MOST_USERS:,} users, since it "
                    "takes two to see another's data. Pass --users 5."
                )
                raise UsageError(message)
        if self.ramp_every < 2:  # 1 leaves no ordinary rounds for trends
            message = (
                f"ramp_every={self.ramp_every}: trends need ordinary rounds between "
                "those of the ramp. Pass --ramp-every 10."
            )
            raise UsageError(message)

    def users_of(self, number: int) -> int:
        """Return how many users take part in a round, by its number (from 1)."""
        if not self.ramp or number % self.ramp_every:
            return self.users
        return self.ramp[(number // self.ramp_every - 1) % len(self.ramp)]

    def next_start(self, planned_s: float, now_s: float) -> tuple[float, int]:
        """Return the next planned start, and how many were missed.

        A round that takes longer than the interval delays nobody for ever: starts
        that have passed are left out and not made up for.
        """
        passed = max(0.0, now_s - planned_s)
        steps = int(passed // self.interval_s) + 1
        return planned_s + steps * self.interval_s, steps - 1

    def delay_s(self, rng: random.Random) -> float:
        """Return a random delay of a start."""
        return rng.uniform(0, self.jitter * self.interval_s)
