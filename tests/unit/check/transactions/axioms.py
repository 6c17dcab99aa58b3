"""Isolation levels by their axioms over every order of commits: slow, and plain.

Source: Biswas and Enea, OOPSLA 2019, definition 3.3 and figure 2. A history shows a level
if some total order of commits extends program order and reads-from, and no axiom puts
``other``, which wrote a key that ``reader`` read of ``writer``, behind ``writer``.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from test_framework.check.transactions import LogBuilder, TransactionLog
from test_framework.check.transactions.weak import IsolationLevel

Operation = tuple[str, str, int | None]

INITIAL = -1


@dataclass(frozen=True)
class Tiny:
    """A history small enough to try every order of its transactions.

    Attributes:
        sessions: Session of each transaction; they come in program order.
        transactions: Their operations; values of a key are all different.
    """

    sessions: tuple[int, ...]
    transactions: tuple[tuple[Operation, ...], ...]

    def log(self) -> TransactionLog:
        """Return it as checkers take it."""
        builder = LogBuilder()
        for session, operations in zip(self.sessions, self.transactions, strict=True):
            builder.add(session, operations)
        return builder.build()


def draw(rng: random.Random, *, transactions: int, keys: str = "xy") -> Tiny:
    """Return a history whose reads name some last write of another transaction."""
    sessions = [rng.randrange(4) for _ in range(transactions)]
    values = itertools.count(1)
    plans: list[list[Operation]] = []
    for _ in range(transactions):
        plan: list[Operation] = []
        for _ in range(rng.randint(1, 4)):
            key = rng.choice(keys)
            word = rng.choice("rw")
            plan.append((word, key, next(values) if word == "w" else None))
        plans.append(plan)
    # A history without any read proves nothing, and checkers say so.
    plans[-1].insert(0, ("r", rng.choice(keys), None))
    last = [{key: value for word, key, value in plan if word == "w"} for plan in plans]

    # Half of the histories read from snapshots, as most databases do, if old ones.
    is_snapshot = rng.random() < 0.5
    snapshot = [rng.randint(max(0, i - 3), i) for i in range(transactions)]

    def seen_by(number: int, key: str) -> int | None:
        others = [i for i in range(transactions) if i != number and key in last[i]]
        earlier = [i for i in others if i < number]
        luck = rng.random()
        if is_snapshot and luck < 0.97:
            found = [i for i in others if i < snapshot[number]][-1:]
        elif luck < 0.5:
            found = earlier[-1:]
        elif luck < 0.97:
            found = [INITIAL, *earlier]
        else:
            found = others
        writer = rng.choice(found) if found else INITIAL
        return None if writer == INITIAL else last[writer][key]

    def answered(number: int) -> Iterator[Operation]:
        own: dict[str, int | None] = {}
        for word, key, value in plans[number]:
            if word == "w":
                own[key] = value
            yield word, key, own[key] if key in own else seen_by(number, key)

    return Tiny(tuple(sessions), tuple(tuple(answered(i)) for i in range(transactions)))


def levels_of(tiny: Tiny) -> set[IsolationLevel]:
    """Return the levels that some order of commits satisfies."""
    count = len(tiny.sessions)
    reads, writes = _reads_and_writes(tiny)
    session = {
        (i, j)
        for i in range(count)
        for j in range(i + 1, count)
        if tiny.sessions[i] == tiny.sessions[j]
    }
    base = session | {
        (writer, reader)
        for reader, found in enumerate(reads)
        for _, _, writer in found
        if writer != INITIAL
    }
    past = _closed(base, count)
    held: set[IsolationLevel] = set()
    for order in itertools.permutations(range(count)):
        place = {node: at for at, node in enumerate(order)} | {INITIAL: -1}
        if any(place[i] > place[j] for i, j in base):
            continue
        for level in set(IsolationLevel) - held:
            if all(
                place[other] < place[writer]
                for reader, found in enumerate(reads)
                for at, key, writer in found
                for other in range(count)
                if other not in (writer, reader)
                and key in writes[other]
                and _must_be_seen(
                    level, other, reader, at, reads, writes, base, past, place
                )
            ):
                held.add(level)
        if len(held) == len(IsolationLevel):
            break
    return held


def _must_be_seen(
    level: IsolationLevel,
    other: int,
    reader: int,
    at: int,
    reads: list[list[tuple[int, str, int]]],
    writes: list[set[str]],
    base: set[tuple[int, int]],
    past: set[tuple[int, int]],
    place: dict[int, int],
) -> bool:
    """Tell whether the axiom of a level asks that ``reader`` did not miss ``other``."""
    if level is IsolationLevel.READ_COMMITTED:
        return any(writer == other and when < at for when, _, writer in reads[reader])
    if level is IsolationLevel.READ_ATOMIC:
        return (other, reader) in base
    if level is IsolationLevel.CAUSAL:
        return (other, reader) in past
    if level is IsolationLevel.SERIALIZABLE:
        return place[other] < place[reader]
    nodes = range(len(reads))
    prefix = any(place[other] <= place[one] and (one, reader) in base for one in nodes)
    conflict = any(
        place[other] <= place[one] < place[reader] and writes[one] & writes[reader]
        for one in nodes
    )
    return prefix or conflict


def _reads_and_writes(
    tiny: Tiny,
) -> tuple[list[list[tuple[int, str, int]]], list[set[str]]]:
    """Return reads of others as (place, key, writer), and keys that were written."""
    by = {
        (key, value): number
        for number, operations in enumerate(tiny.transactions)
        for word, key, value in operations
        if word == "w"
    }
    reads = [
        [
            (at, key, INITIAL if value is None else by[key, value])
            for at, (word, key, value) in enumerate(operations)
            if word == "r" and (value is None or by[key, value] != number)
        ]
        for number, operations in enumerate(tiny.transactions)
    ]
    writes = [
        {key for word, key, _ in operations if word == "w"}
        for operations in tiny.transactions
    ]
    return reads, writes


def _closed(edges: set[tuple[int, int]], count: int) -> set[tuple[int, int]]:
    """Return the transitive closure."""
    closed = set(edges)
    for middle, first, last in itertools.product(range(count), repeat=3):
        if (first, middle) in closed and (middle, last) in closed:
            closed.add((first, last))
    return closed
