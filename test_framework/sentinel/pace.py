"""How fast synthetic users knock: in waves, at a bounded rate.

Requests that came one by one at a low rate would never meet, and a round in which
nobody meets proves nothing. So requests wait for one another for a moment and leave
together; the next wave waits until the rate has paid for the last one. The mean rate
is bounded and the users still are at once.
"""

import asyncio
from typing import TYPE_CHECKING

from test_framework.sentinel.timing import Timekeeper

if TYPE_CHECKING:
    import httpx

GATHER_S = 0.01
"""How long the first request of a wave waits for others."""
DRAIN_S = 5.0
_POLL_S = 0.05


class _Wave:
    def __init__(self) -> None:
        self.size = 1
        self.opened = asyncio.Event()


class Pace:
    """Holds back the requests of one round.

    Args:
        rate_per_s: Requests per second over all users, in the mean (> 0).
        time: Instants and pauses.
    """

    def __init__(self, rate_per_s: float, time: Timekeeper) -> None:
        self._rate_per_s = rate_per_s
        self._time = time
        self._free_at_s = 0.0
        self._wave: _Wave | None = None
        self._is_closed = False
        self._under_way = 0

    async def before(self, _: "httpx.Request") -> None:
        """Wait for the next wave; for ever once the pace is drained."""
        await self._join_a_wave()
        if self._is_closed:
            await asyncio.Event().wait()
        self._under_way += 1

    async def after(self, _: "httpx.Response") -> None:
        """One request was answered."""
        self._under_way = max(0, self._under_way - 1)

    async def _join_a_wave(self) -> None:
        wave = self._wave
        if wave is not None:
            wave.size += 1
            await wave.opened.wait()
            return
        wave = self._wave = _Wave()
        try:
            pause_s = self._free_at_s - self._time.now_s()
            await self._time.sleep(max(GATHER_S, pause_s))
        finally:
            # Also when the first of a wave is cancelled: the others go.
            self._wave = None
            self._free_at_s = self._time.now_s() + wave.size / self._rate_per_s
            wave.opened.set()

    async def drain(self) -> None:
        """Let no further request leave, and wait for answers, for a few seconds."""
        self._is_closed = True
        until_s = self._time.now_s() + DRAIN_S
        # A request that failed is never answered and counts until the time is up.
        while self._under_way and self._time.now_s() < until_s:
            await self._time.sleep(_POLL_S)
