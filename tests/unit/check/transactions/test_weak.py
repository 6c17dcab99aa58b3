"""Weak isolation levels of register histories: judged right, and proven readably."""

import itertools
import random

import pytest

from test_framework.check.transactions import LogBuilder, Status, TransactionLog
from test_framework.check.transactions.weak import WEAK, IsolationLevel, check_weak
from test_framework.check.transactions.weak_reads import find_readers
from test_framework.check.witness import Anomaly
from test_framework.core import UsageError, Verdict
from tests.unit.check.transactions.axioms import Operation, Tiny, draw


def history(*transactions: tuple[int, tuple[Operation, ...]]) -> TransactionLog:
    """Return a log of (session, operations)."""
    return Tiny(
        tuple(session for session, _ in transactions),
        tuple(operations for _, operations in transactions),
    ).log()


NON_MONOTONIC = history(
    (0, (("w", "x", 1), ("w", "y", 1))),
    (1, (("r", "y", 1), ("r", "x", None))),
)
FRACTURED = history(
    (0, (("w", "x", 1), ("w", "y", 1))),
    (1, (("r", "x", None), ("r", "y", 1))),
)
BEHIND_OWN_SESSION = history((0, (("w", "x", 1),)), (0, (("r", "x", None),)))
ACAUSAL = history(
    (0, (("w", "x", 1),)),
    (1, (("r", "x", 1), ("w", "y", 1))),
    (2, (("r", "y", 1), ("r", "x", None))),
)
LONG_FORK = history(
    (0, (("w", "x", 1),)),
    (1, (("w", "y", 1),)),
    (2, (("r", "x", 1), ("r", "y", None))),
    (3, (("r", "x", None), ("r", "y", 1))),
)
CIRCULAR = history(
    (0, (("r", "y", 1), ("w", "x", 1))), (1, (("r", "x", 1), ("w", "y", 1)))
)

BROKEN = {
    "non-monotonic read": (NON_MONOTONIC, IsolationLevel.READ_COMMITTED),
    "fractured read": (FRACTURED, IsolationLevel.READ_ATOMIC),
    "fractured read of a session": (BEHIND_OWN_SESSION, IsolationLevel.READ_ATOMIC),
    "causality violation": (ACAUSAL, IsolationLevel.CAUSAL),
    "G1c": (CIRCULAR, IsolationLevel.READ_COMMITTED),
}


@pytest.mark.parametrize(
    ("log", "weakest", "name"),
    [(log, level, name.split(" of ")[0]) for name, (log, level) in BROKEN.items()],
    ids=BROKEN,
)
def test_anomaly_breaks_its_level_and_no_weaker(
    log: TransactionLog, weakest: IsolationLevel, name: str
) -> None:
    """Levels below the weakest broken one hold, and all from it on are invalid."""
    verdicts = {level: check_weak(log, level) for level in WEAK}

    broken = [level for level in WEAK if verdicts[level].verdict is Verdict.INVALID]
    assert broken == list(WEAK[WEAK.index(weakest) :])
    assert verdicts[weakest].anomalies[0].name == name


def test_long_fork_is_causal() -> None:
    """Two readers that disagree on the order of writes break only stronger levels."""
    assert check_weak(LONG_FORK, IsolationLevel.CAUSAL).verdict is Verdict.VALID


def test_witness_names_transactions_and_reasons() -> None:
    """A reader learns who must come before whom, and why."""
    found = check_weak(ACAUSAL, IsolationLevel.CAUSAL).anomalies[0]

    assert found.claim == "T3 read x as nobody had written it, though T1 had."
    assert [item.text for item in found.items] == [
        "w(x)=1",
        "r(x)=1 w(y)=1",
        "r(y)=1 r(x)=initial",
    ]
    assert [link.because for link in found.links] == [
        "T2 read 1 of x, which T1 wrote.",
        "T3 read 1 of y, which T2 wrote.",
        "T3 read the initial value of x, which T1 had overwritten.",
    ]


def test_cycle_of_commits_is_explained() -> None:
    """Where two orders contradict, both halves say what forces them."""
    log = history(
        (0, (("w", "x", 1), ("w", "y", 1))),
        (1, (("w", "x", 2), ("w", "y", 2))),
        (2, (("r", "x", 1), ("r", "y", 2))),
    )

    found = check_weak(log, IsolationLevel.READ_ATOMIC).anomalies[0]

    assert found.claim == "No order of commits fits: T1 -> T2 -> T1."
    assert [link.because for link in found.links] == [
        f"T3 read {value} of {key}, which {late} wrote, though T3 read from {early} as "
        f"well, and {early} wrote {key} too: so {early} must have committed before "
        f"{late}."
        for early, late, value, key in [("T1", "T2", 1, "x"), ("T2", "T1", 2, "y")]
    ]


