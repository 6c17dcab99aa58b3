"""Registers: who wrote what was read, and which versions came before which.

A read of a register tells one version and not those before it, so the order of versions
is inferred, as far as it can be (Kingsbury and Alvaro, "Elle", VLDB 2020, section 5):
the initial version comes first, a version that a transaction read before the one it
wrote; and, if the caller says so, versions in the order in which a session, or anybody
in real time, met them.
"""

from dataclasses import dataclass

import numpy as np

from test_framework.check.transactions.dependencies import Flags, distinct
from test_framework.check.transactions.log import (
    FOREVER,
    NOTHING,
    Ints,
    Kind,
    Status,
    TransactionLog,
)
from test_framework.check.transactions.versions import Runs


@dataclass(frozen=True, slots=True)
class Writes:
    """All writes, by code; the place in these columns is the *slot* of a write.

    Attributes:
        place: The operation; shape ``(w,)``.
        transaction: Who made it; ``(w,)``.
        key: Of which register; ``(w,)``.
        code: Key and value; ascending; ``(w,)``.
        is_final: It is the last one of its transaction on its key; ``(w,)``.
        is_double: Its value was written to this key before or after; ``(w,)``.
    """

    place: Ints
    transaction: Ints
    key: Ints
    code: Ints
    is_final: Flags
    is_double: Flags

    @classmethod
    def of(cls, log: TransactionLog, runs: Runs) -> "Writes":
        """Collect them."""
        place = np.flatnonzero(log.kind == Kind.WRITE)
        code = _encode(log, place)
        order = np.argsort(code, kind="stable")
        place, code = place[order], code[order]
        same = code[1:] == code[:-1]
        is_double = np.zeros(len(place), dtype=np.bool_)
        is_double[1:] = same
        is_double[:-1] |= same
        is_final = np.ones(len(log.kind), dtype=np.bool_)
        is_write = log.kind[runs.place] == Kind.WRITE
        within, begin = runs.place[is_write], runs.begin[is_write]
        is_final[within[:-1][begin[1:] == begin[:-1]]] = False
        return cls(
            place,
            log.transaction[place],
            log.key[place],
            code,
            is_final[place],
            is_double,
        )


def _encode(log: TransactionLog, place: Ints) -> Ints:
    return np.asarray(log.key[place] * (len(log.values) + 1) + log.value[place])


@dataclass(frozen=True, slots=True)
class Registers:
    """A history of registers, prepared.

    Versions are numbered: that of a write by its slot, the initial one of a key by the
    number of writes and that of the key.

    Attributes:
        log: The transactions.
        runs: Operations of a transaction on one key.
        writes: All writes.
        read_place: Reads that took effect and had an answer; shape ``(r,)``.
        read_version: The version each of them saw; ``NOTHING`` where nobody wrote it,
            or several did; ``(r,)``.
        is_outer: Nothing that its transaction did before on this key decides what it
            sees; ``(r,)``.
        took_effect: Transactions that say so, or were seen; ``(n,)``.
    """

    log: TransactionLog
    runs: Runs
    writes: Writes
    read_place: Ints
    read_version: Ints
    is_outer: Flags
    took_effect: Flags

    @classmethod
    def of(cls, log: TransactionLog) -> "Registers":
        """Prepare a history."""
        runs = Runs.of(log)
        writes = Writes.of(log, runs)
        is_ok = log.status == Status.OK
        is_read = (log.kind == Kind.READ) & (log.value >= NOTHING)
        place = np.flatnonzero(is_read & is_ok[log.transaction])
        count = len(writes.place)
        if count:
            code = _encode(log, place)
            slot = np.minimum(np.searchsorted(writes.code, code), count - 1)
            is_known = (writes.code[slot] == code) & ~writes.is_double[slot]
            version = np.where(is_known, slot, NOTHING)
        else:
            version = np.full(len(place), NOTHING)
        is_initial = log.value[place] == NOTHING
        version[is_initial] = count + log.key[place[is_initial]]
        is_outer = np.ones(len(log.kind), dtype=np.bool_)
        is_outer[runs.place[runs.begin != np.arange(len(runs.place))]] = False
        took_effect = is_ok.copy()
        seen = version[(version != NOTHING) & (version < count)]
        seen = writes.transaction[seen]
        took_effect[seen[log.status[seen] == Status.INFO]] = True
        return cls(log, runs, writes, place, version, is_outer[place], took_effect)

    @property
    def versions(self) -> int:
        """Return how many versions there may be: writes, and one for each key."""
        return len(self.writes.place) + len(self.log.keys)

    def is_installed(self) -> Flags:
        """Tell which writes made a version that others may build on."""
        writes = self.writes
        installed = writes.is_final & ~writes.is_double
        return np.asarray(installed & self.took_effect[writes.transaction])


