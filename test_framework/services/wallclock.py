"""Moves the wall clock of this process, as a clock that is set forth or back.

The kernel has one wall clock for everybody, and time namespaces leave it out. So what
Python reads it with is replaced: the functions of ``time``, wherever a module holds
them under any name, and ``now`` and ``utcnow`` of ``datetime`` (``today`` asks
``time.time``). Nothing is replaced before the first move.

Monotonic clocks go on as they were, hence timeouts and the event loop do. What escapes:
a function of ``time`` that is kept elsewhere than in a module, such as the default of
a field, and C code that asks the kernel itself.
"""

import ctypes
import datetime as dt
import gc
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

NANOSECONDS = 1_000_000_000


class WallClock:
    """The wall clock of this process; one at most is moved in it."""

    def __init__(self) -> None:
        self._offset_ns = 0
        self._is_installed = False

    def move(self, offset_s: float) -> None:
        """Let the clock be off by so much from now on.

        Args:
            offset_s: Seconds that it is ahead of the true time; 0 is the true time.
        """
        self._offset_ns = round(offset_s * NANOSECONDS)
        if not self._is_installed:
            self._is_installed = True
            self._install()

    def _install(self) -> None:
        true_ns, true_clock, true_clock_ns = (
            time.time_ns,
            time.clock_gettime,
            time.clock_gettime_ns,
        )

        def read_ns() -> int:
            return true_ns() + self._offset_ns

        def read() -> float:
            return read_ns() / NANOSECONDS

        def read_clock(which: int) -> float:
            return read() if which == time.CLOCK_REALTIME else true_clock(which)

        def read_clock_ns(which: int) -> int:
            return read_ns() if which == time.CLOCK_REALTIME else true_clock_ns(which)

        replacements: dict[Callable[..., Any], Callable[..., Any]] = {
            time.time: _Function(read),  # noqa: TID251  # what is replaced
            time.time_ns: _Function(read_ns),
            true_clock: _Function(read_clock),
            true_clock_ns: _Function(read_clock_ns),
        }
        for of_seconds in (time.localtime, time.gmtime, time.ctime):
            replacements[of_seconds] = _Function(_at_present(of_seconds, read))
        for of_tuple in (time.asctime, time.strftime):
            replacements[of_tuple] = _Function(_of_present(of_tuple, read))
        for module in list(sys.modules.values()):
            _replace(module, replacements)
        _patch_datetime(read)


class _Function:
    """A function that is no method when a class holds it, as those of C are not."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # any function's
        return self._function(*args, **kwargs)


def _at_present(
    function: Callable[..., Any], read: Callable[[], float]
) -> Callable[..., Any]:
    """Return a function of seconds whose default is our time."""

    def call(seconds: float | None = None) -> Any:  # noqa: ANN401  # any function's
        return function(read() if seconds is None else seconds)

    return call


def _of_present(
    function: Callable[..., Any], read: Callable[[], float]
) -> Callable[..., Any]:
    """Return a function of a broken-down time, its last argument, with our default."""
    localtime = time.localtime
    needed = 0 if function is time.asctime else 1

    def call(*args: Any) -> Any:  # noqa: ANN401  # any function's
        return function(*args, *(() if len(args) > needed else (localtime(read()),)))

    return call


def _replace(
    module: ModuleType, replacements: dict[Callable[..., Any], Callable[..., Any]]
) -> None:
    by_id = {id(old): new for old, new in replacements.items()}
    # A lazy module may make its names when they are asked for.
    for name, value in list(getattr(module, "__dict__", {}).items()):
        if id(value) in by_id:
            setattr(module, name, by_id[id(value)])


def _patch_datetime(read: Callable[[], float]) -> None:
    kind = dt.datetime

    def now(cls: type[dt.datetime], tz: Any = None) -> dt.datetime:  # noqa: ANN401  # as datetime takes it
        return cls.fromtimestamp(read(), tz)

    def utcnow(cls: type[dt.datetime]) -> dt.datetime:
        return cls.fromtimestamp(read(), dt.UTC).replace(tzinfo=None)

    # The class is of C and takes no attribute, and modules hold it under their own
    # names: its own dictionary is what all of them read.
    (inside,) = gc.get_referents(kind.__dict__)
    inside["now"] = classmethod(now)
    inside["utcnow"] = classmethod(utcnow)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))
