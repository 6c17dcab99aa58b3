"""Work that a process does every so often, in one task that it owns and ends."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from app.monitoring import log_event

LAST_S = 2.0
_log = logging.getLogger("app.storage")


class Periodic:
    """Does some work again and again; failures are logged, and it is done again."""

    def __init__(
        self, name: str, work: Callable[[], Awaitable[object]], *, every_s: float
    ) -> None:
        """Do ``work`` every ``every_s`` seconds once started."""
        self._name = name
        self._work = work
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with a pause first."""
        self._task = asyncio.create_task(self._repeat(), name=self._name)

    async def close(self) -> None:
        """Stop, and do the work a last time."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            # Not for long: what it needs may be why the service is being stopped.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_S):
                    await self._once()

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self._once()

    async def _once(self) -> None:
        try:
            await self._work()
        except Exception as exc:  # noqa: BLE001  # the next time may go well
            log_event(
                _log,
                f"{self._name}.failed",
                level=logging.WARNING,
                problem=type(exc).__name__,
            )
