"""Transactions in columns come back as they went in."""

import pytest

from test_framework.check.transactions import FOREVER, LogBuilder, Status
from test_framework.core import UsageError


def test_transactions_come_back_as_they_went_in() -> None:
    """Keys, values, lists, times and users survive the columns."""
    builder = LogBuilder()
    builder.add("a", [("append", "x", 1), ("r", "x", [1, 2])], invoked=3, completed=9)
    builder.add("b", [("w", ("y", 0), "v"), ("r", "z", None)], user=7, index=40)

    log = builder.build()

    first, second = log.read(0), log.read(1)
    assert first.operations == (("append", "x", 1), ("r", "x", (1, 2)))
    assert (first.session, first.user, first.invoked, first.completed) == (
        "a",
        None,
        3,
        9,
    )
    assert second.operations == (("w", ("y", 0), "v"), ("r", "z", None))
    assert (second.user, second.index, len(log)) == (7, 40, 2)
    assert log.first.tolist() == [0, 2, 4]


def test_what_scans_did_not_find_stands_in_its_transaction() -> None:
    """Also what was met only later, and at the end of a transaction."""
    builder = LogBuilder()
    builder.add("a", [("append", "x", 1), ("scan", None, [["x", [1]]])])
    builder.add("b", [])
    builder.add("a", [("scan", ["y", "z"], []), ("append", "y", 2)])
    builder.add("a", [("scan", None, None)], status=Status.INFO)

    log = builder.build()

    assert [log.read(number).operations for number in range(4)] == [
        (("append", "x", 1), ("r", "x", (1,)), ("absent", "y", None)),
        (),
        (("absent", "y", None), ("append", "y", 2)),
        (),
    ]


def test_unknown_outcome_never_ends() -> None:
    """What timed out may take effect at any later time, whatever end was written."""
    builder = LogBuilder()
    builder.add("a", [("r", "x", None)], status=Status.INFO, invoked=3, completed=9)

    log = builder.build()

    assert log.completed.tolist() == [FOREVER]
    assert log.read(0).completed is None


@pytest.mark.parametrize(
    ("operation", "times", "words"),
    [
        (("increment", "x", 1), (0, 1), "'increment': only 'append'"),
        (("r", "x", 1), (5, 4), "before it is invoked at 5"),
    ],
)
def test_impossible_transaction_gets_a_sentence(
    operation: tuple[str, str, int], times: tuple[int, int], words: str
) -> None:
    """An operation nobody knows and a time that runs backwards are refused."""
    with pytest.raises(UsageError, match=words):
        LogBuilder().add("a", [operation], invoked=times[0], completed=times[1])
