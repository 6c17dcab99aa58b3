"""Collects calls for a moment and makes one of them.

A batch goes out when it is full, or some milliseconds after its first member came.
Every member has a number, and gets what came back under that number: where it stands
in the batch means nothing, since members leave. One that is cancelled before the batch
goes out is not in it; later its result is dropped, and a batch that all have left is
cancelled.

When the provider refuses a batch as wrong, its halves are sent again, down to the one
member whose item it refuses: somebody's poison fails that one alone, for the cost of
some calls more. When the provider is down, all members hear of it.
"""

import asyncio
import contextvars
import copy
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from app.llm.client import ModelError, ModelRejectedError
from app.monitoring import log_event

MAX_ITEMS = 64
MAX_WAIT_S = 0.005
_log = logging.getLogger("app.llm")

Item = TypeVar("Item")
Result = TypeVar("Result")

Process = Callable[[Mapping[int, Item]], Awaitable[Mapping[int, Result]]]
"""Does a batch: items by number in, results by the same numbers out."""


@dataclass(slots=True, eq=False)
class _Batch(Generic[Item, Result]):
    """A batch: what its members sent, and who waits for what comes of it."""

    items: dict[int, Item] = field(default_factory=dict)
    waiting: "dict[int, asyncio.Future[Result]]" = field(default_factory=dict)
    task: "asyncio.Task[None] | None" = None

    def leave(self, number: int) -> None:
        """Do without a member."""
        del self.waiting[number]
        if self.task is None:
            del self.items[number]
        elif not self.waiting:
            self.task.cancel()


class Batcher(Generic[Item, Result]):
    """Makes batches of the calls of all users."""

    def __init__(
        self,
        process: Process[Item, Result],
        *,
        max_items: int = MAX_ITEMS,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        """Do batches of up to ``max_items`` with ``process``."""
        self._process = process
        self._max_items = max_items
        self._max_wait_s = max_wait_s
        self._numbers = itertools.count()
        self._next: _Batch[Item, Result] = _Batch()
        self._timer: asyncio.TimerHandle | None = None
        self._sent: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def submit(self, item: Item) -> Result:
        """Return what a batch brings for this item.

        Raises:
            ModelRejectedError: The provider refuses this item.
            ModelError: The batch failed, brought nothing for it, or was closed.
        """
        if self._is_closed:
            raise _stopped()
        loop = asyncio.get_running_loop()
        number, batch = next(self._numbers), self._next
        future: asyncio.Future[Result] = loop.create_future()
        batch.items[number], batch.waiting[number] = item, future
        if len(batch.items) >= self._max_items:
            self._send()
        elif self._timer is None:
            self._timer = loop.call_later(self._max_wait_s, self._send)
        try:
            return await future
        except asyncio.CancelledError:
            if number in batch.waiting:
                batch.leave(number)
            raise

    async def aclose(self) -> None:
        """Take no more items, end the batches, and tell their members."""
        self._is_closed = True
        self._send()
        sent = set(self._sent)
        for task in sent:
            task.cancel()
        if sent:
            await asyncio.wait(sent)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._next = self._next, _Batch()
        if not batch.items:
            return
        # A context of its own: a batch is nobody's, so it carries nobody's variables.
        batch.task = asyncio.create_task(
            self._work(batch, batch.items), name="batch", context=contextvars.Context()
        )
        self._sent.add(batch.task)
        batch.task.add_done_callback(lambda task: self._end(batch, task))

    async def _work(
        self, batch: _Batch[Item, Result], items: Mapping[int, Item]
    ) -> None:
        try:
            results = await self._process(items)
        except ModelRejectedError as exc:
            if len(items) == 1:
                self._fail(batch, items, exc)
                return
            numbers = sorted(items)
            half = len(numbers) // 2
            for part in (numbers[:half], numbers[half:]):
                # Without those who have left meanwhile.
                left = {n: items[n] for n in part if n in batch.waiting}
                if left:
                    await self._work(batch, left)
        except ModelError as exc:
            self._fail(batch, items, exc)
        else:
            for number in items:
                future = batch.waiting.pop(number, None)
                if future is None:
                    continue
                if number in results:
                    future.set_result(results[number])
                else:
                    message = "The model answered others of the batch and not this one."
                    future.set_exception(ModelError(message))

    def _fail(
        self,
        batch: _Batch[Item, Result],
        items: Mapping[int, Item],
        error: ModelError,
    ) -> None:
        for number in items:
            if future := batch.waiting.pop(number, None):
                # A copy each: a shared one would gather the stacks of several users.
                future.set_exception(copy.copy(error))

    def _end(self, batch: _Batch[Item, Result], task: "asyncio.Task[None]") -> None:
        self._sent.discard(task)
        if task.cancelled():
            self._fail(batch, batch.items, _stopped())
        elif error := task.exception():
            log_event(_log, "batch.crashed", level=logging.ERROR, error=error)
            message = f"The batch failed ({type(error).__name__})."
            self._fail(batch, batch.items, ModelError(message))


def _stopped() -> ModelError:
    return ModelError("The service stops and asks the model no more. Try again.")
