"""Work queues with one protection removed each."""

import asyncio
from collections.abc import Hashable
from typing import TypeVar

from app.control import WorkQueue
from app.control.queue import ShutDownError

K = TypeVar("K", bound=Hashable)


class WithoutProcessingSet(WorkQueue[K]):
    """Forgets what is worked on, so a key added meanwhile is handed out beside it."""

    def add(self, key: K) -> None:
        processing, self._processing = self._processing, {}
        super().add(key)
        self._processing = processing

    def done(self, key: K) -> None:
        self._processing.pop(key, None)
        if not self._processing:
            self._tell_if_idle()


class WithoutDirtySet(WorkQueue[K]):
    """Takes an add of a key that is worked on for known."""

    def add(self, key: K) -> None:
        if key not in self._processing:
            super().add(key)


class DirtyUntilDone(WorkQueue[K]):
    """Marks a key clean when its work ends, not when it begins."""

    def done(self, key: K) -> None:
        self._dirty.pop(key, None)
        super().done(key)


class LosingWakeUps(WorkQueue[K]):
    """A getter that is cancelled as it is woken keeps the wake-up."""

    async def get(self) -> K:
        while not self._waiting:
            if self._is_shut_down:
                raise ShutDownError
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            await getter
        return await super().get()


class SleepyShutDown(WorkQueue[K]):
    """Leaves those who wait for a key waiting when it is shut down."""

    def shut_down(self) -> None:
        self._is_shut_down = True
        self._tell_if_idle()
