"""The keys of this process: one snapshot, exchanged as a whole, refreshed by one flight.

Keys are rotated by some worker and read by all. A key is published long before it
signs, so whoever reads them every few seconds knows it in time. A worker that does meet
a token of an unknown key looks again before it refuses: one look for all who wait, and
never more than one in ``gap_s``, so that a flood of invented names costs one query in
that time and not one each.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import Context

from app.security.signing import KeyPair, KeySet

GAP_S = 0.2
"""Least time between two looks for an unknown key, in seconds."""

STALE_S = 60.0
"""Age from which a snapshot must not sign any more: its key may have been retired."""

_THUMBPRINT_CHARS = 43

Load = Callable[[float], Awaitable[KeySet]]
"""Reads the keys; it is given the instant before, which the snapshot carries."""


class StaleKeysError(RuntimeError):
    """Raised when a worker could not read the keys for so long that it must not sign."""


class KeyRing:
    """Holds the newest snapshot, and reads another one when it is asked to."""

    def __init__(
        self,
        keys: KeySet,
        load: Load | None = None,
        *,
        gap_s: float = GAP_S,
        stale_s: float = STALE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with ``keys``.

        Args:
            keys: The first snapshot.
            load: Reads another one; None for keys that stay as they are.
            gap_s: Least time between two reads.
            stale_s: Greatest age of a snapshot that signs.
            clock: Tells seconds; one that never goes back.
        """
        self._keys = keys
        self._load = load
        self._gap_s = gap_s
        self._stale_s = stale_s
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._begun_at_s = keys.read_at_s
        self._next: asyncio.Task[None] | None = None
        self._flights: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> KeySet:
        """The newest snapshot. Take it once for one use, and everything from it."""
        return self._keys

    @property
    def signing(self) -> KeyPair:
        """The key that signs.

        Raises:
            StaleKeysError: The keys were not read for too long. Tokens of a retired key
                are verified only until those that were signed in time have expired.
        """
        keys = self._keys
        if self._load and self._clock() - keys.read_at_s > self._stale_s:
            message = (
                f"The signing keys were last read more than {self._stale_s:g} s ago, "
                "so this worker signs nothing. Check that it reaches Postgres."
            )
            raise StaleKeysError(message)
        return keys.signing

    async def find(self, kid: str) -> KeySet:
        """Return a snapshot with a key, or one that was read after this call began.

        Raises whatever reading the keys raises.
        """
        # A name that no key can have is not worth a look.
        if kid not in self._keys.verifying and len(kid) == _THUMBPRINT_CHARS:
            await self.refresh()
        return self._keys

    async def refresh(self) -> None:
        """Read the keys; on return the snapshot is from after the call.

        A read that is under way may have begun before a key was stored, so callers wait
        for the next one, together. A caller that is cancelled takes nothing from others.
        """
        if self._load is None:
            return
        if self._next is None:
            # In a context of its own: it works for all who wait, and for no user.
            self._next = asyncio.create_task(
                self._read(self._load), name="keys.read", context=Context()
            )
            self._flights.add(self._next)
            self._next.add_done_callback(self._landed)
        await asyncio.shield(self._next)

    async def aclose(self) -> None:
        """End reads that are under way."""
        flights = tuple(self._flights)
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _read(self, load: Load) -> None:
        # One after the other, the round trip included: an older snapshot never takes the
        # place of a newer one, and a database that is slow gets no more to do for it.
        async with self._one_at_a_time:
            await asyncio.sleep(self._begun_at_s + self._gap_s - self._clock())
            self._next = None
            self._begun_at_s = self._clock()
            self._keys = await load(self._begun_at_s)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        if self._next is flight:
            self._next = None
        if not flight.cancelled():
            # All who waited may have left: nobody else reads what went wrong.
            flight.exception()
