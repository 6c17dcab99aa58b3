"""When a run is cut off, and what is known of it then."""

import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from test_framework.battery.config import RaceTestConfig
from test_framework.battery.journal import Pending
from test_framework.core import NS_PER_S, AlarmRecord, Clock, MonotonicClock

POLL_S = 0.02
"""How often a run is looked at."""

GRACE_S = 1.0
"""How long workers that were told to stop may take for it."""


@dataclass(frozen=True, slots=True)
class Hang:
    """A run that was cut off.

    Attributes:
        reason: Why, as a part of a sentence.
        is_quiet: Whether nothing ended any more; else it only ran out of time.
        since_ns: When the last operation ended, or the run began.
        at_ns: When it was cut off.
        pending: The operations that had not ended.
        stacks: Where each worker stood, by its number.
        alarms: What the deadlock watcher saw: the circle of waiting, if there was one.
        abandoned: Workers that could not be stopped.
    """

    reason: str
    is_quiet: bool
    since_ns: int
    at_ns: int
    pending: tuple[Pending, ...] = ()
    stacks: Mapping[int, str] = field(default_factory=dict)
    alarms: tuple[AlarmRecord, ...] = ()
    abandoned: tuple[int, ...] = ()


class Patience:
    """Tells when a run has lasted, or was quiet, for too long.

    Args:
        config: How long that is.
        clock: Tells the time.
    """

    def __init__(self, config: RaceTestConfig, clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock or MonotonicClock()
        self.began_ns = self._moved_ns = self._clock.now_ns()
        self._progress = 0

    def is_over(self, progress: int) -> Hang | None:
        """Return why the run is to be cut off; None while it may go on.

        Args:
            progress: Counts up with each operation; 0 before the first begins, for
                which workers have all the time of the run.
        """
        now_ns = self._clock.now_ns()
        if progress != self._progress or not progress:
            self._progress, self._moved_ns = progress, now_ns
        quiet_s, timeout_s = self._config.quiet_s, self._config.timeout_s
        if now_ns - self.began_ns > timeout_s * NS_PER_S:
            reason, is_quiet = f"it was not done within {timeout_s:g} s", False
        elif now_ns - self._moved_ns > quiet_s * NS_PER_S:
            reason, is_quiet = f"nothing ended for {quiet_s:g} s", True
        else:
            return None
        return Hang(reason, is_quiet, self._moved_ns, now_ns)


def stacks_of_threads(idents: Mapping[int, int | None]) -> dict[int, str]:
    """Return where threads of this process stand.

    Args:
        idents: Of each worker, the identity of its thread.
    """
    frames = sys._current_frames()  # noqa: SLF001  # documented, for debuggers
    return {
        worker: lines_of(traceback.extract_stack(frames[ident]))
        for worker, ident in idents.items()
        if ident in frames
    }


def lines_of(stack: Iterable[traceback.FrameSummary]) -> str:
    """Return a stack as lines, without those of this package and of the interpreter."""
    from_here = [
        frame
        for frame in stack
        if not frame.filename.startswith((sys.base_prefix, _OWN))
    ]
    return "".join(traceback.format_list(from_here)).rstrip()


_OWN = __file__.removesuffix("patience.py")
