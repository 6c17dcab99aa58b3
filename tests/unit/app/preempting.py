"""Two threads, one of them stopped at each line in turn: every order with one switch.

A race between threads shows in few of a million runs. Here the first thread is traced;
before its n-th line it waits until the second has done its work from beginning to end,
for n = 1, 2, ... until the first has no n-th line. Most races need only one such switch
(Musuvathi and Qadeer, PLDI 2007). A second thread that waits for a lock which the first
one holds is not waited for.
"""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

PATIENCE_S = 10.0


def preempted(
    first: Callable[[], object],
    second: Callable[[], object],
    *,
    at_line: int,
    of: Path,
    is_locked: Callable[[], bool],
) -> bool:
    """Do both, the second before a line of the first; return whether there was one.

    Args:
        first: What is stopped.
        second: What comes in between, in a thread of its own.
        at_line: Before which of the lines that the first goes through (from 1).
        of: The file whose lines count.
        is_locked: Whether the second would wait for the first.
    """
    lines = 0
    other = threading.Thread(target=second)

    def trace(frame: FrameType, event: str, _: object) -> Any:  # noqa: ANN401  # itself
        nonlocal lines
        if Path(frame.f_code.co_filename) != of:
            return None
        if event == "line":
            lines += 1
            if lines == at_line:
                other.start()
                if not is_locked():
                    other.join(PATIENCE_S)
        return trace

    def traced() -> None:
        sys.settrace(trace)
        try:
            first()
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=traced)
    thread.start()
    thread.join(2 * PATIENCE_S)
    was_reached = other.ident is not None
    if not was_reached:
        other.start()
    other.join(PATIENCE_S)
    assert not thread.is_alive()
    assert not other.is_alive()
    return was_reached
