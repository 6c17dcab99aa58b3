"""Tiny random histories of transactions, from wild ones to those with cycles only."""

import random
from collections import Counter, defaultdict

from test_framework.check.transactions import LogBuilder, Micro, Status, TransactionLog

_Plan = list[tuple[str, str, int]]
"""Operations: ``append`` and the value, or ``r`` and 0."""


def draw_wild_lists(rng: random.Random) -> TransactionLog:
    """Return up to 4 transactions: versions in any order, reads that may be nonsense."""
    plans = _draw_plans(rng, transactions=rng.randint(1, 4), keys=rng.randint(1, 2))
    order: dict[str, list[int]] = defaultdict(list)
    for plan in plans:
        for word, key, value in plan:
            if word == "append":
                order[key].append(value)
    for values in order.values():
        if rng.random() < 0.5:
            rng.shuffle(values)
    answers = []
    for plan in plans:
        own: dict[str, list[int]] = defaultdict(list)
        snapshot: dict[str, list[int]] = {}
        answer: list[Micro] = []
        for word, key, value in plan:
            if word == "append":
                own[key].append(value)
                answer.append((word, key, value))
                continue
            others = [one for one in order[key] if ("append", key, one) not in plan]
            if key not in snapshot:
                snapshot[key] = others[: rng.randint(0, len(others))]
            seen = snapshot[key] + own[key]
            if rng.random() < 0.07:
                seen = order[key][: rng.randint(0, len(order[key]))]
            answer.append((word, key, seen))
        answers.append(answer)
    return _record(rng, answers, doubt=0.2)


def draw_versioned_lists(rng: random.Random) -> TransactionLog:
    """Return up to 5 transactions, each of them whole in versions that each one chose.

    There is nothing wrong with any transaction by itself: only cycles can be.
    """
    plans = _draw_plans(rng, transactions=rng.randint(2, 5), keys=rng.randint(1, 3))
    versions: dict[str, list[list[int]]] = defaultdict(lambda: [[]])
    for plan in rng.sample(plans, len(plans)):
        for key in dict.fromkeys(key for word, key, _ in plan if word == "append"):
            made = [
                value for word, own, value in plan if (word, own) == ("append", key)
            ]
            versions[key].append(versions[key][-1] + made)
    answers = []
    for plan in plans:
        answer: list[Micro] = []
        store: dict[str, list[int]] = {}
        for word, key, value in plan:
            if key not in store:
                mine = {
                    one for kind, own, one in plan if (kind, own) == ("append", key)
                }
                # Before its own version, or any one if it makes none.
                allowed = [one for one in versions[key] if mine.isdisjoint(one)]
                store[key] = allowed[-1] if mine else rng.choice(allowed)
            if word == "append":
                store[key] = [*store[key], value]
                answer.append((word, key, value))
            else:
                answer.append((word, key, store[key]))
        answers.append(answer)
    return _record(rng, answers, doubt=0.1)


def draw_scanned_lists(rng: random.Random) -> TransactionLog:
    """Return versions chosen as above, some of them by scans of all lists.

    What a scan finds need not be what the same transaction read before or reads later:
    lists that were begun meanwhile are phantoms.
    """
    keys = "xyz"[: rng.randint(1, 3)]
    plans = _draw_plans(rng, transactions=rng.randint(2, 4), keys=len(keys))
    versions: dict[str, list[list[int]]] = {key: [[]] for key in keys}
    for plan in rng.sample(plans, len(plans)):
        for key in dict.fromkeys(key for word, key, _ in plan if word == "append"):
            made = [
                value for word, own, value in plan if (word, own) == ("append", key)
            ]
            versions[key].append(versions[key][-1] + made)
    answers = []
    for plan in plans:
        view = _View(rng, versions, plan)
        answer: list[Micro] = []
        for word, key, value in plan:
            if word == "append":
                view.append(key, value)
                answer.append((word, key, value))
            elif rng.random() < 0.4:
                answer.append((word, key, view.read(key)))
            else:
                answer.append(("scan", None, view.scan(keys)))
        answers.append(answer)
    return _record(rng, answers, doubt=0.1)


class _View:
    """What one transaction may see: a version of each list, from before its own."""

    def __init__(
        self, rng: random.Random, versions: dict[str, list[list[int]]], plan: _Plan
    ) -> None:
        self._rng, self._versions, self._plan = rng, versions, plan
        self._store: dict[str, list[int]] = {}
        self._changed: set[str] = set()

    def read(self, key: str) -> list[int]:
        if key not in self._store:
            mine = {v for word, own, v in self._plan if (word, own) == ("append", key)}
            allowed = [one for one in self._versions[key] if mine.isdisjoint(one)]
            self._store[key] = allowed[-1] if mine else self._rng.choice(allowed)
        return self._store[key]

    def append(self, key: str, value: int) -> None:
        self._store[key] = [*self.read(key), value]
        self._changed.add(key)

    def scan(self, keys: str) -> list[tuple[str, list[int]]]:
        """Return lists that are begun, without some that are not its own."""
        seen = [k for k in keys if k in self._changed or self._rng.random() < 0.6]
        return [(key, self.read(key)) for key in seen if self.read(key)]


def draw_wild_registers(rng: random.Random) -> TransactionLog:
    """Return up to 4 transactions that read any version, and often what they overwrite."""
    plans = _draw_plans(rng, transactions=rng.randint(1, 4), keys=rng.randint(1, 2))
    made: dict[str, list[int | None]] = defaultdict(lambda: [None])
    for plan in plans:
        for word, key, value in plan:
            if word == "append" and (rng.random() < 0.9 or value == 1):
                made[key].append(value)
    answers = []
    for plan in plans:
        own: dict[str, int | None] = {}
        answer: list[Micro] = []
        for word, key, value in plan:
            if key not in own and (word == "r" or rng.random() < 0.6):
                others = [one for one in made[key] if ("append", key, one) not in plan]
                own[key] = rng.choice(others)
                answer.append(("r", key, own[key]))
            if word == "append":
                own[key] = value
                answer.append(("w", key, value))
            elif rng.random() < 0.1:
                answer.append((word, key, rng.choice(made[key])))
        answers.append(answer)
    return _record(rng, answers, doubt=0.15)


def _draw_plans(rng: random.Random, *, transactions: int, keys: int) -> list[_Plan]:
    count: Counter[str] = Counter()
    plans = []
    for _ in range(transactions):
        plan: _Plan = []
        for _ in range(rng.randint(1, 3)):
            key = rng.choice("xyz"[:keys])
            if rng.random() < 0.5:
                count[key] += 1
                plan.append(("append", key, count[key]))
            else:
                plan.append(("r", key, 0))
        plans.append(plan)
    return plans


def _record(
    rng: random.Random, answers: list[list[Micro]], *, doubt: float
) -> TransactionLog:
    """Record transactions, each session one after the other; some end unknown."""
    builder = LogBuilder()
    clock: Counter[str] = Counter()
    for answer in answers:
        session = rng.choice("abc")
        status = Status.OK
        if rng.random() < doubt:
            status = rng.choice((Status.INFO, Status.FAIL))
        invoked = clock[session] + rng.randint(0, 5)
        completed = invoked + rng.randint(0, 6)
        clock[session] = completed + 1
        told = [
            (
                word,
                key,
                value if word in {"append", "w"} or status is Status.OK else None,
            )
            for word, key, value in answer
        ]
        builder.add(session, told, status=status, invoked=invoked, completed=completed)
    return builder.build()
