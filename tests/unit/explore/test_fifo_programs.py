"""Fidelity ``fifo`` accuses no program that relies on the order of stock asyncio.

Three looks at every program. Alone, and beside a stranger that waits for the world
outside, so that there are hundreds of orders: no witness may come. On a loop that serves
the youngest first, or the latest deadline first: it must fail there, or it asserts
nothing about order. And at the fidelity at which its order is not kept: it is found.
"""

import asyncio
import collections
from collections.abc import Callable
from typing import Any

import pytest

from test_framework.explore import Conclusion, explore, external
from test_framework.explore.execution import Runner
from test_framework.explore.loop.clock import START_S
from test_framework.explore.scenario import CoroutineFunction
from test_framework.explore.schedulers import Stock
from test_framework.explore.stock import StockLoop
from tests.unit.explore import (  # noqa: F401  # they fill the list of programs
    programs_contexts,
    programs_fifo,
    programs_primitives,
    programs_timers,
)
from tests.unit.explore.fifo_program import PROGRAMS, Program
from tests.unit.explore.programs_arrivals import PAIRS, Pair

each_program = pytest.mark.parametrize(
    "program", PROGRAMS, ids=lambda program: program.name
)
each_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)


def beside_a_stranger(main: CoroutineFunction) -> CoroutineFunction:
    """Return the program with a task beside it that has nothing to do with it."""

    async def stranger() -> None:
        await external("stranger")
        await asyncio.to_thread(str)
        await external("stranger")

    async def both() -> None:
        task = asyncio.create_task(stranger(), name="stranger")
        await asyncio.sleep(0)
        await main()
        await task

    return both


@each_program
def test_program_in_fifo_order_is_never_accused(program: Program) -> None:
    """Nothing is found in what stock asyncio keeps in order, whoever else is there."""
    program.needs()

    for main in (program.main, beside_a_stranger(program.main)):
        report = explore(main, schedules=150, budget=60, seed=1)

        assert report.conclusion in {Conclusion.PROVEN, Conclusion.SAMPLED}, (
            report.text()
        )


class LastComeFirstServed(collections.deque[Any]):
    """A ready queue that serves the youngest callback first."""

    def popleft(self) -> Any:  # noqa: ANN401  # handles have no common type
        """Take what was queued last."""
        return self.pop()


class BackwardLoop(StockLoop):
    """A stock loop whose ready queue is a stack."""

    def __init__(self) -> None:
        super().__init__()
        self._ready = LastComeFirstServed()


class LateLoop(StockLoop):
    """A stock loop that takes deadlines from the last to the first."""

    def call_at(self, when: float, callback: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # the signature of the base
        """Queue a callback for the mirrored instant."""
        late = self.time() + 1 / (1 + when - START_S)
        mirrored = when if when <= self.time() else late
        return super().call_at(mirrored, callback, *args, **options)


OUT_OF_ORDER = (BackwardLoop, LateLoop)


def runs_on(make_loop: Callable[[], StockLoop], main: CoroutineFunction) -> bool:
    """Tell whether one run of a program on a loop ends without failure."""
    loop = make_loop()
    loop.max_steps = 5_000
    return Runner(main, loop).run(Stock()) is None


@pytest.mark.power
@each_program
def test_program_falls_where_its_order_is_not_kept(program: Program) -> None:
    """It holds on CPython's loop, and says something that another loop would break.

    Out of order are a loop of another order, and the fidelity that lets every await
    take any time. What tasks promise by themselves, no order of callbacks can break.
    """
    program.needs()

    falls = not all(runs_on(one, program.main) for one in OUT_OF_ORDER)
    if program.breaks_at is not None:
        report = explore(
            program.main, fidelity=program.breaks_at, schedules=150, budget=60, seed=1
        )
        assert report.conclusion is Conclusion.FOUND, report.text()
        falls = True

    assert runs_on(StockLoop, program.main)
    assert program.is_sensitive is falls


@each_pair
def test_safe_half_of_a_pair_is_never_accused(pair: Pair) -> None:
    """What keeps its turn is right."""
    report = explore(pair.safe, schedules=300, budget=60, seed=1)

    assert report.conclusion is Conclusion.PROVEN, report.text()


@pytest.mark.power
@each_pair
def test_broken_half_of_a_pair_is_found_and_confirmed(pair: Pair) -> None:
    """What waits for the world outside is found, and the stock loop agrees."""
    report = explore(pair.broken, schedules=300, budget=60, seed=1)

    assert report.conclusion is Conclusion.FOUND, report.text()
    assert report.witness is not None
    assert report.witness.failure.kind == pair.kind
    assert report.witness.is_confirmed is True


def test_suite_is_as_large_as_promised() -> None:
    """Forty programs, a dozen pairs, no name twice."""
    names = [program.name for program in PROGRAMS] + [pair.name for pair in PAIRS]

    assert sum(program.is_sensitive for program in PROGRAMS) >= 40
    assert len(PAIRS) >= 12
    assert len(set(names)) == len(names)
