"""Judges increments: each must have its own number, and none may be lost or doubled.

A counter that hands out its new value tells a lot: the numbers must be those from the
first to the last, each once, and an increment that ended before another one began must
have the lower number: ``check.linear`` decides that by sorting. What is asked here
before is what the value at the end says, and whether a number was given out twice:
each has a name of its own. Increments stay in columns, for millions of them.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from test_framework.battery.journal import Journal
from test_framework.check.linear import CallLog, Counter, check_linearizability
from test_framework.check.linear.columns import FOREVER, NOTHING
from test_framework.check.witness import Anomaly, Checked, Item
from test_framework.core import UsageError, Verdict

INCREMENT = "increment"

Columns = NDArray[Any]
_ROW = np.dtype(
    [
        ("worker", np.int32),
        ("ticket", np.int64),
        ("is_known", np.bool_),
        ("invoked", np.int64),
        ("ended", np.int64),
    ]
)


def check_tickets(
    journals: Sequence[Journal],
    *,
    initial: int,
    final: int | None,
    in_time: bool = True,
) -> Checked:
    """Judge the increments of one counter that returns its new value.

    Args:
        journals: Of all workers; what is not an increment is left out.
        initial: The value before the first one.
        final: The value after all of them; None if nobody could read it.
        in_time: Whether the order in time is judged as well.

    Returns:
        ``valid``, or ``invalid`` with one anomaly of each kind; as
        ``check_linearizability`` where the numbers are each there once.
    """
    rows = np.concatenate([_rows(journal) for journal in journals])
    known, unknown = rows[rows["is_known"]], rows[~rows["is_known"]]
    known.sort(order="ticket", kind="stable")
    anomalies = [
        *(() if final is None else _amount(len(known), len(unknown), initial, final)),
        *_repeated(known),
    ]
    facts = {"increments": len(known), "of unknown outcome": len(unknown)}
    if anomalies:
        # In the order of time the same would show again, by its consequences.
        return Checked(
            "tickets", "counter", Verdict.INVALID, "", tuple(anomalies), facts=facts
        )
    if not in_time:
        return Checked("tickets", "counter", Verdict.VALID, facts=facts)
    ordered = check_linearizability(_log(rows), Counter(initial))
    return dataclasses.replace(ordered, checker="tickets", facts=facts)


def _rows(journal: Journal) -> Columns:
    """Return the increments of one worker."""
    kinds, known = journal.kinds, np.frombuffer(journal.known, dtype=np.bool_)
    # Most journals hold nothing else, and columns are copied at once.
    is_ours: Any = slice(None)
    tickets: Sequence[object] = journal.results
    if kinds.count(INCREMENT) != len(kinds):
        is_ours = np.array([kind == INCREMENT for kind in kinds])
        tickets = [tickets[at] for at in np.flatnonzero(is_ours).tolist()]
    if not known.all():
        tickets = [NOTHING if ticket is None else ticket for ticket in tickets]
    rows = np.empty(len(tickets), _ROW)
    rows["worker"] = journal.worker
    rows["ticket"] = _numbers(tickets)
    rows["is_known"] = known[is_ours]
    rows["invoked"] = np.array(journal.invoked, dtype=np.int64)[is_ours]
    rows["ended"] = np.array(journal.ended, dtype=np.int64)[is_ours]
    return rows


def _numbers(tickets: Sequence[object]) -> Columns:
    """Return what increments returned, which must be the new values."""
    numbers = np.asarray(tickets)
    if len(tickets) and numbers.dtype.kind != "i":
        odd = next(
            (one for one in tickets if type(one) is not int), max(tickets, key=str)
        )
        message = (
            f"increment() returned {odd!r} ({type(odd).__name__}). It must return the new "
            "value, an int of 64 bits: what it returned is how a lost update shows."
        )
        raise UsageError(message)
    return numbers


def _log(rows: Columns) -> CallLog:
    """Return increments as the checker takes them."""
    rows = rows[np.argsort(rows["invoked"], kind="stable")]
    values, number = np.unique(rows["ticket"], return_inverse=True)
    nothing = np.full(len(rows), NOTHING, dtype=np.int64)
    zero = np.zeros(len(rows), dtype=np.int64)
    return CallLog(
        process=rows["worker"].astype(np.int64),
        kind=zero,
        key=zero,
        argument=nothing,
        result=np.where(rows["is_known"], number, NOTHING),
        invoked=rows["invoked"],
        completed=np.where(rows["is_known"], rows["ended"], FOREVER),
        index=np.arange(len(rows)),
        processes=range(int(rows["worker"].max(initial=0)) + 1),
        kinds=(INCREMENT,),
        keys=(None,),
        values=values.tolist(),
    )


def _amount(known: int, unknown: int, initial: int, final: int) -> Iterator[Anomaly]:
    counted = final - initial
    may = f" or up to {known + unknown:,}" if unknown else ""
    if counted < known:
        yield Anomaly(
            "lost update",
            f"{known:,} increments returned, and the counter went from {initial:,} to "
            f"{final:,}: {known - counted:,} are lost",
        )
    elif counted > known + unknown:
        yield Anomaly(
            "over-count",
            f"{known:,}{may} increments took place, and the counter went from "
            f"{initial:,} to {final:,}: {counted - known - unknown:,} too many",
        )


def _repeated(rows: Columns) -> Iterator[Anomaly]:
    twice = np.flatnonzero(rows["ticket"][1:] == rows["ticket"][:-1])
    if len(twice):
        place = int(twice[0])
        one, other = _item(rows, place, "T1"), _item(rows, place + 1, "T2")
        yield Anomaly(
            "duplicate ticket",
            f"{len(twice):,} increments returned a number that another one had "
            f"returned, such as {rows['ticket'][place]:,}",
            (one, other),
        )


def _item(rows: Columns, place: int, label: str) -> Item:
    row = rows[place]
    worker, ticket = int(row["worker"]), int(row["ticket"])
    return Item(
        label,
        f"worker {worker}",
        f"worker {worker}: increment() -> {ticket:,}",
        int(row["invoked"]),
        int(row["ended"]),
        place,
    )
