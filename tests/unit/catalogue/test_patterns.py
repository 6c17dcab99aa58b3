"""Every pattern is what it says: its bug is found, its mend holds, in peace it is right."""

import dataclasses
import re
import sys
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest

from test_framework import catalogue
from test_framework.catalogue import (
    Area,
    Needs,
    Pattern,
    Twin,
    find_pattern,
    load_patterns,
    load_themes,
)
from test_framework.catalogue.drawing import draw
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
THEMES = {
    theme: tuple(patterns)
    for theme, patterns in groupby(PATTERNS, lambda one: one.theme)
}
# Not for each pattern: every test that explores ends with a collection of all garbage.
each_theme = pytest.mark.parametrize("theme", THEMES)


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
@each_theme
def test_vulnerable_twins_are_found(theme: str) -> None:
    """Each bug is found within the runs, and fails in the way its pattern says."""
    reports = [(one, explored(one, "vulnerable")) for one in THEMES[theme]]

    missed = [
        f"{pattern.id}, expected {pattern.kind}: {report.text()}"
        for pattern, report in reports
        if report.witness is None or report.witness.failure.kind != pattern.kind
    ]

    assert missed == []


@pytest.mark.slow
@each_theme
def test_safe_twins_are_quiet(theme: str) -> None:
    """Each mend holds in all orders, or in as many runs as the bug was allowed."""
    reports = [(one, explored(one, "safe")) for one in THEMES[theme]]

    unquiet = [
        f"{pattern.id}: {report.text()}"
        for pattern, report in reports
        if report.conclusion is not Conclusion.PROVEN
        and (report.conclusion is not Conclusion.SAMPLED or report.schedules < RUNS)
    ]

    assert unquiet == []


def test_usual_order_shows_only_what_any_order_shows() -> None:
    """In the order of plain asyncio, undisturbed, only those fail that say so.

    All others are right there: it is the order or the fault that breaks them.
    """
    reports = {
        pattern.id: explore(
            pattern.vulnerable, schedules=1, fidelity=pattern.fidelity, seed=1
        )
        for pattern in PATTERNS
    }

    assert {one for one, report in reports.items() if report.witness is not None} == {
        pattern.id for pattern in PATTERNS if not pattern.needs.order
    }


@pytest.mark.slow
def test_orders_alone_do_not_show_what_needs_faults() -> None:
    """A pattern that names a need has it: without, its vulnerable twin is quiet."""
    reports = {
        pattern.id: explore(
            pattern.vulnerable, schedules=RUNS, fidelity=pattern.fidelity, seed=1
        )
        for pattern in PATTERNS
        if pattern.needs.cancel or pattern.needs.errors
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


def test_every_failure_says_what_it_did() -> None:
    """The failure of a bug reads as what happened to whom, and not as a bare assert."""
    silent = [
        one.id
        for one in PATTERNS
        if witness_of(one).failure.message.startswith("assert ")
    ]

    assert silent == []


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11),
    reason="the drawings are of 3.11; asyncio takes other steps in other versions",
)
@each_theme
def test_drawing_is_what_the_explorer_found(theme: str) -> None:
    """The docstring of each file draws the run that breaks it; make docs draws anew."""
    stale = [one.id for one in THEMES[theme] if _drawn(one) != one.interleaving]

    assert stale == []


def _drawn(pattern: Pattern) -> str:
    return draw(pattern, witness_of(pattern))


def test_drawing_shows_whose_statements_run_when() -> None:
    """Each user has a column, filled with the statements of the program."""
    head, *rows, outcome = find_pattern("P03").interleaving.splitlines()

    assert head.split() == ["alice", "bob"]
    assert [row.strip() for row in rows if row.startswith(" ")] == [
        "await credit.spend(3)",
        "left = self.left",
        'await external("charge the card")',
        "self.left = left - amount",
    ]
    assert rows[3:6] == [
        "await credit.spend(3)",
        "left = self.left",
        'await external("charge the card")',
    ]
    assert outcome == "-> 7 credits left, of 10 less two times 3"


