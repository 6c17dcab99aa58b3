"""Drives the executions of a litmus test, in every order and all at once."""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from test_framework.battery.config import RaceTestConfig
from test_framework.battery.ordering_lanes import Lane
from test_framework.battery.ordering_parts import Action, Answer, Kind, Part
from test_framework.check.litmus import (
    Litmus,
    LitmusRun,
    MemoryModel,
    Timing,
    Unit,
    interleavings,
)
from test_framework.check.witness import Anomaly
from test_framework.core import TargetError, Verdict

_STRIDE = 10
"""Between the numbers that two executions reset the registers to."""

_BLOCKED_S = 0.02
"""A call that takes longer waits for another worker; the order goes on without it."""

_ATTEMPTS = 50
_MAX_LAG = 4
_HEADSTART_NS = 150_000
_SHOWN = 5


@dataclass(slots=True)
class Executions:
    """What came of all executions of one litmus test.

    Attributes:
        runs: Those that came to an end.
        refused: Those that did not: some transaction was refused each time.
        retried: Those in which one had to begin again.
        anomalies: What a reset did not reset.
        verdict: ``unknown`` or ``invalid`` when they were broken off.
        reason: Why.
    """

    runs: list[LitmusRun] = field(default_factory=list)
    refused: int = 0
    retried: int = 0
    anomalies: list[Anomaly] = field(default_factory=list)
    verdict: Verdict = Verdict.VALID
    reason: str = ""


@dataclass(slots=True)
class _Attempt:
    """One worker of one execution: its program as parts, and what was answered."""

    program: tuple[Action, ...]
    answers: list[Answer] = field(default_factory=list)
    pending: "asyncio.Task[None] | None" = None
    is_refused: bool = False


