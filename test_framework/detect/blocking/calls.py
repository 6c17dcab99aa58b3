"""Calls that block the event loop: while one user's call waits, all users wait.

The list of such calls, and where they are harmless, is that of the library blockbuster
(files, sockets, locks, sqlite3, ``time.sleep``). It raises where it finds one. A
detector must not change what the service does, so the call is let through here, timed,
and told afterwards with the line of the service that led to it.

A call in a thread blocks nobody, and neither does one while the service starts.

What blocks without such a call (computing, a database driver written in C) is seen by
``sampler``.

Source: https://github.com/cbornet/blockbuster
"""

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from blockbuster import BlockBuster, BlockBusterFunction

from test_framework.core import NS_PER_MS, AlarmRecord, UsageError, WatchRecord
from test_framework.detect.blocking.frames import blame, is_harmless, line, place
from test_framework.detect.blocking.sampler import LoopSampler
from test_framework.detect.scope import current_operation

RULE = "blocking-call"

_MOST_FRAMES = 12
_MOST_OPERATIONS = 100


@dataclass(slots=True)
class _Cause:
    """One kind of call from one line of the service."""

    function: str
    count: int = 0
    longest_ns: int = 0
    total_ns: int = 0
    stack: tuple[str, ...] = ()
    operations: dict[int, None] = field(default_factory=dict)


class _Here(threading.local):
    """Whether the call that this thread is about to make blocks its loop."""

    is_blocking = False


class BlockingCalls:
    """Watches a process for what blocks its event loops.

    Args:
        slow_s: A call that took at least as long is a warning, a shorter one a note:
            reading a small file takes no time until the disk is another one. Seconds.
        held_s: A step that held its loop for at least as long without such a call is
            a warning. Seconds.
        allow: Functions of the service that may block, ``path.py:function``; the path
            may be cut short on its left.

    Raises:
        UsageError: A time is out of range, or an entry has another form.
    """

    name = "blocking"

    def __init__(
        self, slow_s: float = 0.01, held_s: float = 0.2, allow: Sequence[str] = ()
    ) -> None:
        if not slow_s >= 0:
            message = f"slow_s={slow_s!r}: expected seconds, 0 or more. Pass 0.01."
            raise UsageError(message)
        if not 0.02 <= held_s < threading.TIMEOUT_MAX:
            message = f"held_s={held_s!r}: expected seconds, 0.02 or more. Pass 0.2."
            raise UsageError(message)
        self._slow_ns = round(slow_s * 1e9)
        self._allowed = [_parse(entry) for entry in allow]
        self._sampler = LoopSampler(held_s, self._allowed)
        self._causes: dict[tuple[str, str], _Cause] = {}
        self._here = _Here()
        self._is_on = False
        self._buster: BlockBuster | None = None

    def start(self) -> None:
        """Put a watch before every blocking call there is a list of."""
        self._buster = BlockBuster()
        self._is_on = True
        for name, function in self._buster.functions.items():
            for path, caller in self._allowed:
                function.can_block_in(path, caller)
            self._watch(name, function)
        self._sampler.start()

    def stop(self) -> None:
        """Take the watches back."""
        # Modules that imported a function by name keep its watch.
        self._is_on = False
        self._sampler.stop()
        if self._buster is not None:
            self._buster.deactivate()

    def _watch(self, name: str, function: BlockBusterFunction) -> None:
        original, may_block = function.original_func, function.can_block_predicate
        if original is None:
            return
        here, allowed = self._here, function.can_block_functions

        def decide(*args: Any, **kwargs: Any) -> bool:  # noqa: ANN401  # of any call
            """Asked by blockbuster inside of a loop, once per outermost call."""
            try:
                here.is_blocking = self._is_on and not may_block(*args, **kwargs)
            except Exception:  # noqa: BLE001  # the call itself is about to say why
                here.is_blocking = False
            return True  # or blockbuster would raise

        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # of any call
            if not here.is_blocking:
                return original(*args, **kwargs)
            here.is_blocking = False
            started_ns = time.perf_counter_ns()
            try:
                return original(*args, **kwargs)
            finally:
                took_ns = time.perf_counter_ns() - started_ns
                caller = sys._getframe(2)  # noqa: SLF001  # the documented way
                if not is_harmless(caller, allowed):
                    self._note(name, caller, took_ns)

        function.can_block_predicate = decide
        function.original_func = call
        function.activate()
        # What is put back in the end.
        function.original_func = original

    def _note(self, function: str, caller: FrameType, took_ns: int) -> None:
        site, way = blame(caller)
        key = function, place(site)
        cause = self._causes.get(key)
        if cause is None:
            cause = self._causes[key] = _Cause(function)
        cause.count += 1
        cause.total_ns += took_ns
        if took_ns >= cause.longest_ns:
            cause.longest_ns = took_ns
            cause.stack = tuple(line(one) for one in reversed(way[:_MOST_FRAMES]))
        operation = current_operation()
        if operation is not None and len(cause.operations) < _MOST_OPERATIONS:
            cause.operations[operation] = None

    def alarms(self) -> list[AlarmRecord]:
        """Return one alarm per function and line, the longest first, then steps."""
        causes = sorted(self._causes.items(), key=lambda item: -item[1].longest_ns)
        calls = [self._alarm(site, cause) for (_, site), cause in causes]
        return [*calls, *self._sampler.alarms()]

    def _alarm(self, site: str, cause: _Cause) -> AlarmRecord:
        longest_ms = cause.longest_ns / NS_PER_MS
        return AlarmRecord(
            rule=RULE,
            level="warning" if cause.longest_ns >= self._slow_ns else "note",
            claim=f"{cause.function} held the event loop for {longest_ms:.1f} ms: all "
            "other users of this process waited",
            site=site,
            evidence=(
                f"Times  {cause.count}, {cause.total_ns / NS_PER_MS:.1f} ms in all.",
                *cause.stack,
            ),
            operations=tuple(cause.operations),
            count=cause.count,
        )

    def coverage(self) -> WatchRecord:
        """Return which modules' calls were watched, and what is not seen."""
        functions = self._buster.functions if self._buster else {}
        families = {name.rpartition(".")[0] for name in functions}
        return WatchRecord(
            self.name,
            watched=tuple(sorted(families)),
            unwatched=(
                "a step that holds the interpreter's lock all the time is not seen",
            ),
            facts={
                "functions": len(functions),
                "calls": sum(cause.count for cause in self._causes.values()),
            },
        )


def _parse(entry: str) -> tuple[str, str]:
    path, _, function = entry.rpartition(":")
    if not path.endswith(".py") or not function.isidentifier():
        message = (
            f"allow={entry!r}: expected a file and a function of it, such as "
            "'app/main.py:read_settings'."
        )
        raise UsageError(message)
    return path, function
