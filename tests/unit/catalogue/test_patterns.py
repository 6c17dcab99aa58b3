"""Every pattern is what it says: its bug is found, its mend holds, in peace it is right."""

import re

import pytest

from test_framework.catalogue import Pattern, find_pattern, load_patterns
from test_framework.core import UsageError
from test_framework.explore import (
    Conclusion,
    Fidelity,
    Report,
    explore,
    load_scenario,
    replay,
)

RUNS = 400
PATTERNS = load_patterns()
SOURCE = re.compile(r"https://[a-z0-9.-]+\.[a-z]+/[\w./#?=%:()-]+|(CVE|GHSA)-[\w-]+")
each = pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.id)
Explored = tuple[Pattern, Report, Report]


@pytest.fixture(scope="module", params=PATTERNS, ids=lambda pattern: pattern.id)
def explored(request: pytest.FixtureRequest) -> Explored:
    """Explore both twins of a pattern, once for all tests."""
    pattern: Pattern = request.param
    # One seed: how often others find it is measured by the benchmark.
    vulnerable, safe = (
        pattern.explore(twin, schedules=RUNS, budget=60, seed=1)
        for twin in ("vulnerable", "safe")
    )
    return pattern, vulnerable, safe


@pytest.mark.power
def test_vulnerable_twin_is_found(explored: Explored) -> None:
    """The bug is found within the runs, and fails in the way the pattern says."""
    pattern, report, _ = explored

    assert report.conclusion is Conclusion.FOUND, report.text()
    assert report.witness is not None
    assert report.witness.failure.kind == pattern.kind, report.text()


def test_safe_twin_is_quiet(explored: Explored) -> None:
    """The mend holds in all orders, or in as many runs as the bug was allowed."""
    _, vulnerable, safe = explored

    assert safe.conclusion in {Conclusion.PROVEN, Conclusion.SAMPLED}, safe.text()
    if safe.conclusion is Conclusion.SAMPLED:
        assert safe.schedules == RUNS
    assert safe.schedules >= vulnerable.schedules


def test_plain_asyncio_fails_the_same_way(explored: Explored) -> None:
    """A witness of fidelity fifo is no artefact: CPython's own loop repeats it."""
    pattern, report, _ = explored

    assert report.witness is not None
    confirmed = True if pattern.fidelity is Fidelity.FIFO else None
    assert report.witness.is_confirmed is confirmed


def test_witness_replays_by_its_reference(explored: Explored) -> None:
    """The scenario that a witness names is found again, and fails again."""
    _, report, _ = explored
    assert report.witness is not None

    scenario = load_scenario(report.witness.scenario)
    outcome = replay(scenario, report.witness.schedule.token())

    assert outcome.failure == report.witness.failure


@each
def test_usual_order_shows_nothing(pattern: Pattern) -> None:
    """In the order of plain asyncio, undisturbed, even the vulnerable twin is right.

    So it is the order or the fault that breaks it, and no plain mistake.
    """
    report = explore(pattern.vulnerable, schedules=1, fidelity=pattern.fidelity, seed=1)

    assert report.witness is None, report.text()


@each
def test_source_is_a_link_or_number(pattern: Pattern) -> None:
    """Every pattern says where it was seen, in a form that can be looked up."""
    assert SOURCE.fullmatch(pattern.source)


@each
def test_summary_is_one_or_two_sentences(pattern: Pattern) -> None:
    """The bug and its mend are told in at most two short sentences."""
    sentences = re.findall(r"[.?](?: |$)", pattern.summary)

    assert 1 <= len(sentences) <= 2
    assert pattern.summary.endswith(".")


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
