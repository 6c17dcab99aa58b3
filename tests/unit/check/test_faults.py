"""What a service kept under faults: each promise has a history that breaks it."""

from typing import Any

import pytest

from test_framework.check import (
    PROMISES,
    check_bystanders,
    check_delivery,
    check_expectations,
    check_faults,
    check_writes,
    find_slow_recoveries,
    judge,
    measure_faults,
    measure_latencies,
    weigh,
)
from test_framework.core import (
    AFTER_FAULT,
    UNDER_FAULT,
    CallRecord,
    ComplaintRecord,
    FaultRecord,
    History,
    PolicyRecord,
    ShapeRecord,
    Verdict,
)
from tests.unit.check.builder import MS, Builder, seen, whole_run

S = 1000 * MS
MIB = 2**20
FAULT = "worker-killed"
UNDER, AFTER = UNDER_FAULT + FAULT, AFTER_FAULT + FAULT


def fault(**fields: Any) -> FaultRecord:  # noqa: ANN401  # the fields of FaultRecord
    """Return a fault that struck after 1 s, was healed after 3 and got over after 4."""
    values: dict[str, Any] = {
        "fault": FAULT,
        "promise": "Nothing acknowledged is lost.",
        "began_ns": 0,
        "ended_ns": 8 * S,
        "struck_ns": 1 * S,
        "healed_ns": 3 * S,
        "recovered_ns": 4 * S,
        "probes": 2,
        "deadlocks": 0,
        "memory_before": (100 * MIB, 110 * MIB),
        "memory_after": (104 * MIB, 105 * MIB),
    }
    return FaultRecord(**(values | fields))


def around(**fields: Any) -> Builder:  # noqa: ANN401  # the fields of FaultRecord
    """Return a history with one fault that somebody met."""
    builder = whole_run()
    builder.op(0, shape=UNDER, start_ms=2000, outcome="info", status=None, error="x")
    builder.op(0, shape=AFTER, start_ms=6000)
    builder.history.add(fault(**fields))
    return builder


def call(  # one argument per fact of the call
    kind: str,
    value: object = None,
    *,
    at_s: float,
    model: str = "list",
    outcome: str = "ok",
    user: int = 0,
) -> CallRecord:
    """Return a call of a tenth of a second on the only object there is."""
    is_read = kind == "read"
    return CallRecord(
        model=model,
        key="notes",
        process=f"user-0{user}",
        user=user,
        kind=kind,
        invoked_ns=round(at_s * S),
        completed_ns=None if outcome == "info" else round((at_s + 0.1) * S),
        outcome=outcome,  # type: ignore[arg-type]  # one of the three literals
        argument=None if is_read else value,  # type: ignore[arg-type]  # a text
        result=value if is_read else None,  # type: ignore[arg-type]  # a tuple
    )


def of_calls(*calls: CallRecord) -> list[str]:
    """Return the rules that calls around a fault break."""
    builder = around()
    for one in calls:
        builder.history.add(one)
    return [sighting.rule for sighting in check_writes(builder.history)]


def of_fault(**fields: Any) -> list[str]:  # noqa: ANN401  # the fields of FaultRecord
    """Return the rules that a fault's own record breaks."""
    return [one.rule for one in check_faults(around(**fields).history)]


@pytest.mark.power
def test_acknowledged_write_that_is_gone_is_caught() -> None:
    """What was acknowledged under a fault and is not read in the end is lost."""
    assert of_calls(
        call("append", "a", at_s=2.0),
        call("append", "b", at_s=2.2),
        call("read", ("a", "b"), at_s=2.4),
        call("read", ("b",), at_s=5.0),
    ) == ["acknowledged-write-lost"]


@pytest.mark.parametrize("outcome", ["info", "fail"])
def test_write_without_acknowledgement_is_owed_nothing(outcome: str) -> None:
    """A write that was refused or got no answer may be missing."""
    assert (
        of_calls(
            call("append", "a", at_s=2.0, outcome=outcome),
            call("read", (), at_s=5.0),
        )
        == []
    )


def test_write_without_answer_may_be_there() -> None:
    """Of a timeout nobody knows whether it happened."""
    assert (
        of_calls(
            call("append", "a", at_s=2.0, outcome="info"),
            call("read", ("a",), at_s=5.0),
        )
        == []
    )


def test_read_that_was_asked_for_before_owes_nothing() -> None:
    """A read that began before the acknowledgement may miss the write."""
    assert of_calls(call("read", (), at_s=2.05), call("append", "a", at_s=2.0)) == []


