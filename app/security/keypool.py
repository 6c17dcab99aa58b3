"""A pool of keys that are costly to make, or that others limit.

API keys of a provider come with a limit each, key pairs take long to make: few of them
serve many. A key is lent to so many holders as it has places, rests between two uses if it
must, and is chosen by how little it was used. Who waits is served in the order of arrival.
A key that is revoked is lent no more, and whoever holds it is told at once. While all
keys rest, callers wait, or are told how long at once (``longest_rest_s``).

Lending is synchronous once it is possible, so a caller that is cancelled holds either
nothing or a lease that its ``async with`` gives back.
"""

import asyncio
import collections
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class NoKeyLeftError(RuntimeError):
    """Raised when every key of a pool was revoked: waiting would not help."""


class KeysRestError(RuntimeError):
    """Raised when every key rests for longer than a caller is to wait.

    Attributes:
        rest_s: The time until one of them has rested, in seconds.
    """

    def __init__(self, rest_s: float) -> None:
        """Tell how long it takes."""
        super().__init__(f"All keys of the pool rest, {rest_s:.1f} s. Come back then.")
        self.rest_s = rest_s


class Lease(Generic[Key]):
    """A key that was lent.

    Attributes:
        key: The key.
        revoked: Set when the key must not be used any more.
    """

    def __init__(self, key: Key) -> None:
        """Lend ``key``."""
        self.key = key
        self.revoked = asyncio.Event()


@dataclass(slots=True)
class _Place(Generic[Key]):
    key: Key
    uses: int = 0
    resting_until_s: float = 0.0
    leases: set[Lease[Key]] = field(default_factory=set)

    def rest(self, until_s: float) -> None:
        self.resting_until_s = max(self.resting_until_s, until_s)


class KeyPool(Generic[Key]):
    """Lends keys to one caller after the other."""

    def __init__(
        self,
        keys: Iterable[Key],
        *,
        holders: int = 1,
        rest_s: float = 0.0,
        longest_rest_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Hold ``keys``.

        Args:
            keys: What is lent; each is one key, however often it is named.
            holders: How many may hold one key at a time.
            rest_s: How long a key rests after each time that it was lent.
            longest_rest_s: How long callers wait for a key while all rest; when it
                would be longer, they are told instead.
            clock: Tells seconds; one that never goes back.
        """
        self._places = {key: _Place[Key](key) for key in keys}
        self._holders = holders
        self._rest_s = rest_s
        self._longest_rest_s = longest_rest_s
        self._clock = clock
        self._revoked: set[Key] = set()
        self._queue: collections.deque[asyncio.Future[Lease[Key]]] = collections.deque()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def uses(self) -> Mapping[Key, int]:
        """How often each key was lent that was not revoked."""
        return MappingProxyType({p.key: p.uses for p in self._places.values()})

    @property
    def resting_s(self) -> float:
        """Seconds until a key has rested, held or not; 0 when one of them does not."""
        rested_s = min((p.resting_until_s for p in self._places.values()), default=0.0)
        return max(0.0, rested_s - self._clock())

    @contextlib.asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease[Key]]:
        """Lend a key for a block of work.

        Raises:
            NoKeyLeftError: All keys were revoked.
            KeysRestError: All rest for longer than ``longest_rest_s``.
        """
        lease = await self._borrow()
        try:
            yield lease
        finally:
            self._give_back(lease)

    def add(self, key: Key) -> None:
        """Take another key into the pool; one that it has stays as it is.

        Raises:
            ValueError: The key was revoked, and who holds it still may use it.
        """
        if key in self._revoked:
            message = "This key was revoked, and is lent no more. Add a new one."
            raise ValueError(message)
        self._places.setdefault(key, _Place(key))
        self._serve()

    def rest(self, key: Key, seconds: float) -> None:
        """Lend a key to nobody for a while: its provider asked for that."""
        place = self._places.get(key)
        if place is not None:
            place.rest(self._clock() + seconds)
            # All may rest now, for longer than those who wait are to.
            self._serve()

    def revoke(self, key: Key) -> None:
        """Lend a key no more, and tell its holders."""
        place = self._places.pop(key, None)
        if place is None:
            return
        self._revoked.add(key)
        for lease in place.leases:
            lease.revoked.set()
        self._serve()

    async def _borrow(self) -> Lease[Key]:
        # Behind those who wait, even if a key is free: they are about to be served.
        waiting = self._queue_up(is_first=False)
        while True:
            try:
                lease = await waiting
            except asyncio.CancelledError:
                # Served and cancelled at one time: nobody else knows of the lease.
                is_served = waiting.done() and not waiting.cancelled()
                if is_served and waiting.exception() is None:
                    self._give_back(waiting.result())
                raise
            if not lease.revoked.is_set():
                return lease
            # Revoked between being lent and being taken: another one, and no new queue.
            waiting = self._queue_up(is_first=True)

    def _queue_up(self, *, is_first: bool) -> asyncio.Future[Lease[Key]]:
        waiting: asyncio.Future[Lease[Key]] = asyncio.get_running_loop().create_future()
        if is_first:
            self._queue.appendleft(waiting)
        else:
            self._queue.append(waiting)
        self._serve()
        return waiting

    def _give_back(self, lease: Lease[Key]) -> None:
        place = self._places.get(lease.key)
        if place is not None:
            place.leases.remove(lease)
            if self._rest_s:
                place.rest(self._clock() + self._rest_s)
        self._serve()

    def _serve(self) -> None:
        while self._queue:
            if self._queue[0].done():
                self._queue.popleft()
            elif not self._places:
                message = "All keys of the pool were revoked. Add one that is good."
                self._queue.popleft().set_exception(NoKeyLeftError(message))
            elif (rest_s := self.resting_s) > self._longest_rest_s:
                self._queue.popleft().set_exception(KeysRestError(rest_s))
            elif (place := self._free_place()) is not None:
                lease = Lease(place.key)
                place.leases.add(lease)
                place.uses += 1
                self._queue.popleft().set_result(lease)
            else:
                break
        self._set_alarm()

    def _free_place(self) -> _Place[Key] | None:
        now_s = self._clock()
        return min(
            (
                place
                for place in self._places.values()
                if len(place.leases) < self._holders and place.resting_until_s <= now_s
            ),
            key=lambda place: (len(place.leases), place.uses),
            default=None,
        )

    def _set_alarm(self) -> None:
        # Keys that are held wake us when they come back; those that rest do not.
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        resting = [
            place.resting_until_s
            for place in self._places.values()
            if len(place.leases) < self._holders
        ]
        if self._queue and resting:
            pause_s = max(0.0, min(resting) - self._clock())
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(pause_s, self._serve)
