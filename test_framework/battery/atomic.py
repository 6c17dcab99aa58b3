"""Conformance of an atomic number: nothing lost, doubled, repeated or stale.

Each scenario takes a fresh cell. Histories are judged, and not final values alone: one
lost and one doubled increment would cancel out there.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import ClassVar

from test_framework.battery.cells.cell import Cell
from test_framework.battery.conformance import Conformance, Evidence, Scenario
from test_framework.battery.judging import check_order, item_of
from test_framework.battery.tickets import INCREMENT, check_tickets
from test_framework.battery.worker import Worker
from test_framework.check.linear import ILLEGAL, Call, CasRegister
from test_framework.check.witness import Anomaly, Checked
from test_framework.core import Verdict

_MOST_SWAPS = 2_000
_MOST_MIXED = 1_000
_STRIDE = 1_000_000
"""Between the values that are set, so that increments of one never reach the next."""


class CellModel(CasRegister):
    """A register with ``increment`` as well, which returns the new value."""

    def __init__(self, initial: int = 0) -> None:
        super().__init__(initial)

    def step(self, state: object, call: Call) -> object:
        """Step over ``read``, ``write``, ``cas`` and ``increment``."""
        if call.kind != INCREMENT:
            return super().step(state, call)
        value = int(str(state)) + 1
        return value if not call.is_known or call.result == value else ILLEGAL


async def _increment(worker: Worker[Cell]) -> None:
    await worker.journal.call(INCREMENT, worker.shared.increment)
    await worker.pause()


async def _increment_cancelled(worker: Worker[Cell]) -> None:
    if worker.rng.random() < worker.config.cancellations:
        await worker.call_cancelled(INCREMENT, worker.shared.increment)
    else:
        await _increment(worker)


async def _swap(worker: Worker[Cell]) -> None:
    value = await worker.journal.call("read", worker.shared.get)
    await worker.pause()
    await worker.journal.call(
        "cas", worker.shared.compare_and_swap, value, _own(worker)
    )
    await worker.pause()


async def _mix(worker: Worker[Cell]) -> None:
    cell, journal, draw = worker.shared, worker.journal, worker.rng.random()
    if draw < 0.3:
        await journal.call("read", cell.get)
    elif draw < 0.6:
        await journal.call(INCREMENT, cell.increment)
    elif draw < 0.75:
        await journal.call("write", cell.set, _own(worker))
    else:
        value = await journal.call("read", cell.get)
        await worker.pause()
        await journal.call("cas", cell.compare_and_swap, value, _own(worker))
    await worker.pause()


def _own(worker: Worker[Cell]) -> int:
    """Return a value that no other worker and no other turn writes."""
    turn = worker.iteration * worker.config.workers + worker.index
    return (turn + 1) * _STRIDE


def _judge_tickets(evidence: Evidence) -> Iterator[Checked]:
    run = evidence.run
    yield check_tickets(
        run.journals,
        initial=evidence.before,
        final=evidence.after,
        in_time=run.config.check_ordering,
    )


def _judge_swaps(evidence: Evidence) -> Iterator[Checked]:
    calls = evidence.run.calls()
    yield _check_swapped_once(calls)
    yield from _judge_order(evidence)


def _judge_order(evidence: Evidence) -> Iterator[Checked]:
    if evidence.run.config.check_ordering:
        yield check_order(
            evidence.run.calls(), CellModel(evidence.before), name="linearizable cell"
        )


def _check_swapped_once(calls: list[Call]) -> Checked:
    """No two swaps may replace one value: each is written once only."""
    swaps: dict[int, list[Call]] = defaultdict(list)
    for call in calls:
        if call.kind == "cas" and call.result is True:
            swaps[call.argument[0]].append(call)
    twice = [same for same in swaps.values() if len(same) > 1]
    anomalies: tuple[Anomaly, ...] = ()
    if twice:
        first = twice[0]
        anomalies = (
            Anomaly(
                "lost update",
                f"{len(twice):,} values were replaced more than once, such as "
                f"{first[0].argument[0]:,}: each was written once, so what one swap "
                "wrote is lost",
                tuple(item_of(call, f"T{at}") for at, call in enumerate(first, 1)),
            ),
        )
    return Checked(
        "swaps",
        "each value is replaced once",
        Verdict.INVALID if twice else Verdict.VALID,
        anomalies=anomalies,
        facts={"swaps": sum(map(len, swaps.values()))},
    )


class AtomicRaceTest(Conformance[Cell]):
    """Conformance of a ``Cell``.

    Scenarios: ``increments`` (each has its own number, none lost or doubled),
    ``swaps`` (a value is replaced once), ``mixed`` (any operations are linearizable)
    and ``cancellations`` (an increment that was cancelled counts once or not at all).
    """

    protocol: ClassVar[tuple[str, ...]] = (
        "get",
        "set",
        "increment",
        "compare_and_swap",
    )
    reading: ClassVar[str] = "get"
    scenarios: ClassVar[tuple[Scenario, ...]] = (
        Scenario("increments", ("get", "increment"), _increment, _judge_tickets),
        Scenario(
            "swaps",
            ("get", "compare_and_swap"),
            _swap,
            _judge_swaps,
            most=_MOST_SWAPS,
        ),
        Scenario("mixed", protocol, _mix, _judge_order, most=_MOST_MIXED),
        Scenario(
            "cancellations",
            ("get", "increment"),
            _increment_cancelled,
            _judge_tickets,
            is_cancelling=True,
        ),
    )
