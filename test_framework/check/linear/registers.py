"""Registers whose values are written once each: decided by sorting.

When no value is written twice, each read tells which write it saw. The calls on one
value, its write and the reads of it, are a block that takes effect as a whole, and the
lemma of blocks decides (``zones``). A ``cas`` that succeeded puts its value right
behind the one it expected, so whole chains are blocks, and inside a chain the order is
known. A value that two of them replaced was lost; one that nobody wrote came from
nowhere.

What this does not decide, it leaves to the search: objects with a value that is written
twice or is the initial one, and those on which a ``cas`` is known to have failed, unless
they are wrong already without it.

Source: Gibbons and Korach, "Testing shared memories", SIAM J. Comput. 26, 1997; the
chains are added.
"""

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from test_framework.check.linear.calls import Call
from test_framework.check.linear.columns import (
    FOREVER,
    NEVER,
    CallLog,
    Ints,
    Mask,
    named,
    number_of,
    numbered,
)
from test_framework.check.linear.models import CasRegister, Register, pair, unheard_of
from test_framework.check.linear.ruling import (
    MOST_ANOMALIES,
    Ruling,
    anomaly,
    before,
    label,
    on,
)
from test_framework.check.linear.zones import Axis, conflicts, out_of_order
from test_framework.check.witness import Anomaly, Link

_INITIAL = -2
"""In place of the call that set a cell: it was so from the start."""


@dataclass(frozen=True, slots=True)
class _Cells:
    """Calls by what they set and saw; a cell is an object with a value.

    Attributes:
        count: Number of cells.
        initial: Cell of what each object holds first; shape ``(keys,)``.
        sets: Cell that a call set, -1 if none; ``(n,)``.
        saw: Cell that it saw, -1 if none; ``(n,)``.
        failed: Calls that are known to have found another value than they expected.
    """

    count: int
    initial: Ints
    sets: Ints
    saw: Ints
    failed: Mask


def judge_registers(log: CallLog, model: Register) -> Ruling:
    """Judge registers, with ``cas`` or without.

    Raises:
        UsageError: The model does not know an operation.
    """
    cells = _cells(log, model)
    happened = _happened(log, cells)
    undecided = _ambiguous(log, cells)
    if undecided:
        happened &= ~np.isin(log.key, list(undecided))
    anomalies = _judge(log, Axis.of(log), cells, happened)
    if not anomalies:
        undecided |= set(np.unique(log.key[cells.failed]).tolist())
    return Ruling(anomalies, frozenset(undecided))


def _judge(
    log: CallLog, axis: Axis, cells: _Cells, happened: Mask
) -> tuple[Anomaly, ...]:
    """Look for what is wrong, the plainest first."""
    sets, saw = cells.sets, cells.saw
    setting = np.flatnonzero(happened & (sets >= 0))
    seeing = np.flatnonzero(happened & (saw >= 0))
    setter = np.full(cells.count, -1)
    setter[sets[setting]] = setting
    setter[cells.initial] = _INITIAL
    found = setter[saw[seeing]]
    phantoms = seeing[found == -1]
    if len(phantoms):
        return tuple(_phantom(log, int(row)) for row in phantoms[:MOST_ANOMALIES])
    is_early = (found >= 0) & (axis.end[seeing] < axis.begin[np.maximum(found, 0)])
    if is_early.any():
        pairs = zip(seeing[is_early], found[is_early], strict=True)
        return tuple(
            _early(log, int(read), int(write))
            for read, write in list(pairs)[:MOST_ANOMALIES]
        )
    linking = setting[saw[setting] >= 0]
    del found, is_early
    if not len(linking):
        del setter
        parts = [(setting, sets[setting]), (seeing, saw[seeing])]
        return _judge_blocks(log, axis, cells, parts)
    reading = seeing[sets[seeing] < 0]
    rows = np.concatenate((setting, reading))
    cell = np.concatenate((sets[setting], saw[reading]))
    lost = _lost_updates(log, saw, linking)
    if lost:
        return lost
    parent = np.full(cells.count, -1)
    parent[sets[linking]] = saw[linking]
    head, depth = _chains(parent)
    circular = linking[head[sets[linking]] < 0]
    if len(circular):
        return (_circle(log, parent, setter, int(sets[circular[0]])),)
    return _judge_chains(log, axis, rows, head[cell], depth[cell]) or _judge_blocks(
        log, axis, cells, [(rows, head[cell])]
    )