@pytest.mark.parametrize(
    ("operations", "name", "claim"),
    [
        (
            (("w", "x", 1), ("r", "x", 9)),
            "internal",
            "T1 read 9 of x after it had written 1 itself.",
        ),
        (
            (("r", "x", 1), ("w", "x", 1)),
            "future read",
            "T1 read 1 of x before it wrote that itself.",
        ),
        ((("r", "x", 9),), "thin-air read", "T1 read 9 of x, which nobody wrote."),
        (
            (("r", "x", 7),),
            "G1a",
            "T1 read 7 of x, which T2 wrote and rolled back.",
        ),
        (
            (("r", "x", 5),),
            "G1b",
            "T1 read 5 of x, which T2 overwrote before it ended.",
        ),
    ],
)
def test_read_that_is_wrong_in_itself_breaks_all_levels(
    operations: tuple[Operation, ...], name: str, claim: str
) -> None:
    """No order of transactions can mend it."""
    builder = LogBuilder()
    builder.add("a", operations)
    builder.add("b", [("w", "x", 7)], status=Status.FAIL)
    builder.add("c", [("w", "x", 5), ("w", "x", 6), ("r", "x", 6)])
    log = builder.build()

    for level in WEAK:
        checked = check_weak(log, level)
        assert checked.verdict is Verdict.INVALID
        assert [(one.name, one.claim) for one in checked.anomalies] == [(name, claim)]


def test_unknown_outcome_counts_once_it_was_read() -> None:
    """Read of it, and it committed; unread, it never happened; and it may come late."""
    builder = LogBuilder()
    builder.add("a", [("w", "x", 1), ("w", "y", 1)], status=Status.INFO)
    builder.add("a", [("r", "x", None)])
    builder.add("b", [("r", "x", 1), ("r", "y", None)])
    builder.add("c", [("w", "x", 3)], status=Status.INFO)
    seen = builder.build()

    assert find_readers(seen).number.tolist().count(3) == 0
    assert check_weak(seen, IsolationLevel.READ_ATOMIC).verdict is Verdict.INVALID
    # The client that went on after its timeout did not miss its own write.
    assert check_weak(seen, IsolationLevel.READ_ATOMIC).anomalies[0].items[0].index == 0
    lone = LogBuilder()
    lone.add("a", [("w", "x", 1)], status=Status.INFO)
    lone.add("a", [("r", "x", None)])
    lone.add("a", [("r", "x", 1)])
    assert check_weak(lone.build(), IsolationLevel.CAUSAL).verdict is Verdict.VALID


def test_value_of_several_writers_ends_in_unknown() -> None:
    """A read that could mean two writers proves nothing, and the sentence says which."""
    log = history((0, (("w", "x", 1),)), (1, (("w", "x", 1),)), (2, (("r", "x", 1),)))

    checked = check_weak(log, IsolationLevel.CAUSAL)

    assert checked.verdict is Verdict.UNKNOWN
    assert "several transactions wrote 1 to 'x'" in checked.reason


def test_ambiguous_read_hides_no_other_fault() -> None:
    """What is broken without the doubtful reads stays broken."""
    log = history(
        (0, (("w", "x", 1),)),
        (1, (("w", "x", 1),)),
        (2, (("r", "x", 1), ("r", "z", 4))),
    )

    assert check_weak(log, IsolationLevel.READ_COMMITTED).verdict is Verdict.INVALID


def test_lists_are_sent_to_their_own_checker() -> None:
    """A history of appends is no history of registers."""
    builder = LogBuilder()
    builder.add("a", [("append", "x", 1)])

    with pytest.raises(UsageError, match="list-append"):
        check_weak(builder.build(), IsolationLevel.CAUSAL)


def test_causal_over_its_memory_ends_in_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Vector clocks that would not fit are never made."""
    monkeypatch.setattr("test_framework.check.transactions.weak.MEMORY_BYTES", 1)

    checked = check_weak(LONG_FORK, IsolationLevel.CAUSAL)

    assert checked.verdict is Verdict.UNKNOWN
    assert "Vector clocks of 4 transactions in 4 sessions" in checked.reason


def require_cycle(found: Anomaly) -> None:
    """Fail unless the links of a witness close."""
    steps = [(link.source, link.target) for link in found.links]
    assert steps[-1][1] == steps[0][0]
    assert all(one[1] == two[0] for one, two in itertools.pairwise(steps))


def test_cycles_of_drawn_histories_close() -> None:
    """A witness whose steps do not meet would prove nothing."""
    told = 0
    for seed in range(100):
        log = draw(random.Random(seed), transactions=5).log()
        for found in check_weak(log, IsolationLevel.CAUSAL).anomalies:
            require_cycle(found)
            told += 1
    assert told > 10