@pytest.mark.power
def test_acknowledged_deletion_that_is_undone_is_caught() -> None:
    """What was deleted with an acknowledgement stays deleted."""
    assert of_calls(
        call("add", "a", at_s=1.5, model="set"),
        call("remove", "a", at_s=2.0, model="set"),
        call("read", ("a",), at_s=5.0, model="set"),
    ) == ["deleted-data-returned"]


@pytest.mark.parametrize(
    ("outcome", "left"), [("ok", ()), ("info", ()), ("info", ("a",))]
)
def test_deletion_explains_what_is_missing(outcome: str, left: tuple[str, ...]) -> None:
    """What somebody asked to delete is not lost, whether the answer came or not."""
    assert (
        of_calls(
            call("add", "a", at_s=1.5, model="set"),
            call("remove", "a", at_s=2.0, model="set", outcome=outcome),
            call("read", left, at_s=5.0, model="set"),
        )
        == []
    )


@pytest.mark.power
@pytest.mark.parametrize("outcome", ["ok", "info"])
def test_write_applied_twice_is_caught(outcome: str) -> None:
    """One write must not be there twice, whatever its user was answered."""
    assert of_calls(
        call("append", "a", at_s=2.0, outcome=outcome),
        call("read", ("a", "a"), at_s=5.0),
    ) == ["write-applied-twice"]


def test_calls_without_a_fault_are_left_to_others() -> None:
    """In a run without faults the checkers of objects say what is to be said."""
    builder = Builder()
    builder.history.add(call("append", "a", at_s=2.0))
    builder.history.add(call("read", (), at_s=5.0))

    assert list(check_writes(builder.history)) == []


def test_lost_write_is_one_finding() -> None:
    """That the list is not linearizable either is no finding of its own."""
    builder = around()
    for one in (
        call("append", "a", at_s=2.0),
        call("append", "b", at_s=2.2),
        call("read", ("b",), at_s=5.0),
    ):
        builder.history.add(one)

    findings = judge(builder.end()).findings

    assert [finding.rule for finding in findings] == ["acknowledged-write-lost"]
    assert any("not-linearizable" in told for told in findings[0].consequences)


def test_whole_recovery_is_silent() -> None:
    """A service that came back in time with what it had breaks nothing."""
    assert of_fault() == []


@pytest.mark.power
@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"recovered_ns": None, "late": (1,)}, "no-recovery"),
        ({"recovered_ns": 14 * S}, "slow-recovery"),
        ({"deadlocks": 2}, "database-deadlock"),
        ({"memory_after": (104 * MIB, 135 * MIB)}, "memory-kept"),
    ],
)
def test_bad_recovery_is_named(fields: dict[str, Any], rule: str) -> None:
    """Each way of not getting over a fault has one name."""
    assert of_fault(**fields) == [rule]


@pytest.mark.parametrize(("status", "is_expired"), [(401, True), (503, False)])
def test_user_who_is_not_served_again_is_shown_why(
    status: int, *, is_expired: bool
) -> None:
    """The last answer stands below; a refused one may be a login that expired."""
    builder = around(recovered_ns=None, late=(1,))
    builder.op(1, "GET /late", shape=UNDER, start_ms=2100, outcome="fail", status=404)
    builder.op(
        1, "GET /notes", shape=UNDER, start_ms=4500, outcome="fail", status=status
    )
    builder.op(2, "GET /other", shape=UNDER, start_ms=4600, outcome="fail", status=500)

    (sighting,) = check_faults(builder.history)

    assert f"{status}" in sighting.evidence[-1]
    assert "GET /notes" in sighting.evidence[-1]
    assert ("expired" in sighting.fix) is is_expired


@pytest.mark.parametrize(
    "fields",
    [
        {"recovered_ns": None, "probes": 0},
        {"recovered_ns": None, "reason": "the run was interrupted"},
        {"struck_ns": None, "healed_ns": None, "recovered_ns": None},
        {"deadlocks": None},
        {"memory_before": (), "memory_after": ()},
        {"memory_after": (121 * MIB, 90 * MIB)},
        # A tenth of a large process, which is more than the slack of a small one.
        {"memory_before": (1000 * MIB,), "memory_after": (1090 * MIB,)},
    ],
)
def test_what_was_not_measured_is_no_finding(fields: dict[str, Any]) -> None:
    """Nobody is accused of what was not looked at, or lies within the tolerance."""
    assert of_fault(**fields) == []


def test_memory_that_stays_is_a_finding_beside_others() -> None:
    """It is damage, and nothing that a detector saw of another damage."""
    builder = around(memory_after=(200 * MIB, 110 * MIB))
    builder.op(1, shape="own-connections", start_ms=9000, outcome="info", status=500)

    rules = {finding.rule for finding in judge(builder.end()).findings}

    assert rules == {"memory-kept", "bystander-failed"}


