"""What happens to the processes of a service: killed, stopped, their clock set."""

import asyncio
from typing import TYPE_CHECKING, ClassVar

from test_framework.core import UsageError

if TYPE_CHECKING:
    from test_framework.faults.field import Field
    from test_framework.services import Host

TWO_HOURS_S = 7200.0
"""Longer than access tokens live."""


class _WorkerFault:
    """A disturbance of worker processes, which this run must have started."""

    def lacks(self, field: "Field") -> str | None:
        """Return why it cannot strike: the processes are somebody else's."""
        if field.host is None:
            return (
                "the worker processes were not started by this run; name the service "
                "as module:app instead of a URL."
            )
        return None


class KillWorker(_WorkerFault):
    """A worker is ended with SIGKILL; another one starts when it heals."""

    name: ClassVar[str] = "kill-worker"
    promise: ClassVar[str] = (
        "What was acknowledged is there, runs of the dead worker end or go on, and "
        "users who come again are served by the living."
    )

    async def strike(self, field: "Field") -> None:
        """Kill one worker, which is drawn."""
        host = _host(field)
        host.kill(field.rng.randrange(len(host.pids)))

    async def heal(self, field: "Field") -> None:
        """Start another one in its place."""
        if field.host is not None:
            await asyncio.to_thread(field.host.replace)


class StopWorker(_WorkerFault):
    """A worker is stopped with SIGSTOP: it holds all that it had, and does nothing."""

    name: ClassVar[str] = "stop-worker"
    promise: ClassVar[str] = (
        "Users of the other workers notice nothing, and what the stopped one believed "
        "to hold it checks when it goes on."
    )

    async def strike(self, field: "Field") -> None:
        """Stop one worker, which is drawn."""
        host = _host(field)
        host.stop(field.rng.randrange(len(host.pids)))

    async def heal(self, field: "Field") -> None:
        """Let it go on."""
        if field.host is not None:
            field.host.resume()


class ClockJump(_WorkerFault):
    """The wall clock of the workers jumps, and jumps back when it heals.

    The clocks of Postgres, Redis and users stay, and so do all monotonic clocks.
    """

    promise: ClassVar[str] = (
        "Nobody is taken for somebody else, timeouts do not fire early or never, and "
        "users are welcome again once the clock is right."
    )

    def __init__(self, *, by_s: float = TWO_HOURS_S) -> None:
        """Jump forth by ``by_s`` seconds, or back when it is negative.

        Raises:
            UsageError: The clock would not move.
        """
        if not by_s:
            message = "by_s=0: the clock would not move. Pass more than a token's life."
            raise UsageError(message)
        self.by_s = by_s

    @property
    def name(self) -> str:
        """Which way it jumps first."""
        return "clock-jump" if self.by_s > 0 else "clock-jump-back"

    async def strike(self, field: "Field") -> None:
        """Set the clock of all workers."""
        _host(field).set_clock(self.by_s)

    async def heal(self, field: "Field") -> None:
        """Set it right."""
        if field.host is not None:
            field.host.set_clock(0)


def jump_back() -> ClockJump:
    """Return a clock that jumps back first."""
    return ClockJump(by_s=-TWO_HOURS_S)


def _host(field: "Field") -> "Host":
    if field.host is None:
        message = (
            "There is no worker process on this field. Ask the fault what it lacks."
        )
        raise UsageError(message)
    return field.host
