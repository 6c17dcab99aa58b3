"""Each anomaly of list-append histories is named, and a sound sibling is left alone."""

import contextlib
import io
from pathlib import Path
from typing import NamedTuple

import pytest

from test_framework.check.transactions import MODELS, LogBuilder, check_list_append
from tests.unit.check.transactions.histories import history


class Twins(NamedTuple):
    """A history with one anomaly, one like it without, and the weakest broken models."""

    broken: tuple[str, ...]
    sound: tuple[str, ...]
    weakest: tuple[str, ...]


ITEM = ("consistent-view", "repeatable-read")

TWINS = {
    "duplicate-elements": Twins(
        ("a - x+1", "b - x:1,1"), ("a - x+1", "b - x:1"), ("read-uncommitted",)
    ),
    "G0": Twins(
        ("a - x+1 y+1", "b - x+2 y+2", "c - x:1,2 y:2,1"),
        ("a - x+1 y+1", "b - x+2 y+2", "c - x:1,2 y:1,2"),
        ("read-uncommitted",),
    ),
    "incompatible-order": Twins(
        ("a - x+1", "b - x+2", "c - x:1,2", "d - x:2"),
        ("a - x+1", "b - x+2", "c - x:1,2", "d - x:1"),
        ("read-committed",),
    ),
    "dirty-update": Twins(
        ("a - fail x+1", "b - x+2", "c - x:1,2"),
        ("a - fail x+1", "b - x+2", "c - x:2"),
        ("read-committed",),
    ),
    "G1a": Twins(
        ("a - fail x+1", "b - x:1"), ("a - info x+1", "b - x:1"), ("read-committed",)
    ),
    "G1b": Twins(
        ("a - x+1 x+2", "b - x:1"), ("a - x+1 x+2", "b - x:1,2"), ("read-committed",)
    ),
    "G1c": Twins(
        ("a - x+1 y:2", "b - y+2 x:1"),
        ("a - x+1 y:2", "b - y+2 x:"),
        ("read-committed",),
    ),
    "internal": Twins(("a - x+1 x:",), ("a - x+1 x:1",), ITEM),
    "lost-update": Twins(
        ("a - x: x+1", "b - x: x+2"), ("a - x: x+1", "b - x:1 x+2"), ITEM
    ),
    "G-single": Twins(
        ("a - x+1 y+1", "b - x:1 y:", "c - y:1"), ("a - x+1 y+1", "b - x:1 y:1"), ITEM
    ),
    "G-nonadjacent": Twins(
        ("a - x+1", "b - y+1", "c - x:1 y:", "d - x: y:1"),
        ("a - x+1", "b - y+1", "c - x:1 y:", "d - x:1 y:1"),
        ("snapshot-isolation", "repeatable-read"),
    ),
    "G2-item": Twins(
        ("a - x: y+1", "b - y: x+1"),
        ("a - x: y+1", "b - y:1 x+1"),
        ("repeatable-read",),
    ),
    "G0-process": Twins(
        ("a - x+1", "a - x+2", "b - x:2,1"),
        ("a - x+1", "a - x+2", "b - x:1,2"),
        ("strong-session-read-uncommitted",),
    ),
    "G1c-process": Twins(
        ("a - x:1", "a - y+1", "b - y:1 x+1"),
        ("a - x:", "a - y+1", "b - y:1 x+1"),
        ("strong-session-read-committed",),
    ),
    "G-single-process": Twins(
        ("a - x+1", "a - x:"),
        ("a - x+1", "a - x:1"),
        ("strong-session-consistent-view", "strong-session-repeatable-read"),
    ),
    "G-nonadjacent-process": Twins(
        ("a - x+1", "b - y+1", "a - y:", "b - x:"),
        ("a - x+1", "b - y+1", "a - y:", "b - x:1"),
        ("strong-session-snapshot-isolation", "strong-session-repeatable-read"),
    ),
    "G2-item-process": Twins(
        ("a - y+1", "b - y: x+1", "a - x:"),
        ("a - y+1", "b - y: x+1", "a - x:1"),
        ("strong-session-repeatable-read",),
    ),
    "G0-realtime": Twins(
        ("a 0-1 x+1", "b 2-3 x+2", "c 4-5 x:2,1"),
        ("a 0-2 x+1", "b 2-3 x+2", "c 4-5 x:2,1"),
        ("strong-read-uncommitted",),
    ),
    "G1c-realtime": Twins(
        ("a 0-1 x:1", "b 2-3 x+1"),
        ("a 0-2 x:1", "b 2-3 x+1"),
        ("strong-read-committed",),
    ),
    "G-single-realtime": Twins(
        ("a 0-1 x+1", "b 2-3 x:", "c 4-5 x:1"),
        ("a 0-2 x+1", "b 2-3 x:", "c 4-5 x:1"),
        ("strong-consistent-view", "strong-repeatable-read"),
    ),
    "G-nonadjacent-realtime": Twins(
        ("a 0-9 x+1", "b 0-1 y+1", "c 2-3 x:", "d 0-9 x:1 y:"),
        ("a 0-9 x+1", "b 0-2 y+1", "c 2-3 x:", "d 0-9 x:1 y:"),
        ("strong-snapshot-isolation", "strong-repeatable-read"),
    ),
    "G2-item-realtime": Twins(
        ("a 0-1 y+1", "b 0-9 y: x+1", "c 2-3 x:"),
        ("a 0-2 y+1", "b 0-9 y: x+1", "c 2-3 x:"),
        ("strong-repeatable-read",),
    ),
    "G-single-predicate": Twins(
        ("a - x+1 y+1", "b - *y:1"),
        ("a - x+1 y+1", "b - *x:1/y:1"),
        ("consistent-view",),
    ),
    "G-nonadjacent-predicate": Twins(
        ("a - x+1", "b - y+1", "c - *x:1", "d - *y:1"),
        ("a - x+1", "b - y+1", "c - *x:1", "d - *x:1/y:1"),
        ("snapshot-isolation",),
    ),
    "G2": Twins(
        ("a - * x+1", "b - * y+1"), ("a - * x+1", "b - *x:1 y+1"), ("serializable",)
    ),
    "G-single-predicate-process": Twins(
        ("a - x+1", "a - *"),
        ("a - x+1", "a - *x:1"),
        ("strong-session-consistent-view",),
    ),
    "G2-process": Twins(
        ("a - y+1", "b - * x+1", "a - x:"),
        ("a - y+1", "b - * x+1", "a - x:1"),
        ("strong-session-serializable",),
    ),
    "G-single-predicate-realtime": Twins(
        ("a 0-1 x+1", "b 2-3 *"), ("a 0-2 x+1", "b 2-3 *"), ("strong-consistent-view",)
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_anomaly_of_lists_is_named_with_what_it_breaks(name: str) -> None:
    """The broken twin shows it, and breaks exactly what rules it out."""
    twins = TWINS[name]

    checked = check_list_append(history(*twins.broken))

    assert name in {one.name for one in checked.anomalies}
    assert (checked.verdict, checked.broken) == ("invalid", twins.weakest)
    for model in twins.weakest:
        assert check_list_append(history(*twins.broken), model).verdict == "invalid"


@pytest.mark.parametrize("name", TWINS)
def test_sound_sibling_of_an_anomaly_is_valid(name: str) -> None:
    """The sibling differs in one answer or one instant, and everything holds."""
    checked = check_list_append(history(*TWINS[name].sound))

    assert (checked.verdict, checked.anomalies, checked.broken) == ("valid", (), ())
    assert set(checked.holds) == set(MODELS)


def test_each_step_of_a_cycle_is_a_sentence() -> None:
    """A reader who never saw the history can follow the witness."""
    log = history("a 0-1 x+1 z+5", "b 2-3 x:1 y+1", "c 5-6 y:1 x:")

    checked = check_list_append(log)

    worst = checked.anomalies[0]
    assert (worst.name, checked.facts["transactions on cycles"]) == ("G-single", 3)
    assert worst.claim == (
        "T1 before T2 before T3 before T1: one read a version that is older than what it "
        "depends on."
    )
    assert [(one.label, one.lane, one.text, one.index) for one in worst.items] == [
        ("T1", "session c", "read [1] of y, read [] of x", 2),
        ("T2", "session a", "append 1 to x, append 5 to z", 0),
        ("T3", "session b", "read [1] of x, append 1 to y", 1),
    ]
    assert [(one.source, one.target, one.kind) for one in worst.links] == [
        (0, 1, "rw"),
        (1, 2, "wr"),
        (2, 0, "wr"),
    ]
    assert [one.because for one in worst.links] == [
        "T1 read [] of x, before T2 appended 1 to it",
        "T3 read [1] of x, and saw 1, which T2 appended",
        "T1 read [1] of y, and saw 1, which T3 appended",
    ]


def test_scan_without_a_list_is_a_sentence() -> None:
    """What was not found is named, and what was added."""
    checked = check_list_append(history("a - * x+1", "b - * y+2"), "repeatable-read")

    assert (checked.verdict, checked.broken) == ("valid", ("serializable",))
    assert checked.anomalies[0].claim == (
        "T1 before T2 before T1: each read what another one then overwrote, or scanned "
        "what another one then added to, so no order explains all."
    )
    assert [one.text for one in checked.anomalies[0].items] == [
        "scan without x, scan without y, append 1 to x",
        "scan without x, scan without y, append 2 to y",
    ]
    assert [one.because for one in checked.anomalies[0].links] == [
        "T1 scanned and did not find y, before T2 appended 2 to it",
        "T2 scanned and did not find x, before T1 appended 1 to it",
    ]


def test_phantom_within_a_transaction_leaves_repeatable_read_whole() -> None:
    """A list that was begun between a scan and a read is no fault of item reads."""
    checked = check_list_append(history("a - * x:1", "b - x+1"), "repeatable-read")

    assert (checked.verdict, checked.broken) == ("valid", ("consistent-view",))
    assert [one.name for one in checked.anomalies] == ["G-single-predicate"]


def test_scan_must_find_what_its_transaction_appended() -> None:
    """Not to see the own list is internal, whatever others do."""
    checked = check_list_append(history("a - x+1 *"))

    assert [one.name for one in checked.anomalies] == ["internal"]
    assert checked.broken == ITEM


def test_scan_covers_its_scope_alone() -> None:
    """Lists outside of it say nothing, and those of others within it do."""
    for scope, verdict in (
        (["x"], "valid"),
        ({"starts": "x"}, "valid"),
        (["x", "y"], "invalid"),
        (None, "invalid"),
    ):
        builder = LogBuilder()
        builder.add("a", [("append", "x", 1), ("append", "y", 1)])
        builder.add("b", [("scan", scope, {"x": [1]})])

        assert check_list_append(builder.build()).verdict == verdict, scope


def test_orders_of_sessions_and_of_time_are_sentences() -> None:
    """Such steps name the session, and the instants."""
    in_session = check_list_append(history("a - x+1", "a - x:"))
    in_time = check_list_append(history("a 0-1 x+1", "b 12-13 x:"))

    (one,), (other,) = in_session.anomalies, in_time.anomalies
    assert one.claim.endswith("depends on; the order of a session shows it.")
    assert one.links[1].because == "T2 came before T1 in session a"
    assert other.claim.endswith("depends on; the order in real time shows it.")
    assert other.links[1].because == "T2 was over at 1, before T1 began at 12"


def test_end_at_the_begin_of_another_is_not_before_it() -> None:
    """T2 ended when T1 began: that proves nothing, but who saw T2 ended earlier."""
    log = history("a 0-1 x+1", "b 1-3 x:", "c 0-0 x:1")

    (only,) = check_list_append(log).anomalies

    assert only.name == "G-single-realtime"
    assert [link.because for link in only.links] == [
        "T1 read [] of x, before T2 appended 1 to it",
        "T3 read [1] of x, and saw 1, which T2 appended",
        "T3 was over at 0, before T1 began at 1",
    ]


def test_rivals_in_either_order_are_both_told() -> None:
    """Nobody saw who of two came first; snapshot isolation has neither order."""
    log = history("a - x: x+1 y+1", "b - y: x+2")

    checked = check_list_append(log, "snapshot-isolation")

    assert checked.verdict == "invalid"
    assert checked.anomalies[0].name == "G-single"
    assert checked.anomalies[0].claim == (
        "T1 and T2 both changed x. Either T1 before T2 before T1, or T2 before T1 "
        "before T2: one read a version that is older than what it depends on."
    )


def test_long_transactions_are_cut_to_what_matters() -> None:
    """Of twenty operations the witness tells those that prove it."""
    many = " ".join(f"z+{number}" for number in range(20))
    log = history(f"a - {many} x: y+1", "b - y: x+1")

    (worst,) = check_list_append(log).anomalies

    assert worst.items[0].text == "read [] of x, append 1 to y, 20 more"
    assert worst.items[1].text == "read [] of y, append 1 to x"


def test_example_of_the_docs_prints_what_they_say() -> None:
    """The page of the checkers is true."""
    page = (Path(__file__).parents[4] / "docs" / "checkers.md").read_text("utf-8")
    section = page.partition("## Transactions on lists")[2]
    code = section.partition("```python\n")[2].partition("```")[0]
    said = section.partition("```text\n")[2].partition("```")[0]
    printed = io.StringIO()

    with contextlib.redirect_stdout(printed):
        exec(code, {})  # noqa: S102  # our own page

    assert printed.getvalue() == said