def _cells(log: CallLog, model: Register) -> _Cells:
    """Number the values of each object."""
    write, read = log.where("write"), log.where("read")
    cas = log.where("cas") if isinstance(model, CasRegister) else np.zeros_like(write)
    odd = ~(write | read | cas)
    if odd.any():
        raise unheard_of(model, log.read(int(np.argmax(odd))))
    # None has number -1: one more, and the numbers count from 0.
    # Columns are changed in place here: of a million calls, each takes 8 MB.
    sets, saw = log.argument + 1, log.result + 1
    sets[~write] = -1
    saw[~(read & log.is_known)] = -1
    failed = np.zeros(len(log), dtype=np.bool_)
    width, first = len(log.values) + 1, number_of(log, model.initial) + 1
    if cas.any():
        numbers = numbered(log)
        expected, new, failed = _swaps(log, cas, numbers)
        width, first = len(numbers), numbers.get(named(model.initial), -2) + 1
        sets = np.where(cas & ~failed, new, sets)
        saw = np.where(cas & ~failed, expected, saw)
    key, keys = log.key, np.arange(len(log.keys))
    is_set = sets >= 0
    owner = np.full(width + 1, -1)
    owner[sets[is_set]] = key[is_set]
    if (owner[sets[is_set]] == key[is_set]).all():
        # Each value belongs to one object, so its number will do.
        nowhere = width + len(keys)
        is_initial, is_foreign = (saw >= 0) & (saw == first), owner[saw] != key
        is_foreign &= saw >= 0
        saw[is_foreign] = nowhere
        saw[is_initial] = width + key[is_initial]
        is_initial = is_set & (sets == first)
        sets[is_initial] = width + key[is_initial]
        return _Cells(nowhere + 1, width + keys, sets, saw, failed)
    places = [
        key[is_set] * (width + 1) + sets[is_set],
        key[saw >= 0] * (width + 1) + saw[saw >= 0],
        keys * (width + 1) + (width if first < 0 else first),
    ]
    present, cell = np.unique(np.concatenate(places), return_inverse=True)
    setting, seeing, initial = np.split(
        cell, np.cumsum([len(place) for place in places])[:-1]
    )
    sets[is_set], saw[saw >= 0] = setting, seeing
    return _Cells(len(present), initial, sets, saw, failed)


def _swaps(
    log: CallLog, cas: Mask, numbers: dict[Hashable, int]
) -> tuple[Ints, Ints, Mask]:
    """Return what each ``cas`` expected and would set, and which failed.

    Values that stand in pairs only get their numbers here.
    """
    expected, new = np.full(len(log), -1), np.full(len(log), -1)
    failed = np.zeros(len(log), dtype=np.bool_)
    for row in np.flatnonzero(cas).tolist():
        call = log.read(row)
        old, fresh = pair(call)
        expected[row] = numbers.setdefault(named(old), len(numbers) - 1) + 1
        new[row] = numbers.setdefault(named(fresh), len(numbers) - 1) + 1
        failed[row] = call.is_known and not call.result
    return expected, new, failed


def _happened(log: CallLog, cells: _Cells) -> Mask:
    """Return which calls happened: those that are known to, and those that were seen.

    One of unknown outcome that nobody saw can be left out: what allows it not to have
    happened allows more.
    """
    known = log.is_known
    happened = known & ~cells.failed
    lost = np.flatnonzero(~known & (cells.sets >= 0))
    if len(lost):
        is_seen = np.zeros(cells.count, dtype=np.bool_)
        is_seen[cells.saw[happened & (cells.saw >= 0)]] = True
        while True:
            came = lost[is_seen[cells.sets[lost]] & ~happened[lost]]
            if not len(came):
                break
            happened[came] = True
            swapped = came[cells.saw[came] >= 0]
            is_seen[cells.saw[swapped]] = True
    return happened


def _ambiguous(log: CallLog, cells: _Cells) -> set[int]:
    """Return the objects on which a value is set twice, or the initial one again."""
    setting = np.flatnonzero(cells.sets >= 0)
    times = np.bincount(cells.sets[setting], minlength=cells.count)
    times[cells.initial] += 1
    return set(np.unique(log.key[setting[times[cells.sets[setting]] > 1]]).tolist())


def _chains(parent: Ints) -> tuple[Ints, Ints]:
    """Return the first cell of each chain and how far behind it a cell stands.

    Each round looks twice as far, so a chain of n takes log n of them. A cell on a
    circle has no first one: -1.
    """
    head = np.where(parent >= 0, parent, np.arange(len(parent)))
    depth = (parent >= 0).astype(np.int64)
    for _ in range(len(parent).bit_length() + 1):
        depth = depth + depth[head]
        head = head[head]
    return np.where(parent[head] >= 0, -1, head), depth


def _judge_blocks(
    log: CallLog, axis: Axis, cells: _Cells, parts: list[tuple[Ints, Ints]]
) -> tuple[Anomaly, ...]:
    """Judge calls by the blocks they belong to: rows, and the block of each."""
    first_end = np.full(cells.count, FOREVER)
    last_begin = np.full(cells.count, NEVER)
    for rows, block in parts:
        np.minimum.at(first_end, block, axis.end[rows])
        np.maximum.at(last_begin, block, axis.begin[rows])
    first_end[cells.initial] = np.arange(len(log.keys)) * axis.span
    # A block without calls begins before all time, so it is in nobody's way.
    return tuple(
        _back_and_forth(
            log,
            axis,
            np.concatenate([rows[block == one] for rows, block in parts]),
            np.concatenate([rows[block == two] for rows, block in parts]),
        )
        for one, two in conflicts(first_end, last_begin)
    )


