"""Every pattern is what it says: its bug is found, its mend holds, in peace it is right."""

import re
from functools import cache

import pytest

from test_framework.catalogue import Needs, Pattern, Twin, find_pattern, load_patterns
from test_framework.core import UsageError
from test_framework.explore import (
    Conclusion,
    Fidelity,
    Report,
    Witness,
    explore,
    load_scenario,
    replay,
)

RUNS = 400
PATTERNS = load_patterns()
SOURCE = re.compile(r"https://[a-z0-9.-]+\.[a-z]+/[\w./#?=%:()-]*|(CVE|GHSA)-[\w-]+")
each = pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.id)


@cache
def explored(pattern: Pattern, twin: Twin) -> Report:
    """Explore a twin, once for all tests.

    One seed: how often others find it is measured by the benchmark.
    """
    return pattern.explore(twin, schedules=RUNS, budget=60, seed=1)


def witness_of(pattern: Pattern) -> Witness:
    """Return the witness against the vulnerable twin."""
    witness = explored(pattern, "vulnerable").witness
    assert witness is not None, f"{pattern.id} was not found"
    return witness


@pytest.mark.power
@each
def test_vulnerable_twin_is_found(pattern: Pattern) -> None:
    """The bug is found within the runs, and fails in the way the pattern says."""
    report = explored(pattern, "vulnerable")

    assert report.conclusion is Conclusion.FOUND, report.text()
    assert witness_of(pattern).failure.kind == pattern.kind, report.text()


@each
def test_safe_twin_is_quiet(pattern: Pattern) -> None:
    """The mend holds in all orders, or in as many runs as the bug was allowed."""
    report = explored(pattern, "safe")

    assert report.conclusion in {Conclusion.PROVEN, Conclusion.SAMPLED}, report.text()
    assert report.conclusion is Conclusion.PROVEN or report.schedules == RUNS


def test_usual_order_shows_nothing() -> None:
    """In the order of plain asyncio, undisturbed, every vulnerable twin is right.

    So it is the order or the fault that breaks it, and no plain mistake.
    """
    reports = {
        pattern.id: explore(
            pattern.vulnerable, schedules=1, fidelity=pattern.fidelity, seed=1
        )
        for pattern in PATTERNS
    }

    assert [one for one, report in reports.items() if report.witness is not None] == []


def test_orders_alone_do_not_show_what_needs_faults() -> None:
    """A pattern that names a need has it: without, its vulnerable twin is quiet."""
    reports = {
        pattern.id: explore(
            pattern.vulnerable, schedules=RUNS, fidelity=pattern.fidelity, seed=1
        )
        for pattern in PATTERNS
        if pattern.needs != Needs()
    }

    assert reports
    assert [one for one, report in reports.items() if report.witness is not None] == []


def test_plain_asyncio_fails_the_same_way() -> None:
    """A witness of fidelity fifo is no artefact: CPython's own loop repeats it."""
    odd = [
        pattern.id
        for pattern in PATTERNS
        if pattern.fidelity is Fidelity.FIFO and not witness_of(pattern).is_confirmed
    ]

    assert odd == []


def test_witness_replays_by_its_reference() -> None:
    """The scenario that a witness names is found again, and fails again."""
    for pattern in PATTERNS:
        witness = witness_of(pattern)
        outcome = replay(load_scenario(witness.scenario), witness.schedule.token())
        assert outcome.failure == witness.failure, pattern.id


def test_every_source_can_be_looked_up() -> None:
    """A pattern says where it was seen: a link, or the number of an advisory."""
    odd = [one.id for one in PATTERNS if not SOURCE.fullmatch(one.source)]

    assert odd == []


def test_every_summary_is_one_or_two_sentences() -> None:
    """The bug and its mend are told in at most two sentences."""
    odd = [
        one.id
        for one in PATTERNS
        if not one.summary.endswith(".")
        or len(re.findall(r"[.?](?= [A-Z]|$)", one.summary)) > 2
    ]

    assert odd == []


def test_ids_are_unique_and_well_formed() -> None:
    """Ids are a letter and two digits; none is given twice."""
    ids = [pattern.id for pattern in PATTERNS]

    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Z]\d\d", one) for one in ids)


def test_pattern_is_found_by_id() -> None:
    """An id finds its pattern, however it is written."""
    assert find_pattern("P03").title == "lost update"
    assert find_pattern("p03") is find_pattern("P03")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("P3", "P03 (lost update)"),
        ("lost updates", "P03 (lost update)"),
        ("nonsense", "docs/catalogue.md lists them all"),
    ],
)
def test_unknown_id_is_told_what_is_near(word: str, hint: str) -> None:
    """A wrong id is refused with the ids that are near, or with where to look."""
    with pytest.raises(UsageError) as caught:
        find_pattern(word)

    assert repr(word) in str(caught.value)
    assert hint in str(caught.value)
