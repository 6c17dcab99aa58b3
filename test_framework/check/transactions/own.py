"""What a transaction must see of its own: internal consistency, and lost updates.

Both look at the operations of one transaction on one list. A read must be the one
before it and what the transaction appended since then; a transaction that appends to
the version it read must be the only one to do so.
"""

import numpy as np

from test_framework.check.transactions.appending import Lists
from test_framework.check.transactions.dependencies import Flags
from test_framework.check.transactions.direct import SHOWN, Finding, find_positions
from test_framework.check.transactions.log import NOTHING, Kind, Status
from test_framework.check.transactions.witnesses import Narrator


class OwnOperations:
    """Runs of operations of transactions that took effect, in columns.

    Each column has one row for each operation of ``Runs``.
    """

    def __init__(self, lists: Lists) -> None:
        log, runs = lists.log, lists.runs
        is_ok = log.status[log.transaction[runs.place]] == Status.OK
        self.place = runs.place[is_ok]
        # Runs are of one transaction, so those left are whole.
        spot = np.arange(len(self.place))
        is_first = runs.begin[is_ok] == np.flatnonzero(is_ok)
        self.begin = np.maximum.accumulate(np.where(is_first, spot, 0))
        kind = log.kind[self.place]
        self.is_append = kind == Kind.APPEND
        read = np.full(len(log.kind), NOTHING)
        read[lists.reads.place] = np.arange(len(lists.reads.place))
        self.read = read[self.place]
        self.is_read = self.read != NOTHING
        self.is_absent = kind == Kind.ABSENT
        before = np.cumsum(self.is_append) - self.is_append
        self.appends_before = before - before[self.begin] if len(before) else before
        # What a scan did not find may be there at the next look: where that is
        # forbidden, a cycle tells.
        tells = self.is_read & ~self.is_absent
        last = np.maximum.accumulate(np.where(tells, spot, NOTHING))
        previous = np.concatenate(([NOTHING], last[:-1])) if len(spot) else spot
        self.previous_read = np.where(previous >= self.begin, previous, NOTHING)


def find_internal(lists: Lists, narrator: Narrator) -> Finding:
    """Find reads that contradict what their own transaction read or appended."""
    own = OwnOperations(lists)
    wrong = _miscounted(lists, own)
    wrong |= _misplaced(lists, own)
    fits = np.append(lists.orders.fits, True)[own.read]
    # The order of the key says nothing of such reads: they are compared one by one.
    for begin in np.unique(own.begin[own.is_read & ~fits]).tolist():
        end = int(np.searchsorted(own.begin, begin, side="right"))
        wrong[begin:end] = False
        for spot in _replay(lists, own, begin, end):
            wrong[spot] = True
    cases = np.flatnonzero(wrong)
    anomalies = []
    for spot in cases[:SHOWN].tolist():
        place, begin = int(own.place[spot]), int(own.begin[spot])
        earlier = [narrator.tell_operation(int(one)) for one in own.place[begin:spot]]
        end = int(np.searchsorted(own.begin, begin, side="right"))
        later = [narrator.tell_operation(int(one)) for one in own.place[spot + 1 : end]]
        claim = f"T1 read {narrator.value(place)} of {narrator.key(place)}"
        if earlier:
            claim += f" after its own {', '.join(earlier)}"
        if later:
            claim += f"{' and' if earlier else ''} before its own {', '.join(later)}"
        claim += ": it does not agree with itself."
        anomalies.append(narrator.tell("internal", claim, [(place, "T1")]))
    return Finding("internal", len(cases), tuple(anomalies))


def _miscounted(lists: Lists, own: OwnOperations) -> Flags:
    """Tell which reads are longer or shorter than their transaction must expect."""
    count = np.append(lists.reads.count, 0)[own.read]
    previous = own.previous_read
    has_previous = own.is_read & ~own.is_absent & (previous != NOTHING)
    expected = np.where(
        has_previous,
        count[previous] + own.appends_before - own.appends_before[previous],
        count,
    )
    wrong = own.is_read & (count != expected)
    wrong |= own.is_read & (count < own.appends_before)
    return np.asarray(wrong)