def _judge_chains(
    log: CallLog, axis: Axis, rows: Ints, head: Ints, depth: Ints
) -> tuple[Anomaly, ...]:
    # Each chain gets a stretch of time of its own, in which only the order counts.
    times = np.unique(np.concatenate((axis.begin[rows], axis.end[rows])))
    _, chain = np.unique(head, return_inverse=True)
    offset = chain * (len(times) + 1)
    broken = out_of_order(
        chain * (int(depth.max(initial=0)) + 1) + depth,
        np.searchsorted(times, axis.begin[rows]) + offset,
        np.searchsorted(times, axis.end[rows]) + offset,
    )
    anomalies = []
    for first, second in broken:
        pair_ = [int(rows[second]), int(rows[first])]
        claim = (
            f"On {on(log, pair_[0])} each cas took effect upon the one before it, so b "
            "had to come before a; but a had returned before b was called."
        )
        link = Link(
            1, 0, "follows", "a belongs to a value that came later in the chain"
        )
        anomalies.append(
            anomaly(log, "non-linearizable", claim, pair_, before(0, 1), link)
        )
    return tuple(anomalies)


def _phantom(log: CallLog, row: int) -> Anomaly:
    call = log.read(row)
    value = pair(call)[0] if call.kind == "cas" else call.result
    claim = f"{value!r} was seen on {on(log, row)}, where no call ever wrote it."
    return anomaly(log, "phantom read", claim, [row])


def _early(log: CallLog, read: int, write: int) -> Anomaly:
    claim = (
        f"A call on {on(log, read)} saw a value and returned before the call that wrote "
        "it began."
    )
    link = Link(1, 0, "wr", "a saw what b wrote")
    return anomaly(
        log, "read from the future", claim, [read, write], before(0, 1), link
    )


def _lost_updates(log: CallLog, saw: Ints, linking: Ints) -> tuple[Anomaly, ...]:
    """Return those that replaced a value which another one had replaced."""
    order = linking[np.argsort(saw[linking], kind="stable")]
    again = np.flatnonzero(saw[order][1:] == saw[order][:-1])
    anomalies = []
    for place in again[:MOST_ANOMALIES]:
        rows = [int(order[place]), int(order[place + 1])]
        expected = pair(log.read(rows[0]))[0]
        claim = (
            f"Two calls on {on(log, rows[0])} replaced {expected!r}, which was there "
            "once: one update is lost."
        )
        link = Link(0, 1, "ww", f"both a and b expected {expected!r} and succeeded")
        anomalies.append(anomaly(log, "lost update", claim, rows, link))
    return tuple(anomalies)


def _circle(log: CallLog, parent: Ints, setter: Ints, cell: int) -> Anomaly:
    for _ in range(len(parent)):  # a chain may lead into a circle
        cell = int(parent[cell])
    cells = [cell]
    while parent[cells[-1]] != cell:
        cells.append(int(parent[cells[-1]]))
    rows = [int(setter[one]) for one in reversed(cells)]
    links = [
        Link(
            place,
            (place + 1) % len(rows),
            "wr",
            f"{label((place + 1) % len(rows))} expected what {label(place)} set",
        )
        for place in range(len(rows))
    ]
    claim = (
        f"Each of {len(rows)} calls on {on(log, rows[0])} replaced what the one before "
        "it set, in a circle: none can have been the first."
    )
    return anomaly(log, "cyclic cas", claim, rows, *links)


def _back_and_forth(log: CallLog, axis: Axis, one: Ints, two: Ints) -> Anomaly:
    """Return the witness of two blocks that must each come before the other.

    Of the initial value only reads are calls; it was there before all of them.
    """
    ended = [int(rows[np.argmin(axis.end[rows])]) for rows in (one, two)]
    begun = [int(rows[np.argmax(axis.begin[rows])]) for rows in (one, two)]
    rows = list(dict.fromkeys([ended[0], begun[1], ended[1], begun[0]]))
    place = {row: at for at, row in enumerate(rows)}
    links = []
    if axis.end[ended[0]] < axis.begin[begun[1]]:
        links.append(before(place[ended[0]], place[begun[1]]))
    same = "are about one value, which was there once and without a break"
    if begun[1] != ended[1]:
        pair_ = place[begun[1]], place[ended[1]]
        links.append(
            Link(*pair_, "block", f"{label(pair_[0])} and {label(pair_[1])} {same}")
        )
    links.append(before(place[ended[1]], place[begun[0]]))
    if begun[0] != ended[0]:
        pair_ = place[begun[0]], place[ended[0]]
        links.append(
            Link(*pair_, "block", f"{label(pair_[0])} and {label(pair_[1])} {same}")
        )
    last = log.read(begun[0])
    name = "stale read" if last.kind == "read" else "non-linearizable"
    claim = (
        f"{label(place[begun[0]])} on {on(log, begun[0])} was called after "
        f"{label(place[ended[1]])} had returned, yet is about {_value(last)!r}, which "
        "had to be gone by then."
    )
    return anomaly(log, name, claim, rows, *links)


def _value(call: Call) -> object:
    """Return the value that a call saw or set."""
    if call.kind == "cas":
        return pair(call)[1]
    return call.result if call.kind == "read" else call.argument
