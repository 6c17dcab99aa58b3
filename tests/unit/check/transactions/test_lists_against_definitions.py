"""Cycles are those of the definitions, on tiny histories and within long ones.

The definitions are taken at their word: all dependencies as pairs, all cycles that pass
each transaction once, each with every choice of edges (Adya, 1999; Elle, VLDB 2020).
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator
from itertools import pairwise, product

import pytest

from test_framework.check.transactions import (
    LogBuilder,
    Micro,
    Status,
    TransactionLog,
    check_list_append,
)
from test_framework.check.transactions.dependencies import Edge
from test_framework.check.transactions.levels import judge_levels
from test_framework.check.transactions.rules import classify
from tests.unit.check.transactions.brute_force import order_of
from tests.unit.check.transactions.drawing import (
    draw_scanned_lists,
    draw_versioned_lists,
)
from tests.unit.check.transactions.histories import history
from tests.unit.check.transactions.test_list_anomalies import TWINS

Pairs = dict[tuple[int, int], set[Edge]]


def define_edges(log: TransactionLog) -> tuple[Pairs, bool]:
    """Return all edges, and whether the order of all versions is known."""
    edges: Pairs = defaultdict(set)
    all_of_it = [log.read(number) for number in range(len(log))]
    writer: dict[tuple[Hashable, int], int] = {}
    reads: dict[Hashable, list[tuple[int, tuple[int, ...], Edge]]] = defaultdict(list)
    for each in all_of_it:
        for word, key, value in each.operations:
            if word == "append" and each.status is not Status.FAIL:
                writer[key, value] = each.number
            elif word == "r" and each.status is Status.OK:
                reads[key].append((each.number, tuple(value or ()), Edge.RW))
            elif word == "absent" and each.status is Status.OK:
                reads[key].append((each.number, (), Edge.PRW))
    seen = {
        writer[key, value]
        for key, lists in reads.items()
        for _, values, _ in lists
        for value in values
    }
    is_total = True
    for key in {key for key, _ in writer} | set(reads):
        longest = max((values for _, values, _ in reads[key]), key=len, default=())
        order = [writer[key, value] for value in longest]
        tails = {
            number
            for (other, value), number in writer.items()
            if other == key and value not in longest
            if all_of_it[number].status is Status.OK or number in seen
        }
        is_total &= len(tails) < 2
        for pair in [*pairwise(order), *product(order[-1:], tails)]:
            edges[pair].add(Edge.WW)
        for reader, values, kind in reads[key]:
            makers = order[: len(values)]
            if makers:
                edges[makers[-1], reader].add(Edge.WR)
            for other in set(order[len(values) :][:1]) or tails:
                edges[reader, other].add(kind)
    for pair in order_of(log, 1):
        edges[pair].add(Edge.SESSION)
    for one, two in order_of(log, 2):
        ended = all_of_it[one].completed
        if ended is not None and ended < all_of_it[two].invoked:
            edges[one, two].add(Edge.REALTIME)
    return {
        pair: kinds
        for pair, kinds in edges.items()
        if pair[0] != pair[1]
        and all(all_of_it[number].status is not Status.FAIL for number in pair)
    }, is_total


def define_cycles(edges: Pairs) -> set[str]:
    """Return the names of all cycles, with every choice of edges."""
    following: dict[int, set[int]] = defaultdict(set)
    for source, target in edges:
        following[source].add(target)

    def extend(way: list[int]) -> Iterator[list[int]]:
        for target in following[way[-1]]:
            if target == way[0]:
                yield way
            elif target > way[0] and target not in way:
                yield from extend([*way, target])

    return {
        classify(kinds)
        for begin in list(following)
        for way in extend([begin])
        for kinds in product(*(edges[pair] for pair in pairwise([*way, begin])))
    }


def compare(
    seeds: range,
    draw: Callable[[random.Random], TransactionLog] = draw_versioned_lists,
) -> Counter[str]:
    """Compare what is broken, and return how often each weakest model was."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        log = draw(random.Random(seed))
        if any(log.status == Status.FAIL):
            continue
        edges, is_total = define_edges(log)
        checked = check_list_append(log)
        if not is_total or checked.reason:
            continue
        _, broken = judge_levels(define_cycles(edges))
        assert checked.broken == broken, seed
        for one in checked.anomalies:
            for link in one.links:
                pair = (one.items[link.source].index, one.items[link.target].index)
                assert Edge[link.kind.upper()] in edges[pair], (seed, one, link)
        seen.update(broken)
    return seen


def test_broken_levels_are_those_of_the_definitions() -> None:
    """Each class of cycles was met, and none is missed or made up."""
    seen = compare(range(400))

    assert {"consistent-view", "repeatable-read"} <= set(seen)
    assert any(name.startswith("strong-session-") for name in seen)
    assert any(name.startswith("strong-r") for name in seen)


def test_broken_levels_with_scans_are_those_of_the_definitions() -> None:
    """Phantoms break serializability and leave repeatable read whole."""
    seen = compare(range(600), draw_scanned_lists)

    assert {"serializable", "consistent-view", "snapshot-isolation"} <= set(seen)


@pytest.mark.long
def test_broken_levels_of_many_are_those_of_the_definitions() -> None:
    """The same for 5,000 histories."""
    assert compare(range(400, 5_400))["snapshot-isolation"]
    assert compare(range(600, 5_600), draw_scanned_lists)["serializable"]


def surround(lines: tuple[str, ...], seed: int) -> TransactionLog:
    """Return a history with some transactions among 300 sound ones on other keys."""
    rng = random.Random(seed)
    builder = LogBuilder()
    store: dict[str, list[int]] = {key: [] for key in "pqr"}
    planted = history(*lines)
    at = sorted(rng.sample(range(300), len(planted)))
    for number in range(300):
        operations: list[Micro] = []
        for key in rng.choices("pqr", k=3):
            if rng.random() < 0.5:
                store[key].append(number * 10 + len(operations))
                operations.append(("append", key, store[key][-1]))
            else:
                operations.append(("r", key, list(store[key])))
        # All of them overlap, and each has a session of its own.
        builder.add(number, operations, invoked=0, completed=10_000)
        if number in at:
            one = planted.read(at.index(number))
            builder.add(
                one.session,
                one.operations,
                status=one.status,
                invoked=one.invoked,
                completed=one.completed,
            )
    return builder.build()


@pytest.mark.parametrize("name", TWINS)
def test_anomaly_is_found_among_many_sound_transactions(name: str) -> None:
    """Nothing else is found, and the sound sibling is still left alone."""
    twins = TWINS[name]
    alone = check_list_append(history(*twins.broken))

    checked = check_list_append(surround(twins.broken, seed=len(name)))

    assert Counter(one.name for one in checked.anomalies) == Counter(
        one.name for one in alone.anomalies
    )
    assert checked.broken == twins.weakest
    assert check_list_append(surround(twins.sound, seed=len(name))).verdict == "valid"
