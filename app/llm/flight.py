"""Single flight: of many who want the same thing at one time, one fetches it for all.

The work is a task of its own, so whoever is cancelled while waiting leaves the others
alone; when the last one has left, the work is cancelled too. What failed is told to
those who waited and forgotten, so the next caller begins anew.
(The idea and the name: Go's ``golang.org/x/sync/singleflight``.)
"""

import asyncio
import contextvars
import copy
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.llm.client import ModelError

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


@dataclass(slots=True)
class _Flight(Generic[Result]):
    task: "asyncio.Task[Result]"
    waiting: int = 0


class SingleFlight(Generic[Key, Result]):
    """Flights by key; results are handed on and not kept."""

    def __init__(self) -> None:
        """Start with no flight."""
        self._flights: dict[Key, _Flight[Result]] = {}
        self._tasks: set[asyncio.Task[Result]] = set()

    def __len__(self) -> int:
        """Count the flights that can be joined."""
        return len(self._flights)

    async def join(self, key: Key, work: Callable[[], Awaitable[Result]]) -> Result:
        """Return what the flight of ``key`` brings; begin it with ``work`` if none is.

        Raises:
            ModelError: The flight was ended by ``aclose``.
            Exception: What the work raised; each who waited gets a copy.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._begin(key, work)
        task = flight.task
        flight.waiting += 1
        try:
            # Not awaited itself: a waiter's cancellation would cancel it.
            await asyncio.wait({task})
        except asyncio.CancelledError:
            flight.waiting -= 1
            if not flight.waiting:
                # Forgotten first: a newcomer must not join what is about to end.
                self._forget(key, flight)
                task.cancel()
                await asyncio.wait({task})
            raise
        if task.cancelled():
            message = "The service stops and asks the model no more. Try again."
            raise ModelError(message)
        if error := task.exception():
            # A copy: a shared one would gather the stacks of all who waited.
            raise copy.copy(error) from error
        return task.result()

    async def aclose(self) -> None:
        """Cancel all flights and return when they have ended."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(
        self, key: Key, work: Callable[[], Awaitable[Result]]
    ) -> _Flight[Result]:
        async def fly() -> Result:
            return await work()

        # A context of its own: the first caller's variables are not the others'.
        task = asyncio.create_task(fly(), name="flight", context=contextvars.Context())
        flight = self._flights[key] = _Flight(task)
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    def _land(self, key: Key, flight: _Flight[Result]) -> None:
        self._forget(key, flight)
        self._tasks.discard(flight.task)
        if not flight.task.cancelled():
            flight.task.exception()  # looked at: all who waited may have left

    def _forget(self, key: Key, flight: _Flight[Result]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
