"""The controllers of this process: a candidate, and what it does while it leads.

The leader lists open keys, puts what is new into a work queue and lets a few workers
reconcile. A key that is listed again at the same revision is in the queue's hands
already, so its retries keep their waits; once in a while all are put in again, for
whatever was forgotten.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable

from app.control.election import Candidate, Election, pause, raise_lost_cancellation
from app.control.planner import Planner
from app.control.queue import Backoff, QueueMetrics, ShutDownError, WorkQueue
from app.control.reconcilers import ContextFactory, Desk, reconcile
from app.monitoring import log_event
from app.storage import (
    ConflictError,
    ControlKey,
    Leadership,
    SessionFactory,
    StaleLeaderError,
    list_open_keys,
)

POLL_S = 0.1
RESYNC_S = 30.0
DRAIN_S = 5.0
MOST_KEYS = 10_000
_log = logging.getLogger("app.control")

Reconcile = Callable[[Desk, ControlKey, Leadership], Awaitable[float | None]]


class Controllers:
    """Reconciles the things of all users, in one process of all that are started."""

    def __init__(
        self,
        election: Election | None,
        *,
        sessions: SessionFactory,
        planner: Planner,
        workers: int = 4,
        reconcile: Reconcile = reconcile,
    ) -> None:
        """Make what stands in ``election`` and reconciles when elected.

        Args:
            election: Chooses the process that leads; None never leads.
            sessions: Opens sessions, over connections of the controllers' own.
            planner: Turns words into changes.
            workers: How many things are worked on at one time (count, >= 1).
            reconcile: Makes a step of one thing.
        """
        self._candidate = Candidate(election) if election is not None else None
        self._sessions = sessions
        self._planner = planner
        self._workers = workers
        self._reconcile = reconcile
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._queue: WorkQueue[ControlKey] | None = None

    @property
    def leadership(self) -> Leadership | None:
        """What this process leads with; None while it does not."""
        return self._candidate.leadership if self._candidate is not None else None

    @property
    def metrics(self) -> QueueMetrics | None:
        """What the work queue holds and has done; None while this process leads not."""
        return self._queue.metrics if self._queue is not None else None

    async def start(self, contexts: ContextFactory) -> None:
        """Begin to stand for election; ``contexts`` makes the contexts of users."""
        if self._candidate is None:
            return
        desk = Desk(self._sessions, contexts, self._planner)

        async def lead(leadership: Leadership) -> None:
            await self.lead(desk, leadership)

        self._task = asyncio.create_task(
            self._candidate.run(lead, stopping=self._stopping), name="controllers"
        )

    async def close(self) -> None:
        """Finish what is queued, resign, and stand no more; takes ``DRAIN_S`` at most."""
        self._stopping.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=DRAIN_S)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def lead(self, desk: Desk, leadership: Leadership) -> None:
        """Reconcile until it is time to stop, then drain.

        Raises:
            ExceptionGroup: Of a StaleLeaderError: another leader was elected.
        """
        queue = self._queue = WorkQueue(Backoff(cap_s=5.0, rng=random.Random()))
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(
                        self._work(desk, queue, leadership), name=f"reconciler {number}"
                    )
                await self._list_until_stopped(desk, queue)
                await queue.drain()
        finally:
            queue.shut_down()
            self._queue = None

    async def _list_until_stopped(
        self, desk: Desk, queue: WorkQueue[ControlKey]
    ) -> None:
        loop = asyncio.get_running_loop()
        known: dict[ControlKey, int] = {}
        resync_at = loop.time() + RESYNC_S
        while not self._stopping.is_set():
            raise_lost_cancellation()
            async with desk.sessions.for_control() as session:
                found = await list_open_keys(session, limit=MOST_KEYS)
            if loop.time() >= resync_at:
                known, resync_at = {}, loop.time() + RESYNC_S
            for key, revision in found.items():
                if known.get(key) != revision:
                    queue.add(key)
            known = found
            await pause(self._stopping, POLL_S)

    async def _work(
        self, desk: Desk, queue: WorkQueue[ControlKey], leadership: Leadership
    ) -> None:
        task = asyncio.current_task()
        with contextlib.suppress(ShutDownError):
            # Not only until cancelled: what is awaited may swallow a cancellation
            # (gh-86296), and the work of a term must end with it.
            while task is None or not task.cancelling():
                async with queue.taken() as key:
                    await self._step(desk, queue, key, leadership)

    async def _step(
        self,
        desk: Desk,
        queue: WorkQueue[ControlKey],
        key: ControlKey,
        leadership: Leadership,
    ) -> None:
        try:
            again_s = await self._reconcile(desk, key, leadership)
        except StaleLeaderError:
            raise  # nothing that is written would be kept
        except ConflictError:
            queue.add_rate_limited(key)
        except Exception as exc:  # noqa: BLE001  # one thing's failure is not the others'
            log_event(
                _log,
                "control.reconcile_failed",
                level=logging.WARNING,
                problem=type(exc).__name__,
                user_id=key.user_id,
                kind=key.kind,
                failures=queue.failures(key),
            )
            queue.add_rate_limited(key)
        else:
            queue.forget(key)
            if again_s is not None:
                queue.add_after(key, again_s)
