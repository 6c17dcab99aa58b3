"""In which order the versions of each list came, as its reads tell.

A list that is only appended to carries its history: a read of [1 2 5] says that 1 was
there before 2, and 2 before 5. So the longest read of a key orders its versions, and
any other read must be a beginning of it (Kingsbury and Alvaro, "Elle", VLDB 2020,
section 3). Appends that no read saw came after all those that were seen.

All of it is done in columns. Appends are kept in the order of their codes (key and
value in one number), so that a value is found by bisection.
"""

from dataclasses import dataclass

import numpy as np

from test_framework.check.transactions.dependencies import Flags
from test_framework.check.transactions.log import (
    NOTHING,
    Ints,
    Kind,
    Status,
    TransactionLog,
)

_CHUNK = 1 << 18
"""Elements to compare at a time: such columns stay in the cache."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Operations of one transaction on one key, where there is more than one.

    Attributes:
        place: The operations, by transaction, key and place; shape ``(r,)``.
        begin: Where the run of each of them begins in ``place``; ``(r,)``.
    """

    place: Ints
    begin: Ints

    @classmethod
    def of(cls, log: TransactionLog) -> "Runs":
        """Find them all."""
        code = log.transaction * max(len(log.keys), 1) + log.key
        order = np.argsort(code, kind="stable")
        ordered = code[order]
        same = ordered[1:] == ordered[:-1]
        is_one = np.zeros(len(order), dtype=np.bool_)
        is_one[1:] = same
        is_first = ~is_one
        is_one[:-1] |= same
        place, is_first = order[is_one], is_first[is_one]
        spot = np.arange(len(place))
        return cls(place, np.maximum.accumulate(np.where(is_first, spot, 0)))


@dataclass(frozen=True, slots=True)
class Appends:
    """All appends, by code; the place in these columns is the *slot* of an append.

    Attributes:
        place: The operation; shape ``(a,)``.
        transaction: Who made it; ``(a,)``.
        key: Of which list; ``(a,)``.
        code: Key and value; ascending; ``(a,)``.
        is_final: It is the last one of its transaction on its key; ``(a,)``.
        is_double: Its value was appended to this key before or after; ``(a,)``.
        step: Codes of a key are from ``key * step``.
    """

    place: Ints
    transaction: Ints
    key: Ints
    code: Ints
    is_final: Flags
    is_double: Flags
    step: int

    @classmethod
    def of(cls, log: TransactionLog, runs: Runs) -> "Appends":
        """Collect them."""
        step = len(log.values) + 1
        place = np.flatnonzero(log.kind == Kind.APPEND)
        code = log.key[place] * step + log.value[place]
        if np.any(code[1:] < code[:-1]):
            order = np.argsort(code, kind="stable")
            place, code = place[order], code[order]
        same = code[1:] == code[:-1]
        is_double = np.zeros(len(place), dtype=np.bool_)
        is_double[1:] = same
        is_double[:-1] |= same
        is_final = np.ones(len(log.kind), dtype=np.bool_)
        within = runs.place[log.kind[runs.place] == Kind.APPEND]
        owner, key = log.transaction[within], log.key[within]
        followed = (owner[1:] == owner[:-1]) & (key[1:] == key[:-1])
        is_final[within[:-1][followed]] = False
        return cls(
            place,
            log.transaction[place],
            log.key[place],
            code,
            is_final[place],
            is_double,
            step,
        )

    def find(self, key: Ints, value: Ints) -> Ints:
        """Return the slot of each value of a key; ``NOTHING`` if nobody appended it."""
        if not len(self.code):
            return np.full(len(key), NOTHING)
        code = key * self.step + value
        slot = np.minimum(np.searchsorted(self.code, code), len(self.code) - 1)
        return np.where(self.code[slot] == code, slot, NOTHING)


@dataclass(frozen=True, slots=True)
class Reads:
    """Reads of lists by transactions that took effect.

    Attributes:
        place: The operation; shape ``(r,)``.
        transaction: Whose it is; ``(r,)``.
        key: Of which list; ``(r,)``.
        start: Its first element in ``log.elements``; ``(r,)``.
        count: Length of the list; ``(r,)``.
    """

    place: Ints
    transaction: Ints
    key: Ints
    start: Ints
    count: Ints

    @classmethod
    def of(cls, log: TransactionLog) -> "Reads":
        """Collect them; a read of nothing is one of an empty list."""
        is_read = (log.kind == Kind.READ_LIST) | (log.kind == Kind.ABSENT)
        is_read |= (log.kind == Kind.READ) & (log.value == NOTHING)
        is_read &= (log.status == Status.OK)[log.transaction] & (log.count >= 0)
        place = np.flatnonzero(is_read)
        return cls(
            place,
            log.transaction[place],
            log.key[place],
            log.start[place],
            log.count[place],
        )

    def select(self, chosen: Flags | Ints) -> "Reads":
        """Return some of them."""
        return Reads(*(getattr(self, name)[chosen] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Orders:
    """The longest read of each key, one key after the other.

    Attributes:
        base: Where each key begins; the last is the number of elements; ``(k + 1,)``.
        longest: The read that tells it, in ``Reads``; ``NOTHING`` if none; ``(k,)``.
        value: Elements of all keys; shape ``(e,)``.
        key: Key of each element; ``(e,)``.
        slot: Its append; ``NOTHING`` if nobody made it; ``(e,)``.
        fits: Which reads are a beginning of the longest one; shape ``(r,)``.
    """

    base: Ints
    longest: Ints
    value: Ints
    key: Ints
    slot: Ints
    fits: Flags

    @classmethod
    def of(cls, log: TransactionLog, appends: Appends, reads: Reads) -> "Orders":
        """Take the longest read of each key, and compare all others with it."""
        count = np.zeros(len(log.keys), dtype=np.int64)
        np.maximum.at(count, reads.key, reads.count)
        longest = np.full(len(log.keys), NOTHING)
        is_longest = np.flatnonzero(reads.count == count[reads.key])
        longest[reads.key[is_longest]] = is_longest
        base = np.concatenate(([0], np.cumsum(count)))
        key = np.repeat(np.arange(len(log.keys)), count)
        # Keys that nobody read have no elements, so where theirs would begin is moot.
        start = np.append(reads.start, 0)[longest]
        value = log.elements[np.arange(len(key)) + (start - base[:-1])[key]]
        slot = appends.find(key, value)
        return cls(base, longest, value, key, slot, _compare(log, reads, base, value))


def _compare(log: TransactionLog, reads: Reads, base: Ints, value: Ints) -> Flags:
    """Tell which reads are a beginning of the order of their key."""
    fits = np.ones(len(reads.count), dtype=np.bool_)
    ends = np.cumsum(reads.count)
    total = int(ends[-1]) if len(ends) else 0
    begin = 0
    while begin < len(ends):
        done = int(ends[begin - 1]) if begin else 0
        end = int(np.searchsorted(ends, min(done + _CHUNK, total), side="right"))
        end = min(max(end, begin + 1), len(ends))
        part = slice(begin, end)
        count = reads.count[part]
        first = ends[part] - count - done
        within = np.arange(int(ends[end - 1]) - done)
        here = np.repeat(reads.start[part] - first, count) + within
        there = np.repeat(base[reads.key[part]] - first, count) + within
        differs = np.flatnonzero(log.elements[here] != value[there])
        if len(differs):
            wrong = np.searchsorted(ends[part] - done, differs, side="right")
            fits[begin + wrong] = False
        begin = end
    return fits
