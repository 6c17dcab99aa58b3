"""The work queue: which keys need work, each worked on by one at a time.

A key that is added while it waits is there once, and one that is added while somebody
works on it waits until that ends and is then worked on once more. So whoever works on a
key sees everything that was said before its last ``add``, nobody works on a key beside
somebody else, and a thousand changes of one thing are one or two pieces of work. Three
collections do it: what waits, in order; what is *dirty* (needs work); what is being
*processed*.

Everything happens in the loop's thread and between two awaits; only ``get`` and
``drain`` wait. The queue owns no task: delays are timers of the loop.

Source: client-go ``util/workqueue`` (Kubernetes), whose semantics these are; the jitter
is ours (Brooker, "Exponential Backoff And Jitter", 2015).
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class ShutDownError(RuntimeError):
    """Raised by ``get`` when the queue was shut down and nothing waits any more."""


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """What a queue holds and has done; times are in seconds of the loop's clock.

    Attributes:
        depth: Keys that wait to be taken.
        processing: Keys that are worked on.
        delayed: Keys that come back later.
        added: Adds that made a key dirty; those of dirty keys do not count.
        taken: Keys that were taken.
        retried: Rate-limited adds.
        waited_s: How long the taken ones waited, together.
        oldest_s: How long the one that waits longest has waited; 0 when none does.
        longest_running_s: How long the longest work under way has taken so far.
    """

    depth: int
    processing: int
    delayed: int
    added: int
    taken: int
    retried: int
    waited_s: float
    oldest_s: float
    longest_running_s: float


class Backoff(Generic[K]):
    """How long a key that failed waits: twice as long each time, up to a cap.

    Half of the wait is drawn, so that keys that failed together come back apart.
    """

    def __init__(
        self, *, base_s: float = 0.05, cap_s: float = 30.0, rng: random.Random
    ) -> None:
        """Wait at most ``base_s`` after the first failure, and never over ``cap_s``."""
        self._base_s, self._cap_s, self._rng = base_s, cap_s, rng
        self._failures: dict[K, int] = {}

    def __len__(self) -> int:
        """Count the keys that have failed and not been forgotten."""
        return len(self._failures)

    def failures(self, key: K) -> int:
        """Return how often a key failed since it was last forgotten."""
        return self._failures.get(key, 0)

    def next_s(self, key: K) -> float:
        """Count a failure, and return how long to wait: half to the whole of the step."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # The exponent is bounded too: 2.0 ** 1024 is no number any more.
        step_s = min(self._cap_s, self._base_s * 2.0 ** min(failures, 64))
        return step_s * self._rng.uniform(0.5, 1.0)

    def forget(self, key: K) -> None:
        """Let the key's next failure be its first."""
        self._failures.pop(key, None)


class WorkQueue(Generic[K]):
    """Keys that need work. For one event loop; not for threads."""

    def __init__(self, backoff: Backoff[K] | None = None) -> None:
        """Make an empty queue whose failed keys wait as ``backoff`` says."""
        self._backoff = backoff or Backoff(rng=random.Random())
        self._waiting: deque[K] = deque()
        self._dirty: dict[K, float] = {}
        self._processing: dict[K, float] = {}
        self._due: dict[K, asyncio.TimerHandle] = {}
        self._getters: deque[asyncio.Future[None]] = deque()
        self._idle = asyncio.Event()
        self._is_shut_down = False
        self._added = self._taken = self._retried = 0
        self._waited_s = 0.0

    @property
    def metrics(self) -> QueueMetrics:
        """What the queue holds and has done."""
        now = asyncio.get_running_loop().time()
        oldest = self._dirty[self._waiting[0]] if self._waiting else now
        return QueueMetrics(
            depth=len(self._waiting),
            processing=len(self._processing),
            delayed=len(self._due),
            added=self._added,
            taken=self._taken,
            retried=self._retried,
            waited_s=self._waited_s,
            oldest_s=now - oldest,
            longest_running_s=now - min(self._processing.values(), default=now),
        )

    def add(self, key: K) -> None:
        """Say that a key needs work; nothing changes when that is known already."""
        if self._is_shut_down or key in self._dirty:
            return
        self._dirty[key] = asyncio.get_running_loop().time()
        self._added += 1
        if key not in self._processing:
            self._enqueue(key)

    def add_after(self, key: K, delay_s: float) -> None:
        """Add a key in ``delay_s`` seconds, or when it was to be added already, if sooner.

        At once when the delay is not positive.
        """
        if self._is_shut_down:
            return
        if delay_s <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + delay_s
        earlier = self._due.get(key)
        if earlier is not None:
            if earlier.when() <= at:
                return
            earlier.cancel()
        self._due[key] = loop.call_at(at, self._come_back, key)

    def add_rate_limited(self, key: K) -> None:
        """Add a key that failed, later the more often it did."""
        if self._is_shut_down:
            return
        self._retried += 1
        self.add_after(key, self._backoff.next_s(key))

    def forget(self, key: K) -> None:
        """Say that a key's work went well: it need not come back for what was before.

        Its next failure is its first, and a delayed add of it is dropped.
        """
        self._backoff.forget(key)
        if (alarm := self._due.pop(key, None)) is not None:
            alarm.cancel()

    def failures(self, key: K) -> int:
        """Return how often a key failed since it was last forgotten."""
        return self._backoff.failures(key)

    async def get(self) -> K:
        """Wait for a key and take it; the caller owes ``done`` for it.

        A caller that is cancelled has taken none.

        Raises:
            ShutDownError: The queue was shut down and is empty.
        """
        while not self._waiting:
            if self._is_shut_down:
                message = "The queue was shut down."
                raise ShutDownError(message)
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                # Woken and cancelled at one time: the key is somebody else's to take.
                if getter.done() and not getter.cancelled():
                    self._wake_one()
                raise
            finally:
                with contextlib.suppress(ValueError):
                    self._getters.remove(getter)
        key = self._waiting.popleft()
        now = asyncio.get_running_loop().time()
        self._waited_s += now - self._dirty.pop(key)
        self._processing[key] = now
        self._taken += 1
        return key

    def done(self, key: K) -> None:
        """End the work on a key; it waits again if it was added meanwhile.

        Raises:
            ValueError: Nobody works on it.
        """
        if key not in self._processing:
            message = f"done({key!r}): nobody works on it. Call it once after each get."
            raise ValueError(message)
        del self._processing[key]
        if key in self._dirty:
            self._enqueue(key)
        elif not self._processing:
            self._tell_if_idle()

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[K]:
        """Take a key for the block, whichever way the block ends.

        Raises:
            ShutDownError: The queue was shut down and is empty.
        """
        key = await self.get()
        try:
            yield key
        finally:
            self.done(key)

    def shut_down(self) -> None:
        """Take no more keys: what waits can still be taken, what is delayed is dropped."""
        self._is_shut_down = True
        for alarm in self._due.values():
            alarm.cancel()
        self._due.clear()
        while self._getters:
            self._wake_one()
        self._tell_if_idle()

    async def drain(self) -> None:
        """Shut down, and wait until everything that waited has been taken and is done."""
        self.shut_down()
        await self._idle.wait()

    def _enqueue(self, key: K) -> None:
        self._waiting.append(key)
        self._wake_one()

    def _wake_one(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def _tell_if_idle(self) -> None:
        if self._is_shut_down and not self._waiting and not self._processing:
            self._idle.set()

    def _come_back(self, key: K) -> None:
        del self._due[key]
        self.add(key)
