"""From when on the deadlock watcher says something."""

from dataclasses import dataclass

from test_framework.core import UsageError


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on something is worth an alarm.

    Attributes:
        slow_hold_s: A lock was held as long without anybody waiting: a note; seconds.
        slow_wait_s: A task waited as long for a lock whose holder awaited something
            else: a warning; seconds.
        sorted_classes: Lines that make locks of which several may be held at once,
            since the program takes them in one order: ``app/rooms.py:41``.

    Raises:
        UsageError: A duration is negative, or a class is not ``path:line``.
    """

    slow_hold_s: float = 1.0
    slow_wait_s: float = 1.0
    sorted_classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("slow_hold_s", "slow_wait_s"):
            if getattr(self, name) < 0:
                raise UsageError(
                    f"{name}={getattr(self, name)!r}: expected seconds, 0 or more. "
                    "Leave it out for the default of 1 second."
                )
        for line in self.sorted_classes:
            path, _, number = line.rpartition(":")
            if not path or not number.isdecimal():
                raise UsageError(
                    f"sorted_classes: {line!r} is not the line that makes the locks; "
                    "expected path:line, as in app/rooms.py:41. Copy it from the note "
                    "lock-order-undeclared."
                )
