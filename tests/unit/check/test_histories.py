"""Any history is judged by what is demanded of it, or by what a single copy would show."""

from collections.abc import Sequence

import pytest

from test_framework.check.flow import FlowPolicy
from test_framework.check.histories import check_history
from test_framework.check.linear import Call
from test_framework.check.transactions import LogBuilder, TransactionLog
from test_framework.core import UsageError, Verdict


def _calls(read: int) -> Sequence[Call]:
    return [
        Call("a", "write", 1, None, 0, 1),
        Call("a", "write", 2, None, 2, 3),
        Call("b", "read", None, read, 4, 5),
    ]


def _lists(read: list[int]) -> TransactionLog:
    builder = LogBuilder()
    builder.add("a", [("append", "x", 1)], invoked=0, completed=1)
    builder.add("a", [("append", "x", 2)], invoked=2, completed=3)
    builder.add("b", [("r", "x", read)], invoked=4, completed=5)
    builder.add("b", [("r", "x", [1, 2])], invoked=6, completed=7)
    return builder.build()


def _registers(*reads: int) -> TransactionLog:
    builder = LogBuilder()
    builder.add("a", [("w", "x", 1), ("w", "y", 1)], invoked=0, completed=1)
    builder.add("a", [("w", "x", 2), ("w", "y", 2)], invoked=2, completed=3)
    read = [("r", key, value) for key, value in zip("xy", reads, strict=True)]
    builder.add("b", read, invoked=4, completed=5)
    return builder.build()


@pytest.mark.power
@pytest.mark.parametrize(
    ("broken", "sound", "checker"),
    [
        (_calls(1), _calls(2), "linearizability"),
        (_lists([1]), _lists([1, 2]), "list-append"),
        (_registers(1, 2), _registers(2, 2), "black-box registers"),
    ],
)
def test_what_holds_the_history_decides_the_checker(
    broken: Sequence[Call] | TransactionLog,
    sound: Sequence[Call] | TransactionLog,
    checker: str,
) -> None:
    """A stale or fractured read is invalid with a witness; its sound sibling is valid."""
    wrong, right = check_history(broken), check_history(sound)

    assert (wrong.verdict, wrong.checker) == (Verdict.INVALID, checker)
    assert wrong.anomalies[0].items
    assert (right.verdict, right.anomalies) == (Verdict.VALID, ())


def test_less_may_be_demanded() -> None:
    """A stale read breaks strict serializability and not serializability."""
    assert check_history(_lists([1]), "serializable").verdict is Verdict.VALID
    assert check_history(_lists([1]), "strict-serializable").verdict is Verdict.INVALID
    stale = _registers(1, 1)
    assert check_history(stale, "serializable").verdict is Verdict.VALID


@pytest.mark.parametrize(
    ("history", "model", "words"),
    [
        (_calls(2), "snapshot-isolation", "judges histories of another kind"),
        (_calls(2), "tree", "is not known. This one holds calls on objects"),
        (_lists([1, 2]), "mutex", "holds transactions on lists"),
        (_registers(2, 2), "queue", "holds transactions on registers"),
    ],
)
def test_model_of_another_kind_is_refused(
    history: Sequence[Call] | TransactionLog, model: str, words: str
) -> None:
    """A model that cannot judge the history is named, and those that can."""
    with pytest.raises(UsageError, match=words):
        check_history(history, model)


@pytest.mark.power
def test_flow_between_users_and_sessions_may_be_demanded() -> None:
    """What one user wrote and another read is a flow, unless a policy shares it."""
    builder = LogBuilder()
    builder.add("a", [("append", "note", 1)], user=1, invoked=0, completed=1)
    builder.add("b", [("r", "note", [1])], user=2, invoked=2, completed=3)
    log = builder.build()
    shared = FlowPolicy.of({"public": ["note"]})

    assert check_history(log, "non-interference").verdict is Verdict.INVALID
    quiet = check_history(log, "non-interference", policy=shared)
    assert quiet.verdict is Verdict.VALID
    backwards = [
        Call("a", "read", None, 2, 0, 1),
        Call("a", "read", None, 1, 2, 3),
    ]
    assert check_history(backwards, "session-guarantees").verdict is Verdict.INVALID
    with pytest.raises(UsageError, match="pass --model non-interference"):
        check_history(log, policy=shared)


@pytest.mark.parametrize(
    ("calls", "model", "verdict"),
    [
        # A lock that was tried and not got is held by the other one only.
        (
            [("a", "acquire", None, True), ("b", "acquire", None, False)],
            "mutex",
            Verdict.VALID,
        ),
        (
            [("a", "acquire", None, True), ("b", "acquire", None, True)],
            "mutex",
            Verdict.INVALID,
        ),
        # Stores say null of a key that is not there.
        ([("a", "get", None, None)], "key-value", Verdict.VALID),
        (
            [("a", "put", "x", None), ("a", "get", None, None)],
            "key-value",
            Verdict.INVALID,
        ),
    ],
)
def test_answers_are_taken_as_they_are_meant(
    calls: list[tuple[str, str, str | None, object]], model: str, verdict: Verdict
) -> None:
    """An attempt that failed and an absent key are said in the usual ways."""
    history = [
        Call(who, kind, argument, result, 2 * place, 2 * place + 1)
        for place, (who, kind, argument, result) in enumerate(calls)
    ]

    assert check_history(history, model).verdict is verdict


def test_answer_that_is_neither_yes_nor_no_is_refused() -> None:
    """A contains that says "no" would count as yes."""
    calls = [Call("a", "add", 1, None, 0, 1), Call("a", "contains", 1, "no", 2, 3)]

    with pytest.raises(UsageError, match="contains that returned 'no'"):
        check_history(calls, "set")