@dataclass(frozen=True, slots=True)
class Contacts:
    """What each transaction met of each key: a version first, and one last.

    Attributes:
        transaction: Who; shape ``(c,)``.
        key: Of which register; ``(c,)``.
        first: The version it read, or wrote if it read none before; ``(c,)``.
        last: The version it wrote, or read if it wrote none; ``(c,)``.
        has_read: The first one was read; ``(c,)``.
    """

    transaction: Ints
    key: Ints
    first: Ints
    last: Ints
    has_read: Flags

    @classmethod
    def of(cls, registers: Registers) -> "Contacts":
        """Collect them; what tells nothing is left out."""
        log, writes = registers.log, registers.writes
        reads = np.flatnonzero(registers.is_outer & (registers.read_version != NOTHING))
        made = np.flatnonzero(registers.is_installed())
        step = len(log.keys)
        read_place = registers.read_place[reads]
        read_code = log.transaction[read_place] * step + log.key[read_place]
        made_code = writes.transaction[made] * step + writes.key[made]
        code = distinct(np.concatenate((read_code, made_code)))
        first, last = np.full((2, len(code)), NOTHING)
        at_read, at_made = (
            np.searchsorted(code, read_code),
            np.searchsorted(code, made_code),
        )
        first[at_made] = last[at_made] = made
        seen = registers.read_version[reads]
        first[at_read] = seen
        is_only_read = last[at_read] == NOTHING
        last[at_read[is_only_read]] = seen[is_only_read]
        has_read = np.zeros(len(code), dtype=np.bool_)
        has_read[at_read] = True
        return cls(code // max(step, 1), code % max(step, 1), first, last, has_read)


@dataclass(frozen=True, slots=True)
class VersionOrder:
    """Which versions of a key came before which, as far as it is known.

    Attributes:
        before: Versions; shape ``(p,)``.
        after: A later version of the same key each; ``(p,)``.
    """

    before: Ints
    after: Ints

    @classmethod
    def join(cls, *parts: tuple[Ints, Ints]) -> "VersionOrder":
        """Return all pairs of different versions, each once."""
        nothing = np.zeros(0, dtype=np.int64)
        before = np.concatenate([nothing, *(part[0] for part in parts)])
        after = np.concatenate([nothing, *(part[1] for part in parts)])
        step = int(max(before.max(initial=0), after.max(initial=0))) + 1
        code = distinct(before * step + after)
        before, after = code // step, code % step
        differ = before != after
        return cls(before[differ], after[differ])


def order_initial(registers: Registers, known: VersionOrder) -> tuple[Ints, Ints]:
    """Put the initial version of each key before those that no other is before."""
    is_first = np.ones(registers.versions, dtype=np.bool_)
    is_first[known.after] = False
    count = len(registers.writes.place)
    made = np.flatnonzero(registers.is_installed() & is_first[:count])
    return count + registers.writes.key[made], made


def order_own(contacts: Contacts) -> tuple[Ints, Ints]:
    """Put what a transaction read before what it wrote ("writes follow reads")."""
    return contacts.first[contacts.has_read], contacts.last[contacts.has_read]


def order_by_sessions(log: TransactionLog, contacts: Contacts) -> tuple[Ints, Ints]:
    """Put what a session met of a key before what it met of it later."""
    is_ok = log.status[contacts.transaction] == Status.OK
    some = np.flatnonzero(is_ok)
    owner = contacts.transaction[some]
    order = np.lexsort((log.index[owner], log.session[owner], contacts.key[some]))
    some = some[order]
    owner = contacts.transaction[some]
    same = contacts.key[some[1:]] == contacts.key[some[:-1]]
    same &= log.session[owner[1:]] == log.session[owner[:-1]]
    overlaps = log.completed[owner[:-1]] > log.invoked[owner[1:]]
    same &= ~overlaps | (log.completed[owner[:-1]] == FOREVER)
    return contacts.last[some[:-1][same]], contacts.first[some[1:][same]]


def order_by_time(log: TransactionLog, contacts: Contacts) -> tuple[Ints, Ints]:
    """Put what anybody met of a key before what others met of it afterwards.

    Of all who were over before a transaction began, those who were over before another
    of these began are left out: the order goes through that one.
    """
    owner = contacts.transaction
    times = distinct(np.concatenate((log.completed[owner], log.invoked[owner])))
    step = len(times) + 1
    ends = contacts.key * step + np.searchsorted(times, log.completed[owner])
    begins = contacts.key * step + np.searchsorted(times, log.invoked[owner])
    # The end of what is not over comes after all beginnings, so it is before none.
    order = np.argsort(ends, kind="stable")
    ends = ends[order]
    latest = np.maximum.accumulate(begins[order]) if len(order) else order
    until = np.searchsorted(ends, begins, side="left")
    bound = np.append(latest, 0)[until - 1]
    bound = np.where(until > 0, bound, 0)
    since = np.searchsorted(ends, np.maximum(bound, contacts.key * step), side="left")
    count = np.maximum(until - since, 0)
    total = np.cumsum(count)
    within = np.arange(int(count.sum())) - np.repeat(total - count, count)
    earlier = order[np.repeat(since, count) + within]
    return contacts.last[earlier], np.repeat(contacts.first, count)
