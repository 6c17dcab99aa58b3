"""Anomalies of list-append histories that need no cycle.

Each is found in columns, counted, and shown by a few of its cases. Named and meant as
in Adya ("Weak Consistency", MIT 1999) and in Kingsbury and Alvaro ("Elle", VLDB 2020,
section 5).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from test_framework.check.transactions.appending import Lists
from test_framework.check.transactions.dependencies import Edge
from test_framework.check.transactions.log import NOTHING, Ints, Kind, Status
from test_framework.check.transactions.witnesses import Narrator
from test_framework.check.witness import Anomaly

SHOWN = 8
"""Cases to show of each kind."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of anomaly: how many cases there are, and witnesses of a few."""

    name: str
    count: int
    anomalies: tuple[Anomaly, ...]


def find_direct(lists: Lists, narrator: Narrator) -> list[Finding]:
    """Return all anomalies that are seen without a cycle."""
    findings = [find(lists, narrator) for find in _KINDS]
    return [finding for finding in findings if finding.count]


def _find_duplicates(lists: Lists, narrator: Narrator) -> Finding:
    """Find lists that hold an element twice, though it was appended once."""
    name, reads, log = "duplicate-elements", lists.reads, lists.log
    cases = {
        int(lists.orders.longest[lists.orders.key[spot]]): int(lists.orders.value[spot])
        for spot in lists.repeats.tolist()
    }
    for read in np.flatnonzero(~lists.orders.fits).tolist():
        begin = int(reads.start[read])
        elements = log.elements[begin : begin + int(reads.count[read])]
        values, counts = np.unique(elements, return_counts=True)
        if np.any(counts > 1):
            cases[read] = int(values[counts > 1][0])
    # What was appended twice may stand there twice.
    twice = {
        (int(key), int(code) - int(key) * lists.appends.step)
        for key, code in zip(
            lists.appends.key[lists.appends.is_double],
            lists.appends.code[lists.appends.is_double],
            strict=True,
        )
    }
    cases = {
        read: value
        for read, value in cases.items()
        if (int(reads.key[read]), value) not in twice
    }
    anomalies = []
    for read, value in list(cases.items())[:SHOWN]:
        place = int(reads.place[read])
        claim = (
            f"T1 read {narrator.value(place)} of {narrator.key(place)}: "
            f"{log.values[value]} stands there twice, and was not appended twice."
        )
        anomalies.append(narrator.tell(name, claim, [(place, "T1")]))
    return Finding(name, len(cases), tuple(anomalies))


def _find_incompatible(lists: Lists, narrator: Narrator) -> Finding:
    """Find reads that no order of appends gives.

    They are no beginning of the longest one of their key, or appends of one transaction
    stand there in another order than it made them, or one of them without those before.
    """
    name, reads, appends = "incompatible-order", lists.reads, lists.appends
    wrong = np.flatnonzero(~lists.orders.fits)
    anomalies = []
    for read in wrong[:SHOWN].tolist():
        place = int(reads.place[read])
        other = int(reads.place[lists.orders.longest[reads.key[read]]])
        claim = (
            f"T1 read {narrator.value(other)} of {narrator.key(place)} and T2 read "
            f"{narrator.value(place)}: no order of appends gives both."
        )
        anomalies.append(narrator.tell(name, claim, [(other, "T1"), (place, "T2")]))
    first, second = _find_disordered(lists)
    for one, two in list(zip(first.tolist(), second.tolist(), strict=True))[:SHOWN]:
        slot = int(np.flatnonzero(appends.place == two)[0])
        place = int(reads.place[lists.orders.longest[appends.key[slot]]])
        claim = (
            f"T1 appended {narrator.value(one)} to {narrator.key(one)} and then "
            f"{narrator.value(two)}, and T2 read {narrator.value(place)}: the latter "
            "without the former before it."
        )
        anomalies.append(narrator.tell(name, claim, [(two, "T1"), (place, "T2")]))
    return Finding(name, len(wrong) + len(first), tuple(anomalies))


def _find_disordered(lists: Lists) -> tuple[Ints, Ints]:
    """Return neighbouring appends of a transaction whose order of versions differs."""
    log, place = lists.log, lists.runs.place
    is_append = log.kind[place] == Kind.APPEND
    place, begin = place[is_append], lists.runs.begin[is_append]
    first, second = place[:-1], place[1:]
    at = find_positions(lists)
    wrong = (begin[:-1] == begin[1:]) & (at[second] < at[first])
    wrong &= lists.is_sound[log.key[first]]
    double = np.zeros(len(log.kind), dtype=np.bool_)
    double[lists.appends.place[lists.appends.is_double]] = True
    wrong &= ~double[first] & ~double[second]
    return first[wrong], second[wrong]


def find_positions(lists: Lists) -> Ints:
    """Return where each append stands in the order of its key.

    It is the number of all elements for those that nobody saw, and for other
    operations: more than any position.
    """
    orders = lists.orders
    at = np.full(len(lists.log.kind), len(orders.slot))
    seen = np.flatnonzero(orders.slot != NOTHING)
    at[lists.appends.place[orders.slot[seen]]] = seen - orders.base[orders.key[seen]]
    return at


