"""Each anomaly of registers is named, and a sound sibling is left alone."""

from typing import NamedTuple

import pytest

from test_framework.check.formats import read_history
from test_framework.check.transactions import (
    MODELS,
    Assumptions,
    TransactionLog,
    check_registers,
)
from tests.unit.check.corpus import public_history
from tests.unit.check.transactions.histories import history

ITEM = ("consistent-view", "repeatable-read")


class Twins(NamedTuple):
    """A history with one anomaly, one like it without, and the weakest broken models."""

    broken: tuple[str, ...]
    sound: tuple[str, ...]
    weakest: tuple[str, ...]


TWINS = {
    "G1a": Twins(
        ("a - fail x=1", "b - x?1"), ("a - info x=1", "b - x?1"), ("read-committed",)
    ),
    "G1b": Twins(
        ("a - x=1 x=2", "b - x?1"), ("a - x=1 x=2", "b - x?2"), ("read-committed",)
    ),
    "G1c": Twins(
        ("a - x=1 y?2", "b - y=2 x?1"),
        ("a - x=1 y?2", "b - y=2 x?"),
        ("read-committed",),
    ),
    "internal": Twins(("a - x=1 x?",), ("a - x=1 x?1",), ITEM),
    "lost-update": Twins(
        ("a - x? x=1", "b - x? x=2"), ("a - x? x=1", "b - x?1 x=2"), ITEM
    ),
    "G-single": Twins(
        ("a - x=1 y=1", "b - x?1 y?"), ("a - x=1 y=1", "b - x?1 y?1"), ITEM
    ),
    "G-nonadjacent": Twins(
        ("a - x=1", "b - y=1", "c - x?1 y?", "d - x? y?1"),
        ("a - x=1", "b - y=1", "c - x?1 y?", "d - x?1 y?1"),
        ("snapshot-isolation", "repeatable-read"),
    ),
    "G2-item": Twins(
        ("a - x? y=1", "b - y? x=1"),
        ("a - x? y=1", "b - y?1 x=1"),
        ("repeatable-read",),
    ),
    "G-single-process": Twins(
        ("a - x=1", "a - x?"),
        ("a - x=1", "a - x?1"),
        ("strong-session-consistent-view", "strong-session-repeatable-read"),
    ),
    "G1c-realtime": Twins(
        ("a 0-1 x?1", "b 2-3 x=1"),
        ("a 0-2 x?1", "b 2-3 x=1"),
        ("strong-read-committed",),
    ),
    "G-single-realtime": Twins(
        ("a 0-1 x? x=1", "b 2-3 x?1 x=2", "c 4-5 x?1"),
        ("a 0-1 x? x=1", "b 2-4 x?1 x=2", "c 4-5 x?1"),
        ("strong-consistent-view", "strong-repeatable-read"),
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_anomaly_of_registers_is_named_with_what_it_breaks(name: str) -> None:
    """The broken twin shows it, and breaks exactly what rules it out."""
    checked = check_registers(history(*TWINS[name].broken))

    assert name in {one.name for one in checked.anomalies}
    assert (checked.verdict, checked.broken) == ("invalid", TWINS[name].weakest)


@pytest.mark.parametrize("name", TWINS)
def test_sound_sibling_of_registers_is_valid(name: str) -> None:
    """The sibling differs in one answer or one instant, and everything holds."""
    checked = check_registers(history(*TWINS[name].sound))

    assert (checked.verdict, checked.anomalies, checked.broken) == ("valid", (), ())
    assert set(checked.holds) == set(MODELS)


@pytest.mark.parametrize(
    ("assumptions", "lines"),
    [
        (Assumptions(), ("a - x?2 x=1", "b - x?1 x=2")),
        (
            Assumptions(is_sequential=True),
            ("a - x=1", "b - x=2", "c - x?1", "c - x?2", "d - x?2", "d - x?1"),
        ),
        (
            Assumptions(is_linearizable=True),
            ("a 0-9 x=1", "b 0-9 x=2", "c 0-1 x?1", "d 2-3 x?2", "e 4-5 x?1"),
        ),
    ],
)
def test_versions_without_an_order_are_named(
    assumptions: Assumptions, lines: tuple[str, ...]
) -> None:
    """Each assumption alone finds the version that comes before itself."""
    checked = check_registers(history(*lines), assumptions=assumptions)

    names = {one.name for one in checked.anomalies}
    assert (checked.verdict, "cyclic-versions" in names) == ("invalid", True)
    nothing = Assumptions(reads_precede_writes=False)
    others = check_registers(history(*lines), assumptions=nothing).anomalies
    assert "cyclic-versions" not in {one.name for one in others}


@pytest.mark.parametrize(
    ("assumptions", "last"),
    [
        (Assumptions(is_sequential=True), ("c 0-99 x?1", "c 100-200 x?2")),
        (Assumptions(is_linearizable=True), ("c 20-21 x?1", "d 22-23 x?2")),
    ],
)
def test_order_of_versions_follows_from_what_is_assumed(
    assumptions: Assumptions, last: tuple[str, str]
) -> None:
    """Two blind writes are ordered by who met them one after the other."""
    lines = ("a 0-99 x=1 y?2", "b 0-99 x=2 y=2", *last)

    with_it = check_registers(history(*lines), "serializable", assumptions=assumptions)
    without = check_registers(history(*lines), "serializable")

    assert [one.name for one in with_it.anomalies][:1] == ["G1c"]
    assert (with_it.verdict, without.verdict) == ("invalid", "valid")


def test_registers_that_do_not_tell_are_unknown() -> None:
    """Two blind writes and a reader of each in a circle: only a search can tell."""
    log = history("a - x=1 y=1", "b - x=2 y=2", "c - x?1 y?2")

    checked = check_registers(log)

    assert checked.verdict == "unknown"
    assert checked.reason == (
        "Reads do not tell the order of all versions of x (2 such keys), and no serial "
        "execution was found. Read each key before you write it, append to lists, or "
        "use check_black_box."
    )
    assert "strong-read-committed" in checked.holds
    assert "snapshot-isolation" not in checked.holds


def test_version_that_its_writer_overwrote_is_none_of_the_order() -> None:
    """Then one write is on top of the initial version, and the order is known."""
    checked = check_registers(history("a - x=1 x=2", "b - x?2"))

    assert (checked.verdict, checked.facts["keys of partial order"]) == ("valid", 0)


def test_blind_writes_are_valid_where_an_execution_is_found() -> None:
    """The order of versions is not known, and any that gives what was read will do."""
    log = history("a 0-9 x=1", "b 0-9 x=2", "c 0-9 x=3", "d 10-12 x?2", "e 0-12 x?1")

    checked = check_registers(log)

    assert checked.verdict == "valid"
    assert checked.facts["keys of partial order"] == 1


def test_version_that_somebody_has_yet_to_read_is_not_overwritten() -> None:
    """The execution found lets R read 1 first, though that one must wait for y."""
    log = history("a 0-1 x=1", "b 0-2 x=2", "w 0-3 y=1", "r 0-4 x?1 y?1", "d 0-5 x?2")

    assert check_registers(log).verdict == "valid"


def test_read_of_an_own_later_write_is_internal() -> None:
    """Nobody sees what he has not written yet."""
    (only,) = check_registers(history("a - x?1 x=1")).anomalies

    assert only.claim == (
        "T1 read 1 of x, which does not agree with what else it did of it: write 1 to x."
    )


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("a - x=1", "b -"), "None of its 2 transactions that took effect read anyth"),
        ((), "None of its 0 transactions is known to have taken effect"),
        (
            ("a - x=1 x?1", "b - x=1"),
            "Transaction 0 writes 1 to x, and so does another",
        ),
        (
            ("a - x=1", "b - x?7"),
            "Transaction 1 read 7 of x, which no transaction wrote",
        ),
        (
            ("a - x=1 x?1", "b - x+7"),
            "Transaction 1 would append 7 to x, which is no regis",
        ),
        (("a - x:",), "Transaction 0 would read [] of x, which is no register"),
    ],
)
def test_registers_with_a_flaw_are_unknown(lines: tuple[str, ...], reason: str) -> None:
    """The sentence names the transaction and the value, and no level is said to hold."""
    checked = check_registers(history(*lines))

    assert checked.verdict == "unknown"
    assert checked.reason.startswith(reason)
    assert checked.holds == ()


@pytest.mark.parametrize("ending", ["edn", "json"])
def test_public_registers_with_a_value_from_nowhere_are_unknown(ending: str) -> None:
    """Elle calls this one valid, though it reads 3 and nobody ever wrote it."""
    log = read_history(public_history("elle-cli", "elle", f"rw-register.{ending}"))
    assert isinstance(log, TransactionLog)

    checked = check_registers(log)

    assert (checked.verdict, checked.anomalies) == ("unknown", ())
    assert checked.reason.startswith("Transaction 3 read 3 of x, which no transaction")


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("violations/dgraph", "invalid"),
        ("fig7/20_10_15_10000_0.5_uniform", "valid"),
        ("fig7/20_100_15_1000_0.5_uniform", "invalid"),
        ("fig7/30_100_15_10000_0.5_uniform", "invalid"),
    ],
)
def test_public_registers_have_their_known_verdict(name: str, verdict: str) -> None:
    """Histories of PolySI, for serializability."""
    log = read_history(public_history("polysi", *name.split("/")))
    assert isinstance(log, TransactionLog)

    assert check_registers(log, "serializable").verdict == verdict
