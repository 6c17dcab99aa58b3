"""Health: is the process alive, and can it reach what it needs.

Liveness touches nothing, so a database outage does not make the orchestrator restart
healthy processes. Readiness asks every dependency at once. It cannot hang: a check is
awaited for a limited time, also one that does not let itself be cancelled, and the
checks use connections of their own, so a pool that users exhausted does not look like
an outage. It cannot flap or be flooded: many askers share one round, its result is
kept for a moment, and a dependency changes sides after several results in a row.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from app.monitoring.metrics import Metrics
from app.monitoring.signals import Signal

CHECK_TIMEOUT_S = 2.0
KEPT_S = 1.0
FALL = 2
RISE = 2
BEAT_S = 0.5
STALL_S = 5.0
"""A loop that stood still for longer is not alive."""

State = Literal["starting", "ready", "down", "draining"]
Check = Callable[[], Awaitable[object]]
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What the readiness check found.

    Attributes:
        is_ready: The service may be sent requests.
        state: Why: ``starting`` until all dependencies answered once, ``down`` while
            one of them is taken to be down, ``draining`` once the service stops.
        checks: Per dependency ``"ok"`` or the kind of the latest error.
    """

    is_ready: bool
    state: State
    checks: Mapping[str, str]


class _Dependency:
    """One dependency: its latest result and which side it is taken to be on."""

    def __init__(self, check: Check, *, fall: int, rise: int) -> None:
        self.result = "not asked"
        self.is_up = False
        self._check = check
        self._fall = fall
        # The first good answer is enough: there is nothing to flap from.
        self._needed = 1
        self._rise = rise
        self._streak = 0
        self._asking: asyncio.Task[object] | None = None

    async def ask(self, timeout_s: float) -> None:
        self.result = await self._outcome(timeout_s)
        is_good = self.result == "ok"
        self._streak = 0 if is_good == self.is_up else self._streak + 1
        if self._streak and self._streak >= self._needed:
            self.is_up, self._streak = is_good, 0
            self._needed = self._fall if is_good else self._rise

    async def _outcome(self, timeout_s: float) -> str:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(_run(self._check))
            self._asking.add_done_callback(_retrieve)
        # Not ``asyncio.timeout``: that waits until a cancelled check gives in.
        done, _ = await asyncio.wait({self._asking}, timeout=timeout_s)
        if not done:
            self._asking.cancel()
            return "TimeoutError"
        if self._asking.cancelled():
            return "CancelledError"
        error = self._asking.exception()
        return "ok" if error is None else type(error).__name__

    async def close(self) -> None:
        if self._asking is not None and not self._asking.done():
            self._asking.cancel()
            await asyncio.wait({self._asking}, timeout=CHECK_TIMEOUT_S)


class HealthChecks:
    """The dependencies to ask, by name."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        *,
        timeout_s: float = CHECK_TIMEOUT_S,
        kept_s: float = KEPT_S,
        fall: int = FALL,
        rise: int = RISE,
        clock: Clock = time.monotonic,
    ) -> None:
        """Ask nothing yet.

        Args:
            checks: Each awaits an answer of a dependency, over connections that no
                request can take.
            timeout_s: Longest wait for one answer.
            kept_s: For how long a result is handed out without asking again.
            fall: Bad results in a row that take a dependency down (count, >= 1).
            rise: Good results in a row that take it up again (count, >= 1).
            clock: Seconds that only grow.
        """
        self._dependencies = {
            name: _Dependency(check, fall=fall, rise=rise)
            for name, check in checks.items()
        }
        self._timeout_s = timeout_s
        self._kept_s = kept_s
        self._clock = clock
        self._asked_at = float("-inf")
        self._round: asyncio.Task[None] | None = None
        self._was_up = False
        self._is_draining = False

    async def report(self) -> HealthReport:
        """Return the state of all dependencies; takes ``timeout_s`` at most."""
        is_due = self._clock() - self._asked_at >= self._kept_s
        if is_due and not self._is_draining:
            if self._round is None or self._round.done():
                self._round = asyncio.create_task(self._ask_all(), name="health")
            # Who leaves does not take the round away from the others.
            await asyncio.wait({self._round})
        return self._told()

    def drain(self) -> None:
        """Tell from now on that no new requests should come."""
        self._is_draining = True

    async def close(self) -> None:
        """End what is being asked; not ready for good."""
        self.drain()
        if self._round is not None:
            self._round.cancel()
            await asyncio.wait({self._round})
        for dependency in self._dependencies.values():
            await dependency.close()

    def signals(self) -> Iterator[Signal]:
        """Yield an alert for each dependency that is taken to be down."""
        for name, one in self._dependencies.items():
            if self._was_up and not one.is_up:
                yield Signal(
                    "dependency-down",
                    name,
                    "critical",
                    f"{name} does not answer the service: {one.result}.",
                )

    async def _ask_all(self) -> None:
        await asyncio.gather(
            *(one.ask(self._timeout_s) for one in self._dependencies.values())
        )
        self._was_up = self._was_up or self._are_up
        self._asked_at = self._clock()

    @property
    def _are_up(self) -> bool:
        return all(one.is_up for one in self._dependencies.values())

    def _told(self) -> HealthReport:
        checks = {name: one.result for name, one in self._dependencies.items()}
        state: State = "starting"
        if self._is_draining:
            state = "draining"
        elif self._are_up:
            state = "ready"
        elif self._was_up:
            state = "down"
        return HealthReport(state == "ready", state, checks)


class Heartbeat:
    """Measures whether the event loop goes on, by a timer that should be punctual.

    While the loop stands still nobody is answered at all, which is how an orchestrator
    with a time limit sees it. This is for what comes after: the stall is counted, and
    ``is_alive`` is False until a beat has been punctual again.
    """

    def __init__(
        self,
        metrics: Metrics | None = None,
        *,
        beat_s: float = BEAT_S,
        stall_s: float = STALL_S,
        clock: Clock = time.monotonic,
    ) -> None:
        """Beat every ``beat_s`` seconds of ``clock``; ``stall_s`` late is a stall."""
        self._clock = clock
        self._metrics = metrics
        self._beat_s = beat_s
        self._stall_s = stall_s
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_late = False

    @property
    def is_alive(self) -> bool:
        """Whether the loop has gone on in time."""
        if self._timer is None:
            return True  # not started: there is nothing to say
        return not self._is_late and self._clock() - self._due_s < self._stall_s

    def start(self) -> None:
        """Begin to beat in the running loop."""
        self._schedule(asyncio.get_running_loop())

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def signals(self) -> Iterator[Signal]:
        """Yield an alert while the latest beat was a stall."""
        if not self.is_alive:
            yield Signal(
                "event-loop-stalls",
                "event loop",
                "warning",
                f"The event loop of a worker stood still for {self._stall_s} s or more.",
            )

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_s = self._clock() + self._beat_s
        self._timer = loop.call_later(self._beat_s, self._beat, loop)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_late = self._clock() - self._due_s >= self._stall_s
        if self._is_late and self._metrics is not None:
            self._metrics.stalls.inc()
        self._schedule(loop)


async def _run(check: Check) -> object:
    return await check()


def _retrieve(asking: asyncio.Task[object]) -> None:
    # Its error may come after nobody waits any more, and was told as a timeout then.
    if not asking.cancelled():
        asking.exception()
