"""What one worker of a litmus test does at a stretch, wherever it runs."""

import asyncio
import functools
import inspect
import random
import time
from dataclasses import dataclass
from typing import Any, Literal

from test_framework.battery.journal import RefusedError
from test_framework.battery.preemption import Preemption

Kind = Literal["read", "write", "begin", "commit", "execute"]

_SPIN_NS = 300
_MAX_SPIN_NS = 2_000_000


@dataclass(frozen=True, slots=True)
class Action:
    """One call.

    Attributes:
        kind: The method.
        arguments: What it is given.
        lag: How long to wait before it, in small steps.
        preempted_by: A seed that chooses where in it the worker is taken off its CPU;
            None lets it run on. For threads and processes.
    """

    kind: Kind
    arguments: tuple[Any, ...] = ()
    lag: int = 0
    preempted_by: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call returned, and when it was made and answered, in nanoseconds."""

    value: Any
    invoked: int
    completed: int


@dataclass(frozen=True, slots=True)
class Part:
    """Calls that one worker makes one after the other.

    Attributes:
        actions: The calls.
        start_ns: When to begin, on the clock of all; at once if it is over.
        is_spinning: Whether to wait by keeping the processor busy, as threads and
            processes must, which sleep for too long; tasks let each other go on.
        attempts: How often to begin again after a refusal.
    """

    actions: tuple[Action, ...]
    start_ns: int = 0
    is_spinning: bool = False
    attempts: int = 1


async def play(registers: Any, part: Part) -> list[Answer] | None:  # noqa: ANN401  # any kind of registers
    """Make the calls of a part.

    Returns:
        Their answers, without that of ``begin``; None if the last attempt was refused.
    """
    _spin_until(part.start_ns)
    for _ in range(part.attempts):
        try:
            answers = [
                await _call(registers, action, is_spinning=part.is_spinning)
                for action in part.actions
            ]
        except RefusedError:
            rollback = getattr(registers, "rollback", None)
            if rollback is not None:
                await _settled(rollback())
            continue
        return [
            answer
            for action, answer in zip(part.actions, answers, strict=True)
            if action.kind != "begin"
        ]
    return None


async def _call(registers: Any, action: Action, *, is_spinning: bool) -> Answer:  # noqa: ANN401  # as above
    if is_spinning:
        _spin_until(time.monotonic_ns() + action.lag * _SPIN_NS)
    else:
        for _ in range(action.lag):
            await asyncio.sleep(0)
    method = getattr(registers, action.kind)
    if action.preempted_by is not None:
        preemption = Preemption(random.Random(action.preempted_by), chance=1.0)
        method = functools.partial(preemption.call, method)
    invoked = time.monotonic_ns()
    value = method(*action.arguments)
    if inspect.isawaitable(value):
        value = await value
    return Answer(value, invoked, time.monotonic_ns())


async def _settled(value: Any) -> None:  # noqa: ANN401  # nothing, now or later
    if inspect.isawaitable(value):
        await value


def _spin_until(instant_ns: int) -> None:
    """Wait without sleeping, but never for long: the clock of another may be off."""
    limit_ns = time.monotonic_ns() + _MAX_SPIN_NS
    while time.monotonic_ns() < min(instant_ns, limit_ns):
        pass
