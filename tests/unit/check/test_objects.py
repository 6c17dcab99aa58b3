"""Objects that a workload called: an impossible answer is a finding with its proof."""

import pytest

from test_framework.check import judge
from test_framework.core import CallRecord, Outcome, Verdict
from tests.unit.check.builder import MS, whole_run

THREAD = "/threads/7/messages"


def _call(
    process: str,
    kind: str,
    value: str | tuple[str, ...],
    times: tuple[int, int | None],
    outcome: Outcome = "ok",
) -> CallRecord:
    end = times[1]
    return CallRecord(
        model="list",
        key=THREAD,
        process=process,
        user=1,
        kind=kind,
        invoked_ns=times[0] * MS,
        completed_ns=None if end is None else end * MS,
        outcome=outcome,
        argument=value if isinstance(value, str) else None,
        result=value if isinstance(value, tuple) else None,
    )


SOUND = [
    _call("phone", "append", "a", (1, 5)),
    _call("laptop", "append", "b", (2, 6)),
    _call("phone", "read", ("b", "a"), (7, 8)),
    _call("laptop", "read", ("b", "a"), (7, 9)),
]
BROKEN = {
    "an append is lost": [
        *SOUND[:2],
        _call("phone", "read", ("a",), (7, 8)),
        _call("laptop", "read", ("b",), (7, 9)),
    ],
    "a read is stale": [
        *SOUND[:2],
        _call("phone", "read", ("a", "b"), (7, 8)),
        _call("laptop", "read", ("a",), (9, 10)),
    ],
    "a refused append is there": [
        *SOUND[:1],
        _call("laptop", "append", "b", (2, 6), "fail"),
        _call("phone", "read", ("a", "b"), (7, 8)),
    ],
}


@pytest.mark.power
@pytest.mark.parametrize("case", BROKEN)
def test_impossible_answer_is_a_finding(case: str) -> None:
    """What no list can answer is invalid, and the finding holds the calls."""
    builder = whole_run(3)
    for record in BROKEN[case]:
        builder.history.add(record)

    judgement = judge(builder.end())

    assert judgement.verdict is Verdict.INVALID
    (finding,) = judgement.findings
    assert finding.rule == "not-linearizable"
    assert any(THREAD in line for line in finding.evidence)
    assert finding.victim == "user-01"


def test_possible_answers_are_left_alone() -> None:
    """Any order of what overlapped is right; so is an append that may have happened."""
    builder = whole_run(3)
    for record in SOUND:
        builder.history.add(record)
    builder.history.add(_call("tablet", "append", "c", (3, None), "info"))
    builder.history.add(_call("phone", "read", ("b", "a", "c"), (9, 10)))

    judgement = judge(builder.end())

    assert (judgement.verdict, judgement.findings) == (Verdict.VALID, ())
    (checked,) = judgement.objects
    assert checked.facts["transactions"] == 6


@pytest.mark.power
@pytest.mark.parametrize(
    ("model", "broken", "sound"),
    [
        (
            "counter",
            [("increment", None, 1), ("increment", None, 1)],
            [("increment", None, 1), ("increment", None, 2)],
        ),
        (
            "register",
            [("write", "a", None), ("write", "b", None), ("read", None, "a")],
            [("write", "a", None), ("write", "b", None), ("read", None, "b")],
        ),
        (
            "mutex",
            [("acquire", None, None), ("acquire", None, None)],
            [("acquire", None, None), ("release", None, None), ("acquire", None, None)],
        ),
        (
            "queue",
            [("enqueue", "a", None), ("dequeue", None, "a"), ("dequeue", None, "a")],
            [("enqueue", "a", None), ("dequeue", None, "a"), ("dequeue", None, None)],
        ),
    ],
)
def test_other_objects_are_judged_by_their_models(
    model: str, broken: list[tuple[str, str, int]], sound: list[tuple[str, str, int]]
) -> None:
    """One after the other, calls of each kind of object are right or impossible."""
    verdicts = []
    for calls in (broken, sound):
        builder = whole_run(3)
        for place, (kind, argument, result) in enumerate(calls):
            builder.history.add(
                CallRecord(
                    model=model,
                    key="it",
                    process=f"user-02/{place}",
                    user=2,
                    kind=kind,
                    invoked_ns=10 * place * MS,
                    completed_ns=(10 * place + 5) * MS,
                    outcome="ok",
                    argument=argument,
                    result=result,
                )
            )
        judgement = judge(builder.end())
        verdicts.append(judgement.verdict)
        if judgement.findings:
            assert judgement.findings[0].victim == "user-02"

    assert verdicts == [Verdict.INVALID, Verdict.VALID]


def test_run_without_calls_checks_no_objects() -> None:
    """Who records no calls pays nothing and is told nothing."""
    assert judge(whole_run(3).end()).objects == ()
