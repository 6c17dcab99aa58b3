"""The alert manager's watching: it outlives what fails in it, and ends when told to."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

from app.monitoring import AlertManager, Batch, Delivery, LogSink, Signal
from app.monitoring.signals import Source

_SEEN = Signal("rule", "component", "warning", "Seen.")


class Memory:
    """A store that keeps signals in a list, and may hang.

    Attributes:
        seen: Set by the first signal.
        hangs: Whether taking one in hangs.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self.seen = asyncio.Event()
        self.hangs = 0

    async def see(self, signal: Signal) -> None:
        """Take in a signal."""
        assert signal is _SEEN
        if self.hangs:
            self.hangs -= 1
            await asyncio.Event().wait()
        self.seen.set()

    async def settle(self) -> int:
        """End nothing."""
        return 0

    async def claim(self) -> Batch | None:
        """Have nothing to send."""
        return None

    async def close(self, batch: Batch, delivery: Delivery) -> None:
        """Strike out nothing."""
        raise AssertionError(batch, delivery)


async def _is_seen(store: Memory, *sources: Source) -> bool:
    """Return whether a signal still comes through after what went wrong before."""
    manager = AlertManager(
        store,
        LogSink(),
        sources=sources,
        now=lambda: datetime.now(UTC),
        interval_s=0.01,
    )
    await manager.start()
    try:
        await asyncio.wait_for(store.seen.wait(), 20)
    except TimeoutError:
        return False
    finally:
        await manager.close()
    return True


async def test_failing_source_does_not_end_watching() -> None:
    """A source that raises once is asked again at the next look."""
    failures = iter([ZeroDivisionError(), ValueError()])

    def failing() -> Iterable[Signal]:
        for failure in failures:
            raise failure
        return [_SEEN]

    assert await _is_seen(Memory(), failing)


async def test_hanging_store_does_not_end_watching() -> None:
    """A look that hangs is given up after six intervals, and another one follows."""
    store = Memory()
    store.hangs = 2

    assert await _is_seen(store, lambda: [_SEEN])
