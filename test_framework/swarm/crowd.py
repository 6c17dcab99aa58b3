"""Users who act together: rendezvous points and bursts.

A burst is released by last bytes: each member's request has left but for one byte,
and when everybody is ready the bytes are written in one loop. What counts is not
how close the writes are but how close the handlers start; the run measures that in
the service's own processes.
"""

import asyncio
import gc
from collections.abc import Callable

from test_framework.clients.wire import Exchange
from test_framework.core import BurstRecord, Clock, History

PATIENCE_S = 5.0
"""How long a burst waits for a member that never sends; the others go then."""


class Burst:
    """A gate for a known number of requests.

    Args:
        name: Its name in the history.
        expected: Members that will send (count, >= 1).
        shape: Traffic shape it belongs to.
        clock: Source of instants.
        history: Where the burst is recorded.
    """

    def __init__(
        self, name: str, expected: int, *, shape: str, clock: Clock, history: History
    ) -> None:
        self.name = name
        self._expected = expected
        self._shape = shape
        self._clock = clock
        self._history = history
        self._waiting: list[tuple[Exchange, int]] = []
        self._released = asyncio.get_running_loop().create_future()

    async def pass_through(self, exchange: Exchange, operation: int) -> None:
        """Wait for the others, then go with them."""
        if self._released.done():
            exchange.release()
            return
        self._waiting.append((exchange, operation))
        if len(self._waiting) >= self._expected:
            self._release()
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.shield(self._released)
        except TimeoutError:
            if not self._released.done():
                self._release()

    def excuse(self) -> None:
        """Expect one member less: it ended without sending."""
        self._expected -= 1
        if self._waiting and len(self._waiting) >= self._expected:
            self._release()

    def _release(self) -> None:
        if self._released.done():
            return
        # A collection in the middle would part the burst by tens of milliseconds.
        was_enabled = gc.isenabled()
        gc.disable()
        first_ns = self._clock.now_ns()
        for exchange, _ in self._waiting:
            exchange.release()
        last_ns = self._clock.now_ns()
        if was_enabled:
            gc.enable()
        self._released.set_result(None)
        self._history.add(
            BurstRecord(
                name=self.name,
                shape=self._shape,
                ops=tuple(operation for _, operation in self._waiting),
                first_release_ns=first_ns,
                last_release_ns=last_ns,
            )
        )


class Crowd:
    """Members of one shape who can meet by name and be released together.

    Args:
        size: How many members there are (count, >= 1).
        make_burst: Makes the burst of a name for a number of members.
    """

    def __init__(self, size: int, make_burst: Callable[[str, int], Burst]) -> None:
        self._size = size
        self._make_burst = make_burst
        self._arrived: dict[str, list[asyncio.Future[Burst]]] = {}
        self._bursts: list[Burst] = []

    async def meet(self, name: str) -> Burst:
        """Wait until every member that still runs has come to ``name``.

        When all of them wait, but at different names, the name that was reached
        first opens for those who are there.
        """
        future: asyncio.Future[Burst] = asyncio.get_running_loop().create_future()
        self._arrived.setdefault(name, []).append(future)
        self._open_full()
        return await future

    def leave(self) -> None:
        """One member has ended; those who wait for it need not."""
        self._size -= 1
        self._open_full()

    def _open_full(self) -> None:
        while self._arrived:
            name = next(
                (
                    name
                    for name, here in self._arrived.items()
                    if len(here) >= self._size
                ),
                None,
            )
            if name is None:
                waiting = sum(len(here) for here in self._arrived.values())
                if waiting < self._size:
                    return
                # Everybody waits, at different names: nobody can come any more to
                # the name that was reached first, so it opens for who is there.
                name = next(iter(self._arrived))
            self._open(name)

    def _open(self, name: str) -> None:
        here = self._arrived.pop(name)
        burst = self._make_burst(name, len(here))
        for future in here:
            if not future.done():
                future.set_result(burst)
            else:
                burst.excuse()
