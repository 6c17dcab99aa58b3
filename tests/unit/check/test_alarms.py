"""Alarms of detectors: errors are findings, the rest is told beside them."""

from test_framework.check import RULES, judge
from test_framework.core import AlarmRecord, Finding, Level, Verdict, WatchRecord
from tests.unit.check.builder import Builder, seen


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


def test_alarm_is_no_consequence_of_what_it_caused() -> None:
    """A leak between the same users does not swallow the line that explains it."""
    builder = Builder()
    builder.op(0, "POST /notes", planted=("u0/0",))
    builder.op(1, seen=(seen(0),))
    builder.history.add(alarm(users=(0, 1)))

    assert [one.rule for one in judge(builder.history).findings] == [
        "foreign-canary-in-response",
        "left-behind",
    ]


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
