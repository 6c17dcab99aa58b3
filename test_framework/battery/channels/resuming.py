"""A receive that is cancelled goes on, and the consumer's next one returns its message."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any


class Resuming:
    """Keeps what a consumer takes out of reach of cancellation.

    A command over the wire cannot be taken back, so cancelling it leaves open whether
    the server took a message for it. Here it goes on in a task of its own, which the
    next receive of the same consumer waits for.

    Args:
        take: Takes the next message of a consumer from the server.
    """

    def __init__(self, take: Callable[[int], Coroutine[Any, Any, str]]) -> None:
        self._take = take
        self._taking: dict[int, asyncio.Task[str]] = {}

    async def receive(self, consumer: int) -> str:
        """Return the message that is being taken already, or take one."""
        taking = self._taking.get(consumer)
        if taking is None:
            taking = self._taking[consumer] = asyncio.create_task(self._take(consumer))
        await asyncio.wait({taking})
        del self._taking[consumer]
        return taking.result()

    async def stop(self) -> None:
        """End what is still being taken."""
        for taking in self._taking.values():
            taking.cancel()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await taking
