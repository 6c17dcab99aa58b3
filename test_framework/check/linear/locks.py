"""Locks and leases: decided by sorting.

A lock is held as a whole, from taking it to releasing it, so the calls of one holding
are a block, and the lemma of blocks decides (``zones``): two holdings that must each
come before the other were at one time. A lock that its holder never released is held
for ever. Left to the search are locks that somebody released who is not known to have
taken them, or took again.

Leases run out, so two may hold one at a time; what must not happen is that the holder
of an old one still acts after the holder of a newer one did. Their fencing tokens give
the order of all calls, and the lemma of known order decides.

Source: Kleppmann, "How to do distributed locking", 2016 (fencing tokens).
"""

import numpy as np

from test_framework.check.linear.columns import FOREVER, CallLog, Ints, Mask
from test_framework.check.linear.models import Lease, Mutex, number, unheard_of
from test_framework.check.linear.ruling import (
    MOST_ANOMALIES,
    Found,
    Ruling,
    anomaly,
    before,
    on,
    settle,
)
from test_framework.check.linear.zones import Axis, conflicts, out_of_order
from test_framework.check.witness import Anomaly, Link


def judge_mutexes(log: CallLog, model: Mutex) -> Ruling:
    """Judge locks.

    Raises:
        UsageError: The model does not know an operation.
    """
    acquire, release = log.where("acquire"), log.where("release")
    odd = ~(acquire | release)
    if odd.any():
        raise unheard_of(model, log.read(int(np.argmax(odd))))
    order = np.lexsort((log.completed, log.invoked, log.process, log.key))
    follows = np.zeros(len(log), dtype=np.bool_)
    if len(log) > 1:
        follows[1:] = (np.diff(log.key[order]) == 0) & (
            np.diff(log.process[order]) == 0
        )
    # Of each call the one before and after it of the same process, -1 if none.
    earlier, later = np.full(len(log), -1), np.full(len(log), -1)
    earlier[order[follows]] = order[np.flatnonzero(follows) - 1]
    later[order[np.flatnonzero(follows) - 1]] = order[follows]
    undecided = np.unique(log.key[_irregular(log, acquire, earlier, later)])
    taken = np.flatnonzero(acquire & log.is_known & ~np.isin(log.key, undecided))
    given = later[taken]
    axis = Axis.of(log)
    # Never released: held beyond all calls on it.
    last = np.where(given >= 0, axis.begin[given], (log.key[taken] + 1) * axis.span - 1)
    anomalies = tuple(
        _held_twice(log, *_in_order(axis, taken, given, one, two))
        for one, two in conflicts(axis.end[taken], last)
    )
    return Ruling(anomalies, frozenset(undecided.tolist()))


def _irregular(log: CallLog, acquire: Mask, earlier: Ints, later: Ints) -> Mask:
    """Return calls that do not take and release in turn, as far as is known."""
    known = log.is_known
    after_acquire = (earlier >= 0) & acquire[earlier]
    taken_before = after_acquire & known[earlier]
    # A release of what was not known to be taken; taking what is held already.
    irregular: Mask = np.where(acquire, taken_before, known & ~taken_before)
    overlap = (earlier >= 0) & known[earlier] & (log.completed[earlier] >= log.invoked)
    # A release of unknown outcome of what may not have been taken says nothing.
    return irregular | overlap | (~acquire & ~known & ~taken_before & (later >= 0))