class Driver:
    """Runs litmus tests on lanes.

    Args:
        crew: The lanes, as many as the widest test has programs.
        model: Says what the events of a worker are.
        config: How often, how long.
        is_spinning: Whether lanes wait by keeping a processor busy.
    """

    def __init__(
        self,
        crew: Sequence[Lane],
        model: MemoryModel,
        config: RaceTestConfig,
        *,
        is_spinning: bool,
    ) -> None:
        self._crew, self._model, self._config = crew, model, config
        self._is_spinning = is_spinning
        self._number = 0
        self._is_stuck = False

    async def execute(self, litmus: Litmus, rng: random.Random) -> Executions:
        """Execute a litmus test as often as is configured, half of them driven."""
        done = Executions()
        if self._is_stuck:
            done.verdict = Verdict.UNKNOWN
            done.reason = "a call of an earlier litmus test has not returned yet."
            return done
        orders = _shuffled_orders(self._model.events(litmus), rng)
        whole = each = asyncio.timeout(self._config.timeout_s)
        try:
            async with whole:
                for iteration in range(self._config.iterations):
                    order = None if iteration % 2 else next(orders)
                    each = asyncio.timeout(self._config.quiet_s)
                    async with each:
                        await self._execute(litmus, order, rng, done)
        except Exception as error:  # noqa: BLE001  # whatever the registers raise
            if whole.expired() or each.expired():
                self._break_off(done)
            else:
                _fail(done, error)
        return done

    def _break_off(self, done: Executions) -> None:
        # Its lane is not to be asked again: the answer would be to the old question.
        self._is_stuck = True
        done.verdict = Verdict.UNKNOWN
        done.reason = (
            f"it was broken off after {len(done.runs):,} of "
            f"{self._config.iterations:,} executions: some call did not return. "
            "Raise quiet_s or timeout_s if it may take as long."
        )

    async def _execute(
        self,
        litmus: Litmus,
        order: Sequence[int] | None,
        rng: random.Random,
        done: Executions,
    ) -> None:
        self._number += 1
        base = _STRIDE * self._number
        await self._reset(litmus, base, done)
        workers = [
            _Attempt(self._actions(litmus, worker, base, rng, is_free=order is None))
            for worker in range(len(litmus.programs))
        ]
        is_driven = False
        if order is None:
            await self._all_at_once(workers)
        else:
            try:
                is_driven = await self._in_order(workers, order)
            finally:
                await _end(workers)
        done.retried += any(one.is_refused for one in workers)
        await self._again(workers)
        if any(one.is_refused for one in workers):
            done.refused += 1
            return
        last = await self._read_all(litmus, 0) if litmus.is_final_seen else []
        read = [value for one in workers for value in self._values(one)]
        done.runs.append(
            LitmusRun(
                tuple(
                    tuple(Timing(each.invoked, each.completed) for each in one.answers)
                    for one in workers
                ),
                tuple(value - base for value in (*read, *last)),
                is_driven=is_driven,
                iteration=len(done.runs),
            )
        )

    async def _reset(self, litmus: Litmus, base: int, done: Executions) -> None:
        """Write every register, and see that every worker reads what was written.

        Reading also fills what caches there are, which else would have nothing to be
        too old.
        """
        writes = tuple(Action("write", (name, base)) for name in litmus.registers)
        await self._crew[0].play(Part(writes, attempts=_ATTEMPTS))
        found = await asyncio.gather(
            *(self._read_all(litmus, worker) for worker in range(len(litmus.programs)))
        )
        for worker, values in enumerate(found):
            for name, value in zip(litmus.registers, values, strict=True):
                if value != base and len(done.anomalies) < _SHOWN:
                    done.anomalies.append(
                        Anomaly(
                            "stale read",
                            f"P{worker} read {name}={value} after it was reset to "
                            f"{base} and the write had returned",
                        )
                    )

    async def _read_all(self, litmus: Litmus, worker: int) -> list[int]:
        actions = tuple(Action("read", (name,)) for name in litmus.registers)
        answers = await self._crew[worker].play(Part(actions, attempts=_ATTEMPTS))
        return [answer.value for answer in answers or ()]

    def _actions(
        self,
        litmus: Litmus,
        worker: int,
        base: int,
        rng: random.Random,
        *,
        is_free: bool,
    ) -> tuple[Action, ...]:
        def action(kind: Kind, *arguments: object) -> Action:
            may_be = self._is_spinning and is_free
            is_preempted = may_be and rng.random() < self._config.preemptions
            return Action(
                kind,
                arguments,
                lag=rng.randrange(_MAX_LAG),
                preempted_by=rng.getrandbits(32) if is_preempted else None,
            )

        steps = [
            (step.register, None if step.value is None else base + step.value)
            for step in litmus.programs[worker]
        ]
        if self._model.unit is Unit.BATCH:
            return (action("execute", steps),)
        actions = [
            action("read", name) if value is None else action("write", name, value)
            for name, value in steps
        ]
        if self._model.unit is Unit.TRANSACTION:
            actions = [Action("begin"), *actions, Action("commit")]
        return tuple(actions)

    def _values(self, worker: _Attempt) -> Iterator[int]:
        if self._model.unit is Unit.BATCH:
            yield from worker.answers[0].value
            return
        actions = [one for one in worker.program if one.kind != "begin"]
        for action, answer in zip(actions, worker.answers, strict=True):
            if action.kind == "read":
                yield answer.value

    async def _all_at_once(self, workers: Sequence[_Attempt]) -> None:
        start_ns = time.monotonic_ns() + _HEADSTART_NS if self._is_spinning else 0
        await asyncio.gather(
            *(
                self._play(lane, worker, worker.program, start_ns)
                for lane, worker in zip(self._crew, workers, strict=False)
            )
        )

    async def _in_order(
        self, workers: Sequence[_Attempt], order: Sequence[int]
    ) -> bool:
        """Make each call when the one before it has returned, or is blocked.

        Only a transaction can keep another waiting, until it commits.

        Returns:
            Whether it went in that order: nothing was blocked or refused.
        """
        is_blocking = self._model.unit is Unit.TRANSACTION
        patience_s = _BLOCKED_S if is_blocking else None
        places, is_kept = [0] * len(workers), True
        for turn in order:
            worker, lane = workers[turn], self._crew[turn]
            if worker.pending is not None:
                await worker.pending
            if worker.is_refused:
                continue
            begin = places[turn]
            is_opening = worker.program[begin].kind == "begin"
            places[turn] = begin + 1 + is_opening
            part = worker.program[begin : places[turn]]
            worker.pending = asyncio.create_task(self._play(lane, worker, part, 0))
            _, blocked = await asyncio.wait({worker.pending}, timeout=patience_s)
            is_kept = is_kept and not blocked and not worker.is_refused
        for worker in workers:
            if worker.pending is not None:
                await worker.pending
        return is_kept and not any(worker.is_refused for worker in workers)

    async def _again(self, workers: Sequence[_Attempt]) -> None:
        """Begin again those that were refused, as their clients would.

        One after the other: two that lock crosswise would refuse each other for long.
        """
        if self._model.unit is not Unit.TRANSACTION:
            return
        for lane, worker in zip(self._crew, workers, strict=False):
            if worker.is_refused:
                worker.answers.clear()
                worker.is_refused = False
                await self._play(lane, worker, worker.program, 0, attempts=_ATTEMPTS)

    async def _play(
        self,
        lane: Lane,
        worker: _Attempt,
        actions: tuple[Action, ...],
        start_ns: int,
        attempts: int = 1,
    ) -> None:
        part = Part(actions, start_ns, self._is_spinning, attempts)
        answers = await lane.play(part)
        if answers is None:
            worker.is_refused = True
        else:
            worker.answers += answers


def _fail(done: Executions, error: Exception) -> None:
    is_down = isinstance(error, (TargetError, OSError))
    done.verdict = Verdict.UNKNOWN if is_down else Verdict.INVALID
    done.reason = f"{type(error).__name__}: {error}"
    if not is_down:
        done.anomalies.append(Anomaly("error", done.reason))


async def _end(workers: Sequence[_Attempt]) -> None:
    """Leave no call behind of an execution that was broken off."""
    pending = [one.pending for one in workers if one.pending is not None]
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.wait(pending)


def _shuffled_orders(
    events: tuple[int, ...], rng: random.Random
) -> Iterator[tuple[int, ...]]:
    """Yield every order, then every order again, each time in another sequence."""
    orders = list(interleavings(events))
    while True:
        rng.shuffle(orders)
        yield from orders