def test_gate_of_one_fault_wins() -> None:
    """The audit file may allow one fault more time than the others."""
    builder = around(recovered_ns=9 * S)
    builder.history.add(PolicyRecord(recovery_gates_s={"*": 2.0, FAULT: 7.0}))
    strict = around(recovered_ns=9 * S)
    strict.history.add(PolicyRecord(recovery_gates_s={"*": 2.0}))

    assert list(check_faults(builder.history)) == []
    assert [one.rule for one in check_faults(strict.history)] == ["slow-recovery"]


def test_slow_recovery_may_be_a_warning() -> None:
    """The audit file decides whether slowness voids the run."""
    builder = around(recovered_ns=14 * S)
    builder.history.add(PolicyRecord(recovery_level="warning"))

    assert list(check_faults(builder.history)) == []
    (alarm,) = find_slow_recoveries(builder.history)
    assert (alarm.rule, alarm.level) == ("slow-recovery", "warning")


@pytest.mark.power
@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "info", "status": 500},
        {"outcome": "info", "status": None, "error": "timeout"},
        {"outcome": "fail", "status": 503},
        {"endpoint": "CONNECT /ws", "channel": "websocket", "outcome": "info"},
    ],
)
@pytest.mark.parametrize("shape", [UNDER, AFTER])
def test_failure_after_recovery_is_caught(shape: str, fields: dict[str, Any]) -> None:
    """Once all users are served again, each of them is."""
    builder = around()
    builder.op(1, shape=shape, start_ms=4500, **fields)

    rules = [sighting.rule for sighting in check_faults(builder.history)]

    assert rules == ["failed-after-recovery"]


@pytest.mark.parametrize(
    ("start_ms", "fields"),
    [
        (3500, {"outcome": "info", "status": 500}),
        (4500, {"outcome": "fail", "status": 404}),
        (4500, {"outcome": "info", "status": None, "error": "cancelled"}),
        (4500, {"outcome": "info", "status": 500, "disturbed": True}),
    ],
)
def test_what_a_fault_explains_is_silent(start_ms: int, fields: dict[str, Any]) -> None:
    """Before the recovery anything may fail; refusals and our own cuts always may."""
    builder = around()
    builder.op(1, shape=UNDER, start_ms=start_ms, **fields)

    assert list(check_faults(builder.history)) == []
    assert list(check_bystanders(builder.history)) == []


def test_expectation_after_an_own_failure_is_excused() -> None:
    """Who lost an answer under a fault cannot know what it has; others can."""
    builder = around()
    mine = builder.op(0, shape=UNDER, start_ms=2500)
    theirs = builder.op(1, shape=UNDER, start_ms=2500)
    for user, operation in ((0, mine), (1, theirs)):
        builder.history.add(
            ComplaintRecord(user, UNDER, "expectation", "it is gone", operation.index)
        )

    assert [one.victim for one in check_expectations(builder.history)] == [1]


@pytest.mark.parametrize(("shape", "told"), [(UNDER, 0), (AFTER, 1)])
def test_waiting_in_vain_counts_once_the_fault_is_over(shape: str, told: int) -> None:
    """An event may be late under a fault, and not in the look afterwards."""
    builder = around()
    builder.history.add(ComplaintRecord(1, shape, "timeout", "no event", None))

    assert len(list(check_expectations(builder.history))) == told


@pytest.mark.power
@pytest.mark.parametrize(
    ("numbers", "rules"),
    [
        ((8, 9), []),
        ((9, 10), ["event-lost"]),
        ((7, 8), ["event-duplicated"]),
    ],
)
def test_socket_that_resumes_is_owed_the_next_event(
    numbers: tuple[int, ...], rules: list[str]
) -> None:
    """Across a lost connection each event comes once: none is missing, none again."""
    builder = Builder()
    builder.event(0, 7, socket=1)
    builder.op(0, "CONNECT /ws", channel="websocket", socket=2, sequence=7)
    for number in numbers:
        builder.event(0, number, socket=2)

    assert [one.rule for one in check_delivery(builder.history)] == rules


def test_latencies_under_a_fault_are_not_measured() -> None:
    """A gate is for the service as it is when nothing disturbs it."""
    builder = Builder()
    builder.op(0, "GET /slow", shape=UNDER, start_ms=10, end_ms=9000)
    builder.op(0, "GET /slow", shape=AFTER, start_ms=10, end_ms=20)

    assert [one.max_ms for one in measure_latencies(builder.history)] == [10.0]


