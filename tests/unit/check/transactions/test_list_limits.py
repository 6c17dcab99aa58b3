"""What cannot be judged is unknown, with a sentence, and never valid."""

import pytest

from test_framework.check.transactions import LogBuilder, check_list_append
from test_framework.core import UsageError
from tests.unit.check.transactions.histories import history


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("a - x+1", "b -"), "None of its 2 transactions that took effect read anyth"),
        ((), "None of its 0 transactions is known to have taken effect"),
        (("a - info x+1",), "None of its 1 transactions is known to have taken effect"),
        (
            ("a - x+1", "b - x+1", "c - x:1"),
            "Transaction 0 appends 1 to x, and so does another operation",
        ),
        (("a - x+1", "b - x:7"), "Transaction 1 read 7 in x, which no transaction"),
        (
            ("a - x+1 x:1", "b - x=7"),
            "Transaction 1 would write 7 to x, which is no list",
        ),
        (("a - x+1", "b - x?7"), "Transaction 1 would read 7 of x, which is no list"),
    ],
)
def test_history_with_a_flaw_is_unknown(lines: tuple[str, ...], reason: str) -> None:
    """The sentence names the transaction and the value, and no level is said to hold."""
    checked = check_list_append(history(*lines))

    assert checked.verdict == "unknown"
    assert checked.reason.startswith(reason)
    assert checked.reason.endswith(".")
    assert checked.holds == ()


def test_more_than_can_be_kept_of_scans_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was left out might be wrong."""
    monkeypatch.setattr("test_framework.check.transactions.log.MOST_ABSENT", 1)

    checked = check_list_append(history("a - x+1 y+1", "b - *", "c - x:1"))

    assert (checked.verdict, checked.holds) == ("unknown", ())
    assert checked.reason.startswith("Its scans did not find 2 lists, more than the ")


def test_anomaly_counts_in_spite_of_a_flaw() -> None:
    """A value nobody appended does not excuse a read of what was refused."""
    log = history("a - x:7", "b - fail y+1", "c - y:1")

    checked = check_list_append(log)

    assert (checked.verdict, checked.reason) == ("invalid", "")
    assert [one.name for one in checked.anomalies] == ["G1a"]
    assert checked.holds == ()


def test_intermediate_read_of_what_was_refused_is_an_aborted_read() -> None:
    """Of one that took no effect, no version is the last."""
    log = history("a - fail x+1 x+2", "b - x:1")

    assert [one.name for one in check_list_append(log).anomalies] == ["G1a"]


def test_value_appended_twice_proves_nothing() -> None:
    """Whose it was cannot be told, so no edge comes of it, and the rest is judged."""
    log = history("a - x+1 y+1", "b - x+1 y:", "c - x:1 y:", "d - x:1")

    checked = check_list_append(log)

    assert (checked.verdict, checked.anomalies) == ("unknown", ())


def test_element_that_nobody_appended_is_passed_over() -> None:
    """Those around it keep their order."""
    log = history("a - x+1 y+1", "b - x+2 y+2", "c - x:1,9,2 y:2,1")

    checked = check_list_append(log)

    assert [one.name for one in checked.anomalies] == ["G0"]


@pytest.mark.parametrize("odd", [("c - x:9,2",), ("c - fail x+9", "d - x:9,2")])
def test_reads_are_before_what_follows_an_odd_element(odd: tuple[str, ...]) -> None:
    """Whoever made 9 tells nothing, and 2 came after the empty list all the same."""
    log = history("a - x: y+1", "b - y: x+2", *odd)

    assert "G2-item" in {one.name for one in check_list_append(log).anomalies}


def test_unknown_model_is_a_mistake_with_a_cure() -> None:
    """The message lists the models."""
    with pytest.raises(
        UsageError, match=r"'linear' is not known\. Choose one of: read-"
    ):
        check_list_append(history("a - x+1"), "linear")


def test_model_is_known_by_its_other_name() -> None:
    """Strict serializable is strong serializable."""
    checked = check_list_append(history("a - x+1"), "strong-serializable")

    assert checked.model == "strict-serializable"


def test_what_the_model_allows_does_not_make_it_invalid() -> None:
    """Write skew is valid under snapshot isolation, and shown all the same."""
    checked = check_list_append(
        history("a - x: y+1", "b - y: x+1"), "snapshot-isolation"
    )

    assert (checked.verdict, checked.reason) == ("valid", "")
    assert [one.name for one in checked.anomalies] == ["G2-item"]
    assert "snapshot-isolation" in checked.holds
    assert checked.broken == ("repeatable-read",)


def test_unknown_outcome_that_was_seen_took_effect() -> None:
    """Then its other appends are there as well, though nobody saw them."""
    log = history("a - info x+1 y+1", "b - x:1 y:")

    assert check_list_append(log, "serializable").verdict == "invalid"


def test_nothing_comes_after_an_unknown_outcome() -> None:
    """It may take effect at any later time, so neither session nor time orders it."""
    log = history("a 0-1 info x+1", "a 2-3 x:", "b 4-5 x:", "b 6-7 x:1")

    assert check_list_append(log).verdict == "valid"


def test_overlapping_neighbours_of_a_session_have_no_order() -> None:
    """A user who sends two requests at once has no order between them."""
    log = history("a 0-9 x+1", "a 5-6 x:", "b 10-11 x:1")

    assert check_list_append(log).verdict == "valid"


def test_many_readers_and_writers_of_one_version_are_joined_once() -> None:
    """Their product would be 4,000,000 edges."""
    builder = LogBuilder()
    for number in range(2000):
        builder.add(number, [("r", "x", [])])
        builder.add(number + 5000, [("append", "x", number)])

    checked = check_list_append(builder.build())

    assert (checked.verdict, checked.facts["dependencies"]) == ("valid", 4000)


@pytest.mark.parametrize(("count", "verdict"), [(3, "invalid"), (100, "unknown")])
def test_orders_of_rivals_are_tried_within_limits(count: int, verdict: str) -> None:
    """In a ring each overwrites what the next one read, and all append to one list.

    Whichever order these appends had, one comes before whom it must follow. Of 100 there
    are 4,950 pairs, and to order them all is given up.
    """
    builder = LogBuilder()
    for number in range(count):
        following = (number + 1) % count
        builder.add(
            number,
            [("r", number, []), ("append", following, 1), ("append", "k", number)],
        )

    checked = check_list_append(builder.build(), "snapshot-isolation")

    assert (checked.verdict, bool(checked.reason)) == (verdict, verdict == "unknown")
    assert "snapshot-isolation" not in checked.holds
    assert "repeatable-read" in checked.broken
    assert all(len(one.claim) < 220 for one in checked.anomalies)