def test_drawing_ends_where_nothing_can_go_on() -> None:
    """What is done to the tasks of a deadlock afterwards is not told; a fault is."""
    inversion = find_pattern("B14").interleaving
    orphaned = find_pattern("X14").interleaving

    assert "<- cancelled" not in inversion
    assert orphaned.count("<- cancelled") == 1


@each_theme
def test_witness_replays_by_its_reference(theme: str) -> None:
    """The scenario that a witness names is found again, and fails again."""
    pattern = THEMES[theme][-1]
    witness = witness_of(pattern)

    scenario = load_scenario(witness.scenario)
    outcome = replay(scenario, witness.schedule.token())

    assert scenario is pattern.vulnerable
    assert outcome.failure == witness.failure


def test_every_source_can_be_looked_up() -> None:
    """A pattern says where it was seen: a link, or the number of an advisory."""
    odd = [one.id for one in PATTERNS if not SOURCE.fullmatch(one.source)]

    assert odd == []


def test_every_mechanism_and_fix_is_one_or_two_sentences() -> None:
    """Bug and mend are told in at most two sentences each."""
    odd = [
        one.id
        for one in PATTERNS
        for text in (one.mechanism, one.fix)
        if not text.endswith(".") or len(re.findall(r"[.?](?= [A-Z]|$)", text)) > 2
    ]

    assert odd == []


def test_pattern_that_no_module_holds_has_no_reference() -> None:
    """A pattern made on the fly is explored too, and its witness names no scenario."""
    made = dataclasses.replace(find_pattern("P03"), title="made on the fly")

    report = made.explore(schedules=RUNS, seed=1)

    assert report.witness is not None
    assert report.witness.scenario == ""


@pytest.mark.parametrize(
    ("needs", "told"),
    [
        (Needs(), "orders"),
        (Needs(order=False), "nothing"),
        (Needs(cancel="user*"), "cancel=user*"),
        (Needs(errors=("OSError", "ValueError")), "errors=OSError,ValueError"),
        (Needs(cancel="main", errors=("OSError",)), "cancel=main errors=OSError"),
    ],
)
def test_needs_read_like_the_options_of_explore(needs: Needs, told: str) -> None:
    """What a pattern needs is told in the words with which one asks for it."""
    assert str(needs) == told


def test_file_of_a_pattern_is_found_by_its_id() -> None:
    """The names of all files of the themes begin with the ids of their patterns."""
    there = {
        path.name.partition("_")[0].upper()
        for theme in load_themes()
        for path in (Path(catalogue.__path__[0]) / theme).glob("[a-z]*.py")
    }

    assert there == {pattern.id for pattern in PATTERNS}
    assert all(one.file.name.startswith(f"{one.id.lower()}_") for one in PATTERNS)


def test_docstring_of_a_file_begins_with_id_and_title() -> None:
    """Who opens a file sees which pattern it is."""
    odd = [
        one.id
        for one in PATTERNS
        if not str(sys.modules[one.module].__doc__).startswith(
            f"{one.id}: {one.title}."
        )
    ]

    assert odd == []


def test_core_is_complete() -> None:
    """The 47 patterns that any tool of this kind must know have their twins."""
    core = re.findall(
        r"\w+",
        "P01 P02 P03 P04 P05 P06 P07 P08 P09 P11 P14 P15 P18 P22 C01 C02 C03 C04 C05 "
        "C11 X01 X03 X05 X07 X09 X11 D01 D03 D05 D06 D09 D10 R01 R05 R06 W01 W05 W07 "
        "W08 A01 A04 A14 L01 L02 L04 L09 L14",
    )

    assert len(core) == 47
    assert [one for one in core if one not in {each.id for each in PATTERNS}] == []


@pytest.mark.parametrize("area", Area)
def test_every_area_is_covered(area: Area) -> None:
    """Each of the five things that users must not share has at least ten patterns."""
    assert sum(area in pattern.areas for pattern in PATTERNS) >= 10


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
        ("nonsense", "'isolation-audit patterns' lists them"),
    ],
)
def test_unknown_id_is_told_what_is_near(word: str, hint: str) -> None:
    """A wrong id is refused with the ids that are near, or with where to look."""
    with pytest.raises(UsageError) as caught:
        find_pattern(word)

    assert repr(word) in str(caught.value)
    assert hint in str(caught.value)