def row(history: History) -> dict[str, tuple[Verdict, str]]:
    """Return what was measured of the only fault, by promise."""
    (endured,) = judge(history).faults
    return {one.promise: (one.verdict, one.told) for one in endured.measured}


def test_table_has_each_promise_measured() -> None:
    """One row for each fault, with a figure and a verdict for each promise."""
    builder = around()
    for one in (call("append", "a", at_s=2.0), call("read", ("a",), at_s=5.0)):
        builder.history.add(one)
    builder.event(0, 1, start_ms=5000)

    cells = row(builder.end())

    assert tuple(cells) == PROMISES
    assert cells == {
        "isolation": (Verdict.VALID, "0 seen"),
        "writes": (Verdict.VALID, "0 wrong of 1"),
        "events": (Verdict.VALID, "0 wrong of 1"),
        "deadlocks": (Verdict.VALID, "0"),
        "recovery": (Verdict.VALID, "1.0 s"),
        "afterwards": (Verdict.VALID, "0 failed"),
        "memory": (Verdict.VALID, "+4 MiB"),
    }


def test_table_shows_which_promise_broke() -> None:
    """What was seen around a fault stands in its row, under its promise."""
    builder = around(memory_after=(200 * MIB, 110 * MIB))
    builder.op(1, shape=UNDER, start_ms=3100, seen=(seen(0),))
    builder.op(1, shape=AFTER, start_ms=6100, outcome="info", status=500)

    cells = row(builder.end())

    broken = {
        promise for promise, (verdict, _) in cells.items() if verdict == "invalid"
    }
    assert broken == {"isolation", "afterwards", "memory"}
    assert cells["isolation"][1] == "1 seen"


def test_promise_that_nothing_was_there_for_is_unknown() -> None:
    """No acknowledged write, no event, no counter: nothing is known of them."""
    cells = row(around(deadlocks=None, memory_after=()).end())

    unknown = {
        promise for promise, (verdict, _) in cells.items() if verdict == "unknown"
    }
    assert unknown == {"writes", "events", "deadlocks", "memory"}


def test_fault_that_struck_nobody_proves_nothing() -> None:
    """A fault during which no request was under way leaves all promises unknown."""
    builder = whole_run()
    builder.history.add(fault())
    history = builder.end()

    judgement = judge(history)

    assert judgement.verdict is Verdict.UNKNOWN
    assert any("struck nobody" in gap for gap in judgement.evidence.gaps)
    (endured,) = judgement.faults
    assert {one.verdict for one in endured.measured} == {Verdict.UNKNOWN}


def test_fault_that_could_not_strike_is_told() -> None:
    """Nothing is skipped in silence, and alone it proves nothing."""
    builder = whole_run()
    builder.history.add(
        fault(
            struck_ns=None, healed_ns=None, recovered_ns=None, reason="no host is ours"
        )
    )
    evidence = weigh(builder.end())

    told = f"fault {FAULT}: not exercised, because no host is ours"
    assert told in evidence.not_exercised
    assert any("no fault could strike" in gap for gap in evidence.gaps)


def test_users_who_never_finished_prove_nothing() -> None:
    """When no turn under a fault ever ended, the hook itself is wrong."""
    builder = around()
    builder.history.add(ComplaintRecord(0, UNDER, "error", "KeyError: 'id'", None))
    builder.history.add(
        ShapeRecord(UNDER, (0, 1), 0, 4 * S, facts={"turns": 9, "finished": 0})
    )

    gaps = weigh(builder.end()).gaps

    assert any("never came to its end: KeyError: 'id'" in gap for gap in gaps)


def test_run_without_faults_has_no_table() -> None:
    """The table is of faults only."""
    history = whole_run().end()

    assert measure_faults(history, []) == ()
    assert judge(history).verdict is Verdict.VALID


@pytest.mark.parametrize(
    ("struck_ns", "healed_ns", "marks"),
    [(1 * S, 3 * S, 1), (6 * S, 7 * S, 0), (None, None, 0)],
)
def test_timeline_shows_the_fault_that_struck_meanwhile(
    struck_ns: int | None, healed_ns: int | None, marks: int
) -> None:
    """The page of a failed check has a band for each fault during its calls."""
    builder = whole_run()
    builder.history.add(fault(struck_ns=struck_ns, healed_ns=healed_ns))
    for one in (
        call("append", "a", at_s=2.0),
        call("append", "b", at_s=2.2),
        call("read", ("b",), at_s=5.0),
    ):
        builder.history.add(one)

    (checked,) = judge(builder.end()).objects

    assert {len(anomaly.marks) for anomaly in checked.anomalies} == {marks}
