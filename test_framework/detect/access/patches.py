"""Listens to asyncio's locks, events, queues and conditions.

A semaphore of one is a lock; a larger one lets several in and protects nothing.
"""

import asyncio
import functools
import sys
from collections.abc import Callable
from typing import Any

from test_framework.detect.access.signals import Signals, bear

_TELLS = (
    (asyncio.Event, "set"),
    (asyncio.Queue, "put_nowait"),
    (asyncio.Condition, "notify"),
)
_WAITS = (
    (asyncio.Event, "wait"),
    (asyncio.Condition, "wait"),
    (asyncio.Queue, "get"),
)
_TAKES = ((asyncio.Queue, "get_nowait"),)
_LOCKS = (asyncio.Lock, asyncio.Semaphore)


class Patches:
    """Patches asyncio's means of telling and excluding; ``stop`` takes that back."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._replaced: list[tuple[type, str, Any, Any]] = []

    def start(self) -> None:
        """Begin to listen."""
        for cls, name in _TELLS:
            self._replace(cls, name, self._telling)
        for cls, name in _TAKES:
            self._replace(cls, name, self._taking)
        for cls, name in _WAITS:
            self._replace(cls, name, self._waiting)
        self._replace(asyncio.Lock, "__init__", self._making)
        for lock in _LOCKS:
            self._replace(lock, "acquire", self._locking)
            self._replace(lock, "release", self._releasing)

    def stop(self) -> None:
        """Put back what was replaced, unless somebody replaced it after us."""
        for cls, name, original, ours in reversed(self._replaced):
            if vars(cls).get(name) is ours:
                setattr(cls, name, original)
        self._replaced.clear()

    def _replace(
        self, cls: type, name: str, wrap: Callable[[Callable[..., Any]], Any]
    ) -> None:
        original = vars(cls)[name]
        ours = functools.wraps(original)(wrap(original))
        setattr(cls, name, ours)
        self._replaced.append((cls, name, original, ours))

    def _telling(self, original: Callable[..., Any]) -> Callable[..., Any]:
        signal = self._signals.tell

        def tell(source: Any, *args: Any, **kwargs: Any) -> Any:
            signal(source)
            return original(source, *args, **kwargs)

        return tell

    def _taking(self, original: Callable[..., Any]) -> Callable[..., Any]:
        hear = self._signals.hear

        def take(source: Any, *args: Any, **kwargs: Any) -> Any:
            taken = original(source, *args, **kwargs)
            hear(source)
            return taken

        return take

    def _waiting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        hear = self._signals.hear

        async def heard(source: Any, caller: Any, args: Any, kwargs: Any) -> Any:
            waited = await original(source, *args, **kwargs)
            hear(source)
            hear(source, caller)
            return waited

        def wait(source: Any, *args: Any, **kwargs: Any) -> Any:
            # Who asks is not always who waits: on Python 3.11 ``wait_for`` makes a task.
            return heard(source, self._signals.who(), args, kwargs)

        return wait

    def _making(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def make(lock: Any, *args: Any, **kwargs: Any) -> None:
            original(lock, *args, **kwargs)
            bear(lock, sys._getframe(1))

        return make

    def _locking(self, original: Callable[..., Any]) -> Callable[..., Any]:
        take = self._signals.take

        def acquire(lock: Any, *args: Any, **kwargs: Any) -> Any:
            # No coroutine around the other one: that costs more than all the rest.
            if getattr(lock, "_value", 1) <= 1:
                take(lock)
            return original(lock, *args, **kwargs)

        return acquire

    def _releasing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        give_back = self._signals.release

        def release(lock: Any, *args: Any, **kwargs: Any) -> Any:
            give_back(lock)
            return original(lock, *args, **kwargs)

        return release
