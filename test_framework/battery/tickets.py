"""Judges increments: each must have its own number, and none may be lost or doubled.

A counter that hands out its new value tells a lot: the numbers must be those from the
first to the last, each once, and an increment that ended before another one began must
have the lower number. That is linearizability of a counter, in O(n log n), for millions
of increments.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from test_framework.battery.journal import Journal
from test_framework.check.witness import Anomaly, Checked, Item, Link
from test_framework.core import Verdict

INCREMENT = "increment"

Columns = NDArray[Any]
_ROW = np.dtype(
    [
        ("worker", np.int32),
        ("ticket", np.int64),
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
        ``valid``, or ``invalid`` with one anomaly of each kind.
    """
    rows = np.concatenate([_rows(journal) for journal in journals])
    rows.sort(order="ticket", kind="stable")
    begun = np.sort(np.concatenate([_unknown(journal) for journal in journals]))
    unknown = len(begun)
    anomalies = [
        *(() if final is None else _amount(len(rows), unknown, initial, final)),
        *_repeated(rows),
        *_out_of_range(rows, unknown, initial),
        *(_out_of_order(rows) if in_time else ()),
    ]
    if in_time and not anomalies:
        anomalies = [*_skipped(rows, begun, initial)]
    return Checked(
        checker="tickets",
        model="linearizable counter" if in_time else "counter",
        verdict=Verdict.INVALID if anomalies else Verdict.VALID,
        anomalies=tuple(anomalies),
        facts={"increments": len(rows), "of unknown outcome": unknown},
    )


def _rows(journal: Journal) -> Columns:
    """Return the increments of one worker that are known to have happened."""
    kinds, known = journal.kinds, journal.known
    # Most journals hold nothing else, and columns are copied at once.
    if kinds.count(INCREMENT) == len(kinds) and all(known):
        places: Any = slice(None)
        tickets: Sequence[object] = journal.results
    else:
        places = [
            place
            for place, kind in enumerate(kinds)
            if kind == INCREMENT and known[place]
        ]
        tickets = [journal.results[place] for place in places]
    rows = np.empty(len(tickets), _ROW)
    rows["worker"] = journal.worker
    rows["ticket"] = tickets
    rows["invoked"] = np.array(journal.invoked, dtype=np.int64)[places]
    rows["ended"] = np.array(journal.ended, dtype=np.int64)[places]
    return rows


def _unknown(journal: Journal) -> Columns:
    """Return when the increments of unknown outcome of one worker were begun."""
    if all(journal.known):
        return np.empty(0, np.int64)
    places = [
        place
        for place, kind in enumerate(journal.kinds)
        if kind == INCREMENT and not journal.known[place]
    ]
    return np.array(journal.invoked, dtype=np.int64)[places]


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


def _out_of_range(rows: Columns, unknown: int, initial: int) -> Iterator[Anomaly]:
    if not len(rows):
        return
    # The highest number says how often it was counted before, whoever reads it last.
    highest = int(rows["ticket"][-1])
    most = initial + len(rows) + unknown
    if highest > most:
        yield Anomaly(
            "over-count",
            f"an increment returned {highest:,}, and with all others counted it can "
            f"have been the {most:,}th at most",
            (_item(rows, len(rows) - 1, "T1"),),
        )
    if rows["ticket"][0] <= initial:
        yield Anomaly(
            "stale ticket",
            f"an increment returned {rows['ticket'][0]:,}, which is not above the "
            f"initial value {initial:,}",
            (_item(rows, 0, "T1"),),
        )


def _out_of_order(rows: Columns) -> Iterator[Anomaly]:
    """Find an increment that ended before another began, and has the higher number."""
    if len(rows) < 2:
        return
    # For each number, when the first of all higher ones had ended.
    ended = rows["ended"]
    first_end = np.minimum.accumulate(ended[::-1])[::-1]
    late = np.flatnonzero(first_end[1:] < rows["invoked"][:-1])
    late = late[rows["ticket"][late] < rows["ticket"][late + 1]]
    if not len(late):
        return
    place = int(late[0])
    early = place + 1 + int(np.argmin(ended[place + 1 :]))
    yield Anomaly(
        "stale ticket",
        f"{len(late):,} increments returned a lower number than one that had ended "
        "before they began",
        (_item(rows, early, "T1"), _item(rows, place, "T2")),
        (
            Link(
                0, 1, "realtime", "T1 ended before T2 began, so T1 has the lower number"
            ),
            Link(1, 0, "value", "T2 has the lower number, so it was counted before T1"),
        ),
    )


def _skipped(rows: Columns, begun: Columns, initial: int) -> Iterator[Anomaly]:
    """Find a number that was skipped before any increment that may have it had begun.

    Only one of unknown outcome may have it, if it had begun before the first increment
    with a higher number had ended. Those times go up with the numbers, so the earliest
    begun may as well have the lowest.
    """
    if not len(rows):
        return
    tickets = rows["ticket"]
    numbers = np.arange(initial + 1, int(tickets[-1]))
    gaps = np.setdiff1d(numbers, tickets, assume_unique=True)
    first_end = np.minimum.accumulate(rows["ended"][::-1])[::-1]
    limits = first_end[np.searchsorted(tickets, gaps)]
    late = np.flatnonzero(begun[: len(gaps)] > limits)
    if len(late):
        gap = gaps[late[0]]
        place = int(np.searchsorted(tickets, gap))
        place += int(np.argmin(rows["ended"][place:]))
        yield Anomaly(
            "over-count",
            f"an increment returned {tickets[place]:,}, and {gap:,} was given to none "
            "that had begun by then",
            (_item(rows, place, "T1"),),
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