def _misplaced(lists: Lists, own: OwnOperations) -> Flags:
    """Tell which reads do not end with the appends of their transaction.

    Also those that hold an append which their transaction makes only later.
    """
    log, reads = lists.log, lists.reads
    total = len(own.place)
    wrong = np.zeros(total, dtype=np.bool_)
    spot = np.arange(total)
    after = np.where(own.is_read, spot, total)[::-1]
    next_read = np.minimum.accumulate(after)[::-1] if total else after
    inside = np.append(own.begin, NOTHING)[next_read] == own.begin
    checked = np.flatnonzero(own.is_append & inside)
    reader = next_read[checked]
    read = own.read[reader]
    back = own.appends_before[reader] - own.appends_before[checked]
    position = reads.count[read] - back
    is_there = position >= 0
    value = log.elements[(reads.start[read] + position)[is_there]]
    wrong[reader[~is_there]] = True
    is_other = value != log.value[own.place[checked[is_there]]]
    wrong[reader[is_there][is_other]] = True
    # Where an append stands in the order of its key, against the read before it.
    at = find_positions(lists)
    made = np.flatnonzero(own.is_append & (own.previous_read != NOTHING))
    before = own.previous_read[made]
    early = at[own.place[made]] < reads.count[own.read[before]]
    wrong[before[early]] = True
    return wrong


def _replay(lists: Lists, own: OwnOperations, begin: int, end: int) -> list[int]:
    """Return reads of one run that contradict it, element by element."""
    log, reads = lists.log, lists.reads
    expected: list[int] | None = None
    made: list[int] = []
    wrong = []
    for spot in range(begin, end):
        place = int(own.place[spot])
        if own.is_append[spot]:
            made.append(int(log.value[place]))
            if expected is not None:
                expected.append(made[-1])
        elif own.is_read[spot]:
            start = int(reads.start[own.read[spot]])
            count = int(reads.count[own.read[spot]])
            found = log.elements[start : start + count].tolist()
            if own.is_absent[spot]:
                if made:
                    wrong.append(spot)
                continue
            if expected is None:
                agrees = not made or found[-len(made) :] == made
            else:
                agrees = found == expected
            if not agrees:
                wrong.append(spot)
            expected = found
    return wrong


def find_lost_updates(lists: Lists, narrator: Narrator) -> Finding:
    """Find transactions that read the same version and each appended to it."""
    own, reads = OwnOperations(lists), lists.reads
    followed = np.zeros(len(own.place), dtype=np.bool_)
    followed[:-1] = own.is_append[1:] & (own.begin[1:] == own.begin[:-1])
    spots = np.flatnonzero(own.is_read & ~own.is_absent & followed)
    spots = spots[lists.orders.fits[own.read[spots]]]
    read = own.read[spots]
    step = int(reads.count.max(initial=0)) + 1
    version = reads.key[read] * step + reads.count[read]
    order = np.argsort(version, kind="stable")
    version, spots = version[order], spots[order]
    same = np.flatnonzero(version[1:] == version[:-1])
    groups = np.unique(version[same])
    anomalies = []
    for group in groups[:SHOWN].tolist():
        begin = int(np.searchsorted(version, group))
        one, two = (int(spot) for spot in spots[begin : begin + 2])
        first, second = int(own.place[one]), int(own.place[two])
        claim = (
            f"T1 and T2 both read {narrator.value(first)} of {narrator.key(first)}; T1 "
            f"then appended {narrator.value(int(own.place[one + 1]))} and T2 "
            f"{narrator.value(int(own.place[two + 1]))}: one did not see the other."
        )
        anomalies.append(
            narrator.tell("lost-update", claim, [(first, "T1"), (second, "T2")])
        )
    return Finding("lost-update", len(groups), tuple(anomalies))
