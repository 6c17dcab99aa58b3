"""The judge: one root cause is one finding, and the worst verdict wins."""

import pytest

from test_framework.check import RULES, judge, rule
from test_framework.core import (
    ComplaintRecord,
    Observation,
    ResidueRecord,
    UsageError,
    Verdict,
)
from tests.unit.check.builder import seen, whole_run


@pytest.mark.power
def test_many_sightings_of_one_rule_are_one_finding() -> None:
    """A leak on three endpoints is told once, with its surfaces."""
    builder = whole_run(4)
    for endpoint in ("GET /a", "GET /b", "GET /a", "GET /c"):
        builder.op(0, endpoint, seen=(seen(1),))

    judgement = judge(builder.end())

    (finding,) = judgement.findings
    assert judgement.verdict is Verdict.INVALID
    assert finding.count == 4
    assert finding.surfaces == ("GET /a [http]", "GET /b [http]", "GET /c [http]")


@pytest.mark.power
def test_same_value_over_two_channels_is_one_finding() -> None:
    """A value that reached one user by event and by answer leaked once."""
    builder = whole_run()
    builder.event(0, 1, seen=(seen(1), seen(0)))
    builder.op(0, seen=(seen(1),))
    builder.event(1, 1, socket=2, seen=(seen(1),))

    (finding,) = judge(builder.end()).findings

    assert finding.rule == "foreign-canary-in-event"
    assert "foreign-canary-in-response" in finding.consequences[0]


@pytest.mark.power
def test_two_leaks_without_common_value_are_two_findings() -> None:
    """Different rules, different values: two causes."""
    builder = whole_run(4)
    builder.op(0, seen=(seen(1, where="header x-user"),))
    builder.op(2, seen=(seen(3),), status=404, outcome="fail")

    found = {finding.rule for finding in judge(builder.end()).findings}

    assert found == {"foreign-canary-in-header", "foreign-canary-in-error"}


def test_what_a_leak_explains_is_its_consequence() -> None:
    """Complaints of involved users and residue follow from the worse finding."""
    builder = whole_run()
    builder.op(0, seen=(seen(1),))
    builder.history.add(ComplaintRecord(0, "s", "expectation", "mine is gone", None))
    builder.history.add(ResidueRecord("http", "task", "Hub.send", 9))

    (finding,) = judge(builder.end()).findings

    assert finding.rule == "foreign-canary-in-response"
    assert len(finding.consequences) == 2


def test_uninvolved_users_complaint_stays_a_finding() -> None:
    """A complaint of somebody the leak never touched has another cause."""
    builder = whole_run(3)
    builder.op(0, seen=(seen(1),))
    builder.history.add(ComplaintRecord(2, "s", "expectation", "mine is gone", None))

    found = [finding.rule for finding in judge(builder.end()).findings]

    assert found == ["foreign-canary-in-response", "own-data-wrong"]


@pytest.mark.power
def test_stored_leak_that_is_read_is_one_finding() -> None:
    """A row under the wrong owner and its reading are one leak."""
    builder = whole_run()
    builder.history.add(
        Observation("postgres", "notes", "row 3", names=(0,), seen=(seen(1),))
    )
    builder.op(0, seen=(seen(1),))

    assert len(judge(builder.end()).findings) == 1


def test_every_rule_explains_itself() -> None:
    """Each rule has a scenario, a cure and a weakness number."""
    for one in RULES.values():
        assert one.scenario
        assert one.fix.endswith(".")
        assert one.cwe > 0


def test_unknown_rule_is_refused_with_the_list() -> None:
    """A misspelt rule id gets the ids that exist."""
    with pytest.raises(UsageError, match="foreign-canary-in-response"):
        rule("nonsense")
