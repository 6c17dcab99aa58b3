"""Takes a thread or process off its CPU in the middle of an operation.

An operation of some hundred nanoseconds is almost never interrupted by chance: a race
between a read and a write two instructions later would be found once in many thousand
runs. So some operations are stepped through, instruction by instruction, and at one
that the seed chooses the worker sleeps for some microseconds, so that the others go on
in between. Every operation that is not chosen runs at full speed.

The idea of preempting at chosen instructions is that of PCT (Burckhardt et al., ASPLOS
2010); here the operating system still orders what runs meanwhile.
"""

import random
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVarTuple

Arguments = TypeVarTuple("Arguments")

MAX_LOG_STEPS = 7.0
"""At most 2 ** 7 instructions from the beginning; short operations are most frequent."""

MAX_SLEEP_S = 100e-6


def block_briefly(rng: random.Random) -> None:
    """Keep a thread off its CPU for up to ``MAX_SLEEP_S``, so that others go on."""
    # Nothing can be awaited between two instructions, and a loop sleeps for 1 ms at least.
    time.sleep(rng.random() * MAX_SLEEP_S)  # noqa: TID251  # as said


class Preemption:
    """Preempts operations of one worker.

    Args:
        rng: The only source of choice.
        chance: That an operation is preempted.
    """

    def __init__(self, rng: random.Random, chance: float) -> None:
        self._rng = rng
        self._chance = chance
        self._steps_left = 0

    def call(
        self, operation: Callable[[*Arguments], Any], *arguments: *Arguments
    ) -> Any:  # noqa: ANN401  # whatever it returns
        """Call a function, and maybe sleep in the middle of it.

        Of a coroutine function it is what runs before anything is awaited: nothing.
        """
        if self._rng.random() >= self._chance:
            return operation(*arguments)
        self._steps_left = int(2 ** self._rng.uniform(0, MAX_LOG_STEPS))
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            return operation(*arguments)
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> Any:  # noqa: ANN401  # a trace function refers to its own type
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, _frame: FrameType, event: str, _argument: object) -> Any:  # noqa: ANN401  # as above
        if event == "opcode":
            self._steps_left -= 1
            if self._steps_left == 0:
                block_briefly(self._rng)
        return self._step
