"""Increments are judged by their numbers: each once, none left out, in order of time."""

import itertools
import random

import pytest

from test_framework.battery.atomic import CellModel
from test_framework.battery.journal import Journal
from test_framework.battery.tickets import check_tickets
from test_framework.check.linear import Call, check_linearizability
from test_framework.core import Verdict


def journal(worker: int, *rows: tuple[int, int, int | None]) -> Journal:
    """Return increments of a worker: begun, ended, and the number or None."""
    made = Journal(worker)
    for invoked, ended, ticket in rows:
        made.kinds.append("increment")
        made.arguments.append(None)
        made.results.append(ticket)
        made.keys.append(None)
        made.invoked.append(invoked)
        made.ended.append(ended)
        made.known.append(ticket is not None)
    return made


@pytest.mark.parametrize(
    ("journals", "final", "found"),
    [
        ([journal(0, (0, 9, 1)), journal(1, (1, 8, 2))], 2, []),
        ([journal(0, (0, 9, 1)), journal(1, (1, 8, 1))], 2, ["duplicate ticket"]),
        ([journal(0, (0, 9, 1)), journal(1, (1, 8, 2))], 1, ["lost update"]),
        ([journal(0, (0, 9, 1)), journal(1, (1, 8, 2))], 3, ["over-count"]),
        ([journal(0, (0, 9, 1)), journal(1, (1, 8, 3))], 2, ["over-count"]),
        ([journal(0, (0, 9, 0)), journal(1, (1, 8, 1))], 2, ["phantom read"]),
        ([journal(0, (0, 3, 2)), journal(1, (4, 8, 1))], 2, ["non-linearizable"]),
        # Touching is overlapping.
        ([journal(0, (0, 4, 2)), journal(1, (4, 8, 1))], 2, []),
        # One of unknown outcome counts once or not at all.
        ([journal(0, (0, 9, 1)), journal(1, (1, 8, None))], 1, []),
        ([journal(0, (0, 9, 2)), journal(1, (1, 8, None))], 2, []),
        ([journal(0, (0, 9, 1)), journal(1, (1, 8, None))], 3, ["over-count"]),
        ([journal(0, (0, 3, 2)), journal(1, (4, 8, None))], 2, ["over-count"]),
        # What nobody could read at the end is not judged by it.
        ([journal(0, (0, 9, 1)), journal(1, (1, 8, 2))], None, []),
    ],
)
def test_increments_are_judged(
    journals: list[Journal], final: int | None, found: list[str]
) -> None:
    """Each kind of anomaly is told, and no other."""
    checked = check_tickets(journals, initial=0, final=final)

    assert [one.name for one in checked.anomalies] == found
    assert checked.verdict is (Verdict.INVALID if found else Verdict.VALID)


def test_verdicts_are_those_of_the_search() -> None:
    """On 600 small histories the numbers say what a search over all orders says."""
    rng = random.Random(5)
    verdicts = set()
    for _ in range(600):
        journals = []
        tickets = list(range(1, rng.randint(3, 6)))
        rng.shuffle(tickets)
        for worker in range(3):
            clock = itertools.accumulate(rng.randint(1, 5) for _ in range(8))
            share = tickets[worker::3]
            rows = [
                (next(clock), next(clock), ticket if rng.random() < 0.9 else None)
                for ticket in share
            ]
            journals.append(journal(worker, *rows))
        calls = [call for one in journals for call in one.calls()]
        if all(call.is_known for call in calls) and rng.random() < 0.3:
            journals[0].results[:1] = [rng.randint(1, 4)]
            calls = [call for one in journals for call in one.calls()]

        checked = check_tickets(journals, initial=0, final=None)
        searched = check_linearizability(calls, CellModel())

        assert checked.verdict is searched.verdict, calls
        verdicts.add(checked.verdict)
    assert verdicts == {Verdict.VALID, Verdict.INVALID}


def test_model_steps_over_all_operations() -> None:
    """The model of a cell takes increments among reads, writes and swaps."""
    calls = [
        Call(0, "increment", None, 1, 0, 1),
        Call(0, "cas", (1, 7), result=True, invoked=2, completed=3),
        Call(0, "increment", None, 8, 4, 5),
        Call(0, "read", None, 8, 6, 7),
    ]

    assert check_linearizability(calls, CellModel()).verdict is Verdict.VALID
    calls[3] = Call(0, "read", None, 7, 6, 7)
    assert check_linearizability(calls, CellModel()).verdict is Verdict.INVALID
