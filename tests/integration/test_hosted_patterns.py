"""Swarm and checkers find patterns of the catalogue behind real sockets."""

import pytest

from test_framework.catalogue import find_pattern, load_matrix, load_patterns
from test_framework.catalogue.matrix import AUDITED, Outcome
from test_framework.catalogue.measure import measure_hosted
from test_framework.catalogue.pattern import Means

pytestmark = [pytest.mark.integration, pytest.mark.power]

SHOWN = ("P01", "P03", "X01", "P09")
"""Contamination; an update lost; a disconnect; a request that fails."""


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[Means, Outcome | None]]:
    """Audit both twins of four patterns."""
    return measure_hosted([find_pattern(id_) for id_ in SHOWN])


@pytest.mark.parametrize(
    ("id_", "swarm", "checkers"),
    [
        ("P01", Outcome.FOUND, Outcome.FOUND),
        ("P03", None, Outcome.FOUND),
        ("X01", Outcome.FOUND, Outcome.FOUND),
        ("P09", None, Outcome.FOUND),
    ],
)
def test_hosted_twin_is_told_from_its_mend(
    id_: str,
    swarm: Outcome | None,
    checkers: Outcome,
    measured: dict[str, dict[Means, Outcome | None]],
) -> None:
    """The bug is seen over the wire, by whose office it is; the mend is left alone."""
    assert measured[id_] == {"swarm": swarm, "checkers": checkers}


@pytest.mark.long
def test_audits_find_what_the_matrix_says() -> None:
    """All hosted patterns; what audits missed or found by chance may differ."""
    matrix = load_matrix()
    expected = {
        (one.id, means)
        for one in load_patterns()
        for means in AUDITED
        if one.hosted is not None and means in one.detectors
        if matrix[one.id].get(means) == Outcome.FOUND
    }

    measured = measure_hosted(load_patterns())

    found = {
        (id_, means)
        for id_, outcomes in measured.items()
        for means in AUDITED
        if outcomes[means] == Outcome.FOUND
    }
    alarmed = [
        id_ for id_, by in measured.items() if Outcome.FALSE_ALARM in by.values()
    ]
    assert alarmed == []
    assert expected - found <= {("D02", "swarm")}
