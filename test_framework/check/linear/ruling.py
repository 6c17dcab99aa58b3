"""What a polynomial check says, and how its witnesses are worded."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from test_framework.check.linear.calls import Call
from test_framework.check.linear.columns import CallLog, Ints
from test_framework.check.witness import Anomaly, Item, Link

MOST_ANOMALIES = 20
"""Of one history; more of them tell no more."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is known of the objects of a history.

    Attributes:
        anomalies: What no order explains.
        undecided: Numbers of the keys that only a search can decide.
    """

    anomalies: tuple[Anomaly, ...] = ()
    undecided: frozenset[int] = frozenset()


def witness(calls: Sequence[Call]) -> tuple[Item, ...]:
    """Return calls as the items of a witness: ``a``, ``b``, ... by their order."""
    return tuple(
        Item(
            label=label(place),
            lane=str(call.process),
            text=str(call),
            begin=call.invoked,
            end=call.completed,
            index=call.index,
        )
        for place, call in enumerate(calls)
    )


def label(place: int) -> str:
    """Return the short name of the call at a place: ``a`` to ``z``, then ``c27``."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return letters[place] if place < len(letters) else f"c{place + 1}"


def before(source: int, target: int) -> Link:
    """Return the step between two calls of which one ended before the other began."""
    return Link(
        source,
        target,
        "realtime",
        f"{label(source)} returned before {label(target)} was called",
    )


def anomaly(
    log: CallLog, name: str, claim: str, rows: Sequence[int], *links: Link
) -> Anomaly:
    """Return an anomaly whose witness is some rows of a history."""
    return Anomaly(name, claim, witness([log.read(row) for row in rows]), links)


def on(log: CallLog, row: int) -> str:
    """Return the object of a call as claims name it."""
    key = log.keys[int(log.key[row])]
    return "the object" if key is None else f"{key!r}"


Found = list[tuple[int, Anomaly]]
"""Each with a row of the object that it is on."""


def settle(log: CallLog, found: Found, undecided: Ints) -> Ruling:
    """Return a ruling, without what was found on objects that are not decided."""
    left = frozenset(undecided.tolist())
    sure = [one for row, one in found if int(log.key[row]) not in left]
    return Ruling(tuple(sure[:MOST_ANOMALIES]), left)


def cells_of(key: Ints, value: Ints) -> tuple[Ints, int]:
    """Number pairs of an object and a value, and count the numbers."""
    if not len(key):
        return key, 0
    width = int(value.max()) + 2
    present, cell = np.unique(key * width + value + 1, return_inverse=True)
    return cell, len(present)
