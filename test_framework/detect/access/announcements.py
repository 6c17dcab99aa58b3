"""Notes who told whom, by events, queues and conditions, that something is ready.

A worker that fills in a job and then sets its event has announced what it wrote, and
whoever waited for the event may read it. Locks and semaphores are no announcements:
two short critical sections, one after the other, still lose an update.

Only the direct announcement counts, from the writer to the reader. Were it passed on,
every request that goes through one shared worker would be excused.

Source: ad-hoc synchronisation in Raychev et al., EventRacer (OOPSLA 2013).
"""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from test_framework.detect.access.ledger import Ledger

_TELLS = (
    (asyncio.Event, "set"),
    (asyncio.Queue, "put_nowait"),
    (asyncio.Condition, "notify"),
)
_WAITS = ((asyncio.Event, "wait"), (asyncio.Condition, "wait"))
_TAKES = ((asyncio.Queue, "get_nowait"),)


class Announcements:
    """Patches asyncio's means of telling; ``stop`` takes that back."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._replaced: list[tuple[type, str, Any, Any]] = []

    def start(self) -> None:
        """Begin to listen."""
        for cls, name in _TELLS:
            self._replace(cls, name, self._telling)
        for cls, name in _TAKES:
            self._replace(cls, name, self._taking)
        for cls, name in _WAITS:
            self._replace(cls, name, self._waiting)

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
        signal = self._ledger.signal

        def tell(source: Any, *args: Any, **kwargs: Any) -> Any:
            signal(source)
            return original(source, *args, **kwargs)

        return tell

    def _taking(self, original: Callable[..., Any]) -> Callable[..., Any]:
        hear = self._ledger.hear

        def take(source: Any, *args: Any, **kwargs: Any) -> Any:
            taken = original(source, *args, **kwargs)
            hear(source)
            return taken

        return take

    def _waiting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        hear = self._ledger.hear

        async def wait(source: Any, *args: Any, **kwargs: Any) -> Any:
            waited = await original(source, *args, **kwargs)
            hear(source)
            return waited

        return wait
