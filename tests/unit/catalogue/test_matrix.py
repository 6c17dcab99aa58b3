"""What the matrix says is what explorer and detectors do."""

import dataclasses
import sys
from pathlib import Path

import pytest

from test_framework.catalogue import (
    Pattern,
    Twin,
    find_pattern,
    load_matrix,
    load_patterns,
)
from test_framework.catalogue.matrix import WATCHED, Outcome
from test_framework.catalogue.measure import (
    measure,
    measure_all,
    measure_hosted,
    sabotaged,
    watch,
)
from test_framework.catalogue.pattern import Means
from test_framework.core import AlarmRecord, Level

TESTS = Path(__file__).parents[2] / "e2e"
MATRIX = load_matrix()
SHARE = 4
"""One pattern in so many is measured again by the default tests, by a fixed choice."""


@pytest.fixture(autouse=True)
def _plain_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away pytest's import hook, which the tracker leaves alone.

    It rewrites the asserts of packages that are plugins, as this one is.
    """
    plain = [one for one in sys.meta_path if "pytest" not in type(one).__module__]
    monkeypatch.setattr(sys, "meta_path", plain)


def stored(means: Means, outcome: Outcome) -> list[str]:
    """Return the ids of the patterns of which the matrix says that of a means."""
    return [one for one, outcomes in MATRIX.items() if outcomes.get(means) == outcome]


def test_every_pattern_is_in_the_matrix() -> None:
    """No pattern was added without being measured: make matrix."""
    assert set(MATRIX) == {pattern.id for pattern in load_patterns()}


def test_explorer_misses_nothing() -> None:
    """All patterns are found by the explorer, as test_patterns shows, with no alarm."""
    assert set(stored("explorer", Outcome.FOUND)) == set(MATRIX)


@pytest.mark.power
@pytest.mark.parametrize("means", WATCHED)
def test_detectors_still_find_what_the_matrix_says(means: Means) -> None:
    """What a detector has found once it finds again: here a fourth, all in make soak."""
    known = stored(means, Outcome.FOUND)[::SHARE]

    lost = [one for one in known if measure(find_pattern(one), means) != Outcome.FOUND]

    assert known
    assert lost == []


@pytest.mark.parametrize("means", ["access", "locks"])
def test_detectors_leave_safe_twins_alone(means: Means) -> None:
    """No error is told about a safe twin but those that the matrix owns up to."""
    known = stored(means, Outcome.FALSE_ALARM)
    chosen = [one for one in load_patterns() if one.id not in known][::SHARE]

    alarmed = [
        one.id
        for one in chosen
        if any(alarm.level == "error" for alarm in watch(one, "safe", means))
    ]

    assert alarmed == []


def test_error_about_a_safe_twin_outweighs_what_is_found() -> None:
    """A means that cries wolf has not found the bug."""
    pattern = find_pattern("P03")

    wolf = dataclasses.replace(pattern, safe=pattern.vulnerable)

    assert measure(wolf, "explorer") == Outcome.FALSE_ALARM


@pytest.mark.parametrize(
    ("vulnerable", "safe", "outcome"),
    [
        (["note", "error"], ["warning"], Outcome.FOUND),
        (["note"], [], Outcome.HINTED),
        (["warning"], ["note"], Outcome.MISSED),
        (["error"], ["error"], Outcome.FALSE_ALARM),
        ([], [], Outcome.MISSED),
    ],
)
def test_levels_of_alarms_make_the_outcome(
    vulnerable: list[Level],
    safe: list[Level],
    outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error finds, a lesser alarm hints if it tells the twins apart."""
    told = {"vulnerable": vulnerable, "safe": safe}

    def watched(_pattern: Pattern, twin: Twin, _means: Means) -> list[AlarmRecord]:
        return [AlarmRecord("rule", level, "claim", "site", ()) for level in told[twin]]

    monkeypatch.setattr("test_framework.catalogue.measure.watch", watched)

    assert measure(find_pattern("P03"), "access") == outcome


def test_silence_is_a_miss_only_where_a_finding_is_expected() -> None:
    """What does not apply is left out of the matrix."""
    pattern = find_pattern("P03")
    mended = dataclasses.replace(pattern, vulnerable=pattern.safe)

    assert measure(mended, "explorer") == Outcome.MISSED
    assert measure(pattern, "locks") is None
    assert measure(pattern, "leaks") is None


@pytest.mark.long
def test_matrix_is_what_is_measured_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but audits, whose timing is real; where this fails, make matrix anew.

    What audits find is compared by test_audits_find_what_the_matrix_says.
    """
    monkeypatch.setattr(
        "test_framework.catalogue.measure.measure_hosted", lambda _patterns: {}
    )
    inside = {"explorer", *WATCHED}

    measured = measure_all(TESTS)

    for id_, outcomes in MATRIX.items():
        found = {one: measured[id_][one] for one in inside & measured[id_].keys()}
        assert found == {one: outcomes[one] for one in inside & outcomes.keys()}, id_


def test_services_that_audits_judge_name_patterns() -> None:
    """Swarm and checkers found what the docstrings of sabotaged services name."""
    found = sabotaged(TESTS)

    assert len(found) > 10
    assert found["P01"] == {"swarm", "checkers"}
    # A service may name one that has no twins here, as it takes a real database.
    for id_ in found.keys() & MATRIX.keys():
        assert {MATRIX[id_].get(one) for one in found[id_]} == {Outcome.FOUND}, id_


def test_what_an_audit_ought_to_find_is_hosted() -> None:
    """No pattern waits to be measured: it is hosted, or says why it cannot be."""
    left = [
        pattern.id
        for pattern in load_patterns()
        if pattern.hosted is None and {"swarm", "checkers"} & {*pattern.detectors}
    ]

    assert left == []


def test_what_is_beyond_a_means_is_not_expected_of_it() -> None:
    """A reason why it cannot be found is none where it ought to be, or was, found."""
    for pattern in load_patterns():
        for means in pattern.beyond:
            assert means not in pattern.detectors, pattern.id
            assert means not in MATRIX[pattern.id], pattern.id


@pytest.mark.parametrize(
    ("vulnerable", "safe", "swarm", "checkers"),
    [
        ({"foreign-canary-in-response"}, set(), Outcome.FOUND, Outcome.MISSED),
        ({"not-linearizable"}, set(), None, Outcome.FOUND),
        ({"bystander-failed"}, {"not-linearizable"}, None, Outcome.FALSE_ALARM),
        (set(), {"canary-shown-to-visitor"}, Outcome.FALSE_ALARM, Outcome.MISSED),
        (set(), set(), None, Outcome.MISSED),
    ],
)
def test_rules_of_an_audit_make_the_outcome(
    vulnerable: set[str],
    safe: set[str],
    swarm: Outcome | None,
    checkers: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Canaries of others are the swarm's; every other rule is the checkers'."""
    pattern = find_pattern("P03")
    monkeypatch.setattr(
        "test_framework.catalogue.measure.audit_twins",
        lambda _patterns, _is_found: {"P03": {"vulnerable": vulnerable, "safe": safe}},
    )

    assert measure_hosted([pattern]) == {"P03": {"swarm": swarm, "checkers": checkers}}
