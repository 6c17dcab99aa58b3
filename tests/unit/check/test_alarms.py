"""Alarms of detectors: errors are findings, the rest is told beside them."""

import pytest

from test_framework.check import RULES, judge
from test_framework.core import (
    AlarmRecord,
    EndRecord,
    Finding,
    Level,
    ResidueRecord,
    Verdict,
    WatchRecord,
)
from tests.unit.check.builder import Builder, seen, whole_run


def alarm(
    site: str = "app/cart.py:12",
    *,
    level: Level = "error",
    rule: str = "left-behind",
    worker: int = 0,
    fix: str = "",
    users: tuple[int, ...] = (),
) -> AlarmRecord:
    """Return an alarm that was raised twice."""
    return AlarmRecord(
        rule, level, "a sum was lost", site, ("one line",), fix, users, (), 2, worker
    )


def findings(*records: AlarmRecord | WatchRecord) -> tuple[Finding, ...]:
    """Judge a sound run in which detectors said something."""
    builder = Builder()
    for record in records:
        builder.history.add(record)
    return judge(builder.history).findings


def test_error_is_a_finding_at_its_line() -> None:
    """A detector's error voids the run and names users, line and cure."""
    (finding,) = findings(alarm(fix="take the lock", users=(0, 1)))

    assert finding.endpoint == "app/cart.py:12"
    assert (finding.victim, finding.observer) == ("user-00", "user-01")
    assert finding.fix == "take the lock"
    assert finding.evidence == ("Users  user-00, user-01", "one line")


def test_cure_of_the_rule_serves_where_the_alarm_has_none() -> None:
    """Without a better one, the rule's cure is told."""
    (finding,) = findings(alarm())

    assert finding.fix == RULES["left-behind"].fix


def test_same_line_in_two_processes_is_one_finding() -> None:
    """Each process sees the cause for itself; it is told once, and counted."""
    (finding,) = findings(alarm(worker=0), alarm(worker=1))

    assert finding.count == 4


def test_two_lines_are_two_findings() -> None:
    """Two lines of one rule are two causes."""
    assert len(findings(alarm("a.py:1"), alarm("b.py:2"))) == 2


def test_warnings_and_notes_void_nothing() -> None:
    """What only could happen is told and is no finding."""
    builder = Builder()
    builder.history.add(alarm("a.py:1", level="note"))
    builder.history.add(alarm("b.py:1", level="warning"))
    judgement = judge(builder.history)

    assert judgement.verdict is not Verdict.INVALID
    assert [one.level for one in judgement.alarms] == ["warning", "note"]


def test_alarm_of_an_unknown_rule_is_judged() -> None:
    """A detector that somebody brought along has a rule of its own."""
    (finding,) = findings(alarm(rule="mine"))

    assert finding.rule == "own-detector"
    assert finding.claim == "a sum was lost"


def leaking(*alarms: AlarmRecord) -> tuple[Finding, ...]:
    """Judge a run in which user 1 saw what user 0 had written."""
    builder = Builder(users=4)
    builder.op(0, "POST /notes", planted=("u0/0",))
    builder.op(1, seen=(seen(0),))
    for one in alarms:
        builder.history.add(one)
    return judge(builder.history).findings


@pytest.mark.parametrize("users", [(0, 1), (1,), ()])
def test_line_goes_with_the_damage_it_did(users: tuple[int, ...]) -> None:
    """Damage and the line that did it to the same users are one finding."""
    (finding,) = leaking(alarm(users=users))

    assert finding.rule == "foreign-canary-in-response"
    assert finding.inside[:2] == ("left-behind  a sum was lost", "  at app/cart.py:12")
    assert finding.inside[-2:] == ("  one line", f"  fix: {RULES['left-behind'].fix}")


@pytest.mark.parametrize("rule", ["residue-of-departed", "pool-state-kept"])
def test_what_is_kept_goes_with_the_leak_whoever_was_last(rule: str) -> None:
    """A last-user variable names its last user, and leaked those before."""
    (finding,) = leaking(alarm(rule=rule, users=(3,)))

    assert finding.inside[0].startswith(rule)


def test_what_is_kept_goes_with_what_was_left_behind() -> None:
    """Both are of users who are gone, of whom each names some only."""
    builder = whole_run(4)
    builder.history.add(ResidueRecord("pubsub", "subscription", "u:1:wake", 2, (1, 2)))
    builder.history.add(alarm(rule="residue-of-departed", users=(3,)))

    (finding,) = judge(builder.end()).findings

    assert finding.rule == "left-behind"
    assert finding.inside[0].startswith("residue-of-departed")


def test_line_that_wronged_others_is_a_finding_of_its_own() -> None:
    """A line is not hidden behind damage to users that it never touched."""
    leak, race = leaking(alarm(users=(2, 3)))

    assert leak.inside == ()
    assert race.endpoint == "app/cart.py:12"


def test_what_was_not_watched_is_told_once() -> None:
    """Both processes say the same of a package; it is one line of what is untested."""
    builder = Builder()
    for worker in (0, 1):
        builder.history.add(
            WatchRecord("access", ("app",), ("app.fast is no Python",), {}, worker)
        )

    lines = judge(builder.history).evidence.not_exercised

    assert [line for line in lines if "app.fast" in line] == [
        "access: app.fast is no Python"
    ]


LEFT = (
    "residue-of-departed",
    "context-kept-alive",
    "leaked-task",
    "leaked-file",
    "memory-growth",
)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("rule", LEFT)
def test_nothing_is_kept_for_the_departed_of_a_run_that_was_broken_off(
    rule: str,
    *,
    complete: bool,
) -> None:
    """What is open while users are there is theirs; afterwards it is a leak."""
    builder = whole_run(4)
    builder.history.add(alarm(rule=rule))
    builder.history.add(EndRecord(ended_ns=1, complete=complete))
    judgement = judge(builder.history)

    assert [one.rule for one in judgement.findings] == [rule] * complete
    assert [one.rule for one in judgement.alarms] == [rule] * complete


def test_other_errors_of_a_run_that_was_broken_off_count() -> None:
    """A sum that was lost is lost whether or not somebody pressed Ctrl-C."""
    builder = whole_run(4)
    builder.history.add(alarm(rule="lost-update"))
    builder.history.add(EndRecord(ended_ns=1, complete=False, reason="interrupted"))

    assert len(judge(builder.history).findings) == 1
