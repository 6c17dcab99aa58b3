"""Elections: one of several processes leads, and knows when it may not any more.

A term is a lease. It is renewed while its leader lives, and the leader's work runs
within a scope whose deadline lies before the end of the lease: not renewed in time,
the work is cancelled first, and only then can another be elected. That is by the
clock, and a process that is stopped looks at no clock; so the leader also shows its
epoch with each write, and the database refuses an old one (``storage.leaderships``).
The clock makes two leaders rare, the epoch makes them harmless.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from app.monitoring import log_event
from app.storage import Leadership

SAFE_SHARE = 2 / 3
"""The share of a lease that its leader works; the rest is for its work to end."""
RENEWALS = 4
"""How often a term is renewed in the time of one lease."""
_log = logging.getLogger("app.control")

Work = Callable[[Leadership], Awaitable[None]]


class Term(Protocol):
    """The time for which one candidate leads."""

    @property
    def leadership(self) -> Leadership:
        """What its leader shows with each write."""
        ...

    @property
    def asked_at(self) -> float:
        """When it was asked for, by the clock of the loop: it lasts a lease from then."""
        ...

    async def renew(self) -> bool:
        """Let it last a lease from now; False when it is over.

        Raises:
            Exception: Nobody knows.
        """
        ...

    async def resign(self) -> None:
        """End it, so that another can be elected at once; raises nothing of its own."""
        ...


class Election(Protocol):
    """Chooses one leader among its candidates."""

    @property
    def lease_s(self) -> float:
        """How long a term lasts unless it is renewed, seconds."""
        ...

    async def stand(self) -> Term | None:
        """Try to be elected, once; None while somebody else leads."""
        ...


class Candidate:
    """Stands for election again and again, and works while it leads."""

    def __init__(self, election: Election, *, rng: random.Random | None = None) -> None:
        """Stand in ``election``; ``rng`` spreads the tries of several candidates."""
        self._election = election
        self._rng = rng or random.Random()
        self._leadership: Leadership | None = None

    @property
    def leadership(self) -> Leadership | None:
        """What this candidate leads with; None while it does not."""
        return self._leadership

    async def run(self, work: Work, *, stopping: asyncio.Event) -> None:
        """Work whenever elected, until ``stopping`` is set and the work has ended.

        Args:
            work: Runs for as long as it likes; cancelled when the term cannot be kept.
            stopping: Ends the candidacy; the work has to look at it itself.
        """
        while not stopping.is_set():
            try:
                term = await self._election.stand()
                if term is not None:
                    await self.serve(term, work)
            except Exception as exc:  # noqa: BLE001  # a candidate stands again, whatever failed
                log_event(
                    _log,
                    "control.term_failed",
                    level=logging.WARNING,
                    problem=type(exc).__name__,
                )
            raise_lost_cancellation()
            retry_s = self._election.lease_s / 6 * self._rng.uniform(0.5, 1.0)
            await pause(stopping, retry_s)

    async def serve(self, term: Term, work: Work) -> None:
        """Work within a term, and end it afterwards."""
        epoch = term.leadership.epoch
        log_event(_log, "control.elected", epoch=epoch)
        self._leadership = term.leadership
        try:
            async with asyncio.timeout_at(self._deadline(term.asked_at)) as scope:
                # A scope that begins after its deadline ends at the first await only.
                await asyncio.sleep(0)
                async with asyncio.TaskGroup() as group:
                    renewing = group.create_task(self._renew(term, scope))
                    await work(term.leadership)
                    renewing.cancel()
        except TimeoutError:
            log_event(_log, "control.term_lost", level=logging.WARNING, epoch=epoch)
        finally:
            self._leadership = None
            await term.resign()

    async def _renew(self, term: Term, scope: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._election.lease_s / RENEWALS)
            asked_at = loop.time()
            try:
                is_mine = await term.renew()
            except Exception as exc:  # noqa: BLE001  # the deadline stands, and ends the work
                log_event(
                    _log,
                    "control.not_renewed",
                    level=logging.WARNING,
                    problem=type(exc).__name__,
                )
                continue
            if scope.expired():
                return
            # One that is over ends now: rescheduled into the past.
            scope.reschedule(self._deadline(asked_at) if is_mine else asked_at)

    def _deadline(self, asked_at: float) -> float:
        return asked_at + self._election.lease_s * SAFE_SHARE


async def pause(stopping: asyncio.Event, pause_s: float) -> None:
    """Wait for a while, or until it is time to stop."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(pause_s):
            await stopping.wait()


def raise_lost_cancellation() -> None:
    """Raise the cancellation of this task that something it awaited has swallowed.

    ``asyncio.wait_for``, which SQLAlchemy's pool waits with, did so until Python 3.12
    (gh-86296).
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