def _in_order(
    axis: Axis, taken: Ints, given: Ints, one: int, two: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the rows of two holdings, the one that was taken first in front."""
    holdings = [(int(taken[place]), int(given[place])) for place in (one, two)]
    holdings.sort(key=lambda rows: int(axis.end[rows[0]]))
    return holdings[0], holdings[1]


def _held_twice(log: CallLog, one: tuple[int, int], two: tuple[int, int]) -> Anomaly:
    rows = [row for row in (one[0], two[0], one[1], two[1]) if row >= 0]
    place = {row: at for at, row in enumerate(rows)}
    links = [
        Link(place[own[0]], place[own[1]], "holds", "held from the one to the other")
        for own in (one, two)
        if own[1] >= 0
    ]
    if one[1] >= 0:
        links.append(before(place[two[0]], place[one[1]]))
    if two[1] >= 0:
        links.append(before(place[one[0]], place[two[1]]))
    holders = [log.read(own[0]).process for own in (one, two)]
    claim = (
        f"{holders[0]} and {holders[1]} held {on(log, rows[0])} at the same time: b had "
        "returned before the lock of a was released."
    )
    return anomaly(log, "lock held twice", claim, rows, *links)


def judge_leases(log: CallLog, model: Lease) -> Ruling:
    """Judge leases with fencing tokens, and what was let through with them.

    Raises:
        UsageError: The model does not know an operation, or a token is no integer.
    """
    acquire, act = log.where("acquire"), log.where("act")
    odd = ~(acquire | act | log.where("release"))
    if odd.any():
        raise unheard_of(model, log.read(int(np.argmax(odd))))
    known = log.is_known
    token = np.zeros(len(log), dtype=np.int64)
    for row in np.flatnonzero((acquire | act) & known).tolist():
        call = log.read(row)
        given = call.argument if call.kind == "act" else call.result
        token[row] = min(number(model, call, given), FOREVER)
    # By object, then by token; an equal rank is an equal token.
    order = np.lexsort((token, log.key))
    steps = np.ones(len(log), dtype=np.int64)
    steps[1:] = (np.diff(token[order]) != 0) | (np.diff(log.key[order]) != 0)
    rank = np.empty(len(log), dtype=np.int64)
    rank[order] = np.cumsum(steps)
    granted, acting = np.flatnonzero(acquire & known), np.flatnonzero(act & known)
    granted = granted[np.argsort(rank[granted], kind="stable")]
    acting = acting[np.argsort(rank[acting], kind="stable")]
    axis = Axis.of(log)
    found = [
        *_duplicate_tokens(log, rank, granted),
        *_unordered_tokens(log, axis, rank, granted),
        *_misused(log, axis, rank, granted, acting),
    ]
    # One of unknown outcome may have granted what nobody told.
    vague = log.key[acquire & ~known]
    wrong = {int(log.key[row]) for row, _ in found}
    undecided = sorted(wrong & set(vague.tolist()))
    return settle(log, found, np.array(undecided, dtype=np.int64))


def _duplicate_tokens(log: CallLog, rank: Ints, granted: Ints) -> Found:
    found: Found = []
    again = np.flatnonzero(rank[granted][1:] == rank[granted][:-1])
    for place in again[:MOST_ANOMALIES].tolist():
        rows = [int(granted[place]), int(granted[place + 1])]
        claim = (
            f"Two leases of {on(log, rows[0])} have the token "
            f"{log.read(rows[0]).result!r}: the resource cannot tell their holders "
            "apart."
        )
        link = Link(0, 1, "token", "a and b were granted the same token")
        found.append((rows[0], anomaly(log, "duplicate token", claim, rows, link)))
    return found


def _unordered_tokens(log: CallLog, axis: Axis, rank: Ints, granted: Ints) -> Found:
    pairs = out_of_order(rank[granted], axis.begin[granted], axis.end[granted])
    found: Found = []
    for lower, higher in pairs:
        rows = [int(granted[higher]), int(granted[lower])]
        claim = (
            f"A lease of {on(log, rows[0])} that was asked for after a had been granted "
            "got a lower token: its holder would be turned away, and that of a not."
        )
        link = Link(1, 0, "token", "the token of b is lower than that of a")
        one = anomaly(log, "token out of order", claim, rows, before(0, 1), link)
        found.append((rows[0], one))
    return found


def _misused(
    log: CallLog, axis: Axis, rank: Ints, granted: Ints, acting: Ints
) -> Found:
    """Return what was let through with a token that was overtaken or not granted."""
    # The first lease with this token or a higher one must have been asked for before.
    lease = np.searchsorted(rank[granted], rank[acting])
    has_lease = lease < len(granted)
    if len(granted):
        at = granted[np.minimum(lease, len(granted) - 1)]
        has_lease &= log.key[at] == log.key[acting]
        asked = np.maximum.accumulate(axis.begin[granted])[
            np.minimum(lease, len(granted) - 1)
        ]
        has_lease &= axis.end[acting] >= asked
    found: Found = []
    for row in acting[~has_lease][:MOST_ANOMALIES].tolist():
        token = log.read(row).argument
        claim = (
            f"a acted on {on(log, row)} with the token {token!r}, which had not been "
            "granted by then."
        )
        found.append((row, anomaly(log, "phantom token", claim, [row])))
    pairs = out_of_order(rank[acting], axis.begin[acting], axis.end[acting])
    for lower, higher in pairs:
        rows = [int(acting[higher]), int(acting[lower])]
        claim = (
            f"b was let through to {on(log, rows[0])} with a lower token after a had "
            "acted with a higher one: the holder of an expired lease still acts."
        )
        link = Link(1, 0, "token", "the token of b is lower than that of a")
        one = anomaly(log, "expired lease acted", claim, rows, before(0, 1), link)
        found.append((rows[0], one))
    return found