def _collect_seen(lists: Lists) -> tuple[Ints, Ints]:
    """Return reads and the appends they saw, each append of a key once at least.

    Of keys with one order the longest read is enough, since it saw all.
    """
    orders, reads = lists.orders, lists.reads
    wrong = np.flatnonzero(~orders.fits)
    counts = reads.count[wrong]
    ends = np.cumsum(counts)
    within = np.arange(int(counts.sum())) - np.repeat(ends - counts, counts)
    reader = np.repeat(wrong, counts)
    value = lists.log.elements[reads.start[reader] + within]
    slot = lists.appends.find(reads.key[reader], value)
    seen = np.concatenate((orders.slot, slot))
    by = np.concatenate((orders.longest[orders.key], reader))
    known = seen != NOTHING
    known[known] = ~lists.appends.is_double[seen[known]]
    return by[known], seen[known]


def _find_aborted(lists: Lists, narrator: Narrator) -> Finding:
    """Find reads of what a refused transaction appended."""
    name, appends, reads, log = "G1a", lists.appends, lists.reads, lists.log
    reader, slot = _collect_seen(lists)
    is_refused = log.status[appends.transaction[slot]] == Status.FAIL
    is_refused &= appends.transaction[slot] != reads.transaction[reader]
    slot, first = np.unique(slot[is_refused], return_index=True)
    reader = reader[is_refused][first]
    anomalies = []
    for append, read in list(zip(slot.tolist(), reader.tolist(), strict=True))[:SHOWN]:
        made, seen = int(appends.place[append]), int(reads.place[read])
        claim = (
            f"T2 read {narrator.value(seen)} of {narrator.key(seen)}, with "
            f"{narrator.value(made)} that T1 appended, and T1 was refused."
        )
        anomalies.append(
            narrator.tell(name, claim, [(made, "T1"), (seen, "T2")], Edge.WR)
        )
    return Finding(name, len(slot), tuple(anomalies))


def _find_intermediate(lists: Lists, narrator: Narrator) -> Finding:
    """Find reads of a list to which its last writer was not done appending."""
    name, appends, reads = "G1b", lists.appends, lists.reads
    orders, log = lists.orders, lists.log
    some = np.flatnonzero(reads.count > 0)
    last = np.append(orders.slot, NOTHING)[
        orders.base[reads.key[some]] + reads.count[some] - 1
    ]
    wrong = np.flatnonzero(~orders.fits[some])
    ends = (reads.start + reads.count)[some[wrong]] - 1
    last[wrong] = appends.find(reads.key[some[wrong]], log.elements[ends])
    is_early = last != NOTHING
    some, last = some[is_early], last[is_early]
    maker = appends.transaction[last]
    is_early = ~appends.is_final[last] & ~appends.is_double[last]
    is_early &= (maker != reads.transaction[some]) & (log.status[maker] != Status.FAIL)
    some, last = some[is_early], last[is_early]
    anomalies = []
    for read, append in list(zip(some.tolist(), last.tolist(), strict=True))[:SHOWN]:
        made, seen = int(appends.place[append]), int(reads.place[read])
        later = made + 1
        while log.kind[later] != Kind.APPEND or log.key[later] != log.key[made]:
            later += 1
        claim = (
            f"T2 read {narrator.value(seen)} of {narrator.key(seen)} when T1 had "
            f"appended {narrator.value(made)} and not yet {narrator.value(later)}."
        )
        anomalies.append(
            narrator.tell(name, claim, [(made, "T1"), (seen, "T2")], Edge.WR)
        )
    return Finding(name, len(some), tuple(anomalies))


def _find_dirty_updates(lists: Lists, narrator: Narrator) -> Finding:
    """Find appends that took effect on top of one that was refused."""
    name, appends, orders = "dirty-update", lists.appends, lists.orders
    known = np.flatnonzero(orders.slot != NOTHING)
    slot = orders.slot[known]
    is_plain = ~appends.is_double[slot] & lists.is_sound[orders.key[known]]
    known, slot = known[is_plain], slot[is_plain]
    refused = lists.log.status[appends.transaction[slot]] == Status.FAIL
    good = known[~refused]
    after = np.searchsorted(good, known[refused])
    has_after = after < len(good)
    dirty, after = known[refused][has_after], good[after[has_after]]
    same = orders.key[dirty] == orders.key[after]
    dirty, after = dirty[same], after[same]
    anomalies = []
    for one, two in list(zip(dirty.tolist(), after.tolist(), strict=True))[:SHOWN]:
        made = int(appends.place[orders.slot[one]])
        over = int(appends.place[orders.slot[two]])
        claim = (
            f"T2 appended {narrator.value(over)} to {narrator.key(over)} behind "
            f"{narrator.value(made)} that T1 appended, and T1 was refused."
        )
        anomalies.append(
            narrator.tell(name, claim, [(made, "T1"), (over, "T2")], Edge.WW)
        )
    return Finding(name, len(dirty), tuple(anomalies))


_KINDS: tuple[Callable[[Lists, Narrator], Finding], ...] = (
    _find_duplicates,
    _find_incompatible,
    _find_aborted,
    _find_intermediate,
    _find_dirty_updates,
)
