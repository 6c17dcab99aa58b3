"""A serial execution that gives what was read: the proof that a history is serializable.

Orders of versions that nobody saw leave a history open: it has no bad cycle, and may be
wrong all the same. Here transactions are executed one after the other, as soon as each
finds what it read and overwrites nothing that another one has yet to read. That is
greedy, so to fail proves nothing; what it finds is certain.
"""

from bisect import insort
from collections import Counter, defaultdict

import numpy as np

from test_framework.check.transactions.dependencies import Edge, Edges
from test_framework.check.transactions.log import FOREVER, Ints, Status
from test_framework.check.transactions.register_versions import Registers

_TRIES = 50
"""Transactions to look at for each one, after which it is given up."""

_FEW = 100_000
"""The same in all, if it is more."""

_CHOICE = 32
"""Transactions to look at for the best one to go next, if there is any."""


def can_replay(registers: Registers, edges: Edges, strength: int) -> bool:
    """Tell whether a serial execution was found.

    Args:
        registers: The history.
        edges: What is known of their order, and the order of sessions.
        strength: What order it must respect: 0 none, 1 of sessions, 2 of real time.
    """
    return _Replay(registers, edges, strength).run()


class _Replay:
    """One attempt; versions are numbers as in ``Registers``."""

    def __init__(self, registers: Registers, edges: Edges, strength: int) -> None:
        log, writes = registers.log, registers.writes
        self._reads: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._writes: dict[int, list[tuple[int, int]]] = defaultdict(list)
        # Readers of each version that have not been executed.
        self._pending: Counter[int] = Counter()
        self._store: dict[int, int] = {}
        outer = registers.is_outer
        place = registers.read_place[outer]
        for owner, key, version in _rows(
            log.transaction[place], log.key[place], registers.read_version[outer]
        ):
            self._reads[owner].append((key, version))
            self._pending[version] += 1
        made = np.flatnonzero(registers.is_installed())
        for owner, key, version in _rows(
            writes.transaction[made], writes.key[made], made
        ):
            self._writes[owner].append((key, version))
        self._initial = len(writes.place)
        members = np.flatnonzero(registers.took_effect)
        self._waiting: Counter[int] = Counter()
        self._following: dict[int, list[int]] = defaultdict(list)
        if not strength:
            edges = edges.select(edges.kind != int(Edge.SESSION))
        for one, two in _rows(edges.source, edges.target):
            self._following[one].append(two)
            self._waiting[two] += 1
        self._count = len(log)
        relays = {number for number in self._following if number >= len(log)}
        for relay in relays - self._waiting.keys():
            self._pass_on(relay)
        is_over = log.status == Status.OK
        end = np.where(is_over, log.completed, FOREVER) if strength > 1 else None
        self._end = np.full(len(log), FOREVER) if end is None else end
        self._invoked = log.invoked
        # Most databases commit in the order of completions, more or less.
        usual = np.lexsort((log.index[members], log.completed[members]))
        self._by_end = members[usual].tolist()
        self._by_begin = members[
            np.argsort(log.invoked[members], kind="stable")
        ].tolist()

    def run(self) -> bool:
        """Execute all of them, or give up."""
        rank = {number: at for at, number in enumerate(self._by_end)}
        ends = sorted((int(self._end[number]), number) for number in self._by_end)
        candidates: list[int] = []
        done: set[int] = set()
        begun = first = work = 0
        while len(done) < len(self._by_end):
            while ends[first][1] in done:
                first += 1
            while begun < len(self._by_begin) and (
                int(self._invoked[self._by_begin[begun]]) <= ends[first][0]
            ):
                insort(candidates, rank[self._by_begin[begun]])
                begun += 1
            chosen = None
            for at, position in enumerate(candidates):
                if chosen is not None and at > _CHOICE:
                    break
                work += 1
                number = self._by_end[position]
                if self._fits(number):
                    chosen = at if chosen is None else chosen
                    # What nobody waits to read stands in nobody's way: it goes first.
                    if self._is_unread(number):
                        chosen = at
                        break
            if chosen is None:
                return False
            number = self._by_end[candidates.pop(chosen)]
            self._execute(number)
            done.add(number)
            if work > max(_TRIES * len(self._by_end), _FEW):
                return False
        return True

    def _fits(self, number: int) -> bool:
        if self._waiting[number]:
            return False
        reads = self._reads.get(number, ())
        if any(self._current(key) != version for key, version in reads):
            return False
        own = Counter(version for _, version in reads)
        return all(
            self._pending[current] <= own[current]
            for current in (
                self._current(key) for key, _ in self._writes.get(number, ())
            )
        )

    def _is_unread(self, number: int) -> bool:
        return not any(
            self._pending[version] for _, version in self._writes.get(number, ())
        )

    def _current(self, key: int) -> int:
        return self._store.get(key, self._initial + key)

    def _execute(self, number: int) -> None:
        for _, version in self._reads.get(number, ()):
            self._pending[version] -= 1
        self._store.update(self._writes.get(number, ()))
        self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        """Free what waited for a transaction, or for all that a relay stands for."""
        for other in self._following.get(number, ()):
            self._waiting[other] -= 1
            if other >= self._count and not self._waiting[other]:
                self._pass_on(other)


def _rows(*columns: Ints) -> "zip[tuple[int, ...]]":
    return zip(*(column.tolist() for column in columns), strict=True)
