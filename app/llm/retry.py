"""Come back later, when the provider asks for it: bounded in number and in time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from app.llm.client import ModelBusyError

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often and how long.

    Attributes:
        attempts: Calls in all, the first one included.
        longest_wait_s: A provider that asks for more is not waited for.
        first_wait_s: The wait when it names none; it doubles each time, and a part of
            up to a half is drawn at random so that callers do not come back together.
        rng: Draws that part.
        sleep: Waits so many seconds.
    """

    attempts: int = 3
    longest_wait_s: float = 10.0
    first_wait_s: float = 0.5
    rng: random.Random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Return what an attempt returns.

        Raises:
            ModelBusyError: The last one was asked to come back later still, or too late.
            Exception: What an attempt raised otherwise.
        """
        for number in range(1, self.attempts):
            try:
                return await attempt()
            except ModelBusyError as exc:
                wait_s = self._wait_s(number, exc)
                if wait_s > self.longest_wait_s:
                    raise
            await self.sleep(wait_s)
        return await attempt()

    def _wait_s(self, number: int, exc: ModelBusyError) -> float:
        if exc.retry_after_s is not None:
            # Never earlier than asked for, and not all at one instant.
            return exc.retry_after_s + self.rng.uniform(0, self.first_wait_s / 2)
        wait_s = self.first_wait_s * (1 << (number - 1))
        return wait_s * self.rng.uniform(0.5, 1.0)
