"""Snapshot isolation and serializability of registers: judged right, proven readably."""

import itertools
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from test_framework.check.formats import read_history
from test_framework.check.linear import Limits
from test_framework.check.transactions import LogBuilder, Status, TransactionLog
from test_framework.check.transactions.black_box import check_black_box
from test_framework.check.transactions.weak import WEAK, IsolationLevel
from test_framework.check.witness import Anomaly
from test_framework.core import Verdict
from tests.unit.check.corpus import public_history
from tests.unit.check.transactions.axioms import Operation, Tiny, draw, levels_of

HISTORIES = 600
"""Tiny histories; one in ten breaks READ COMMITTED first, one in fifty serializability.

A checker that is wrong on one history in 200 passes 600 with odds of 5 %.
"""
HARD = (IsolationLevel.SNAPSHOT_ISOLATION, IsolationLevel.SERIALIZABLE)


def history(*transactions: tuple[Operation, ...]) -> TransactionLog:
    """Return a log of transactions, each in a session of its own."""
    return Tiny(tuple(range(len(transactions))), transactions).log()


def sentences(anomaly: Anomaly) -> list[str]:
    """Return why each step of a witness must be so."""
    return [link.because for link in anomaly.links]


WRITE_SKEW = history(
    (("r", "x", None), ("w", "y", 1)),
    (("r", "y", None), ("w", "x", 1)),
)
LOST_UPDATE = history(
    (("w", "x", 1),),
    (("r", "x", 1), ("w", "x", 2)),
    (("r", "x", 1), ("w", "x", 3)),
)
LONG_FORK = history(
    (("w", "x", 1),),
    (("w", "y", 1),),
    (("r", "x", 1), ("r", "y", None)),
    (("r", "x", None), ("r", "y", 1)),
)
COUNTER = history(
    *(
        (("r", "x", number or None), ("w", "x", number + 1))
        for number in random.Random(5).sample(range(40), 40)
    )
)


@pytest.mark.parametrize(
    ("log", "weakest", "name"),
    [
        (WRITE_SKEW, IsolationLevel.SERIALIZABLE, "G2-item"),
        (LOST_UPDATE, IsolationLevel.SNAPSHOT_ISOLATION, "lost-update"),
        (LONG_FORK, IsolationLevel.SNAPSHOT_ISOLATION, "G-nonadjacent"),
    ],
    ids=["write skew", "lost update", "long fork"],
)
def test_anomaly_breaks_its_level_and_no_weaker(
    log: TransactionLog, weakest: IsolationLevel, name: str
) -> None:
    """The answer says up to where the history is sound, and from where it is not."""
    checked = check_black_box(log)

    assert (checked.verdict, checked.broken) == (Verdict.INVALID, (weakest,))
    assert checked.holds == tuple(
        reversed(list(IsolationLevel)[: list(IsolationLevel).index(weakest)])
    )
    assert check_black_box(log, weakest).anomalies[0].name == name


def test_counter_is_one_chain() -> None:
    """Increments that read what they overwrite leave no choice of their order."""
    checked = check_black_box(COUNTER)

    assert checked.verdict is Verdict.VALID
    assert checked.holds[0] is IsolationLevel.SERIALIZABLE
    assert checked.facts["choices"] == 0


def test_write_skew_is_told() -> None:
    """Both transactions overwrote what the other one read."""
    found = check_black_box(WRITE_SKEW).anomalies[0]

    assert found.claim == "No order of transactions fits: T1 -rw-> T2 -rw-> T1."
    assert sorted(sentences(found)) == [
        "T1 read the initial value of y, before T2 wrote y.",
        "T2 read the initial value of x, before T1 wrote x.",
    ]


def test_lost_update_is_told() -> None:
    """The witness holds the two transactions and the write they both read."""
    found = check_black_box(LOST_UPDATE).anomalies[0]

    assert found.claim == (
        "T1 and T2 both read 1 of x and both overwrote it, "
        "so the update of one is lost."
    )
    assert len(found.items) == 3
    assert sentences(found)[-2:] == [
        "T1 read 1 of x, and T2 overwrote it.",
        "T2 read 1 of x, and T1 overwrote it.",
    ]


def test_decided_order_is_told_with_its_reason() -> None:
    """Where an order follows from others, the cycle of the other order is shown."""
    log = history(
        (("w", "x", 1), ("w", "a", 1)),
        (("w", "y", 1), ("w", "b", 1)),
        (("r", "a", 1), ("r", "y", 1), ("w", "x", 2)),
        (("r", "b", 1), ("r", "x", 1), ("w", "y", 2)),
    )

    found = check_black_box(log).anomalies[0]

    assert found.claim == "No order of transactions fits: T1 -rw-> T2 -rw-> T1."
    assert (
        "T1 read 1 of x, which T3 wrote, before T2 wrote x, "
        "as the other order would close T2 -ww-> T3 -wr-> T2."
    ) in sentences(found)


def test_contradiction_tells_both_orders() -> None:
    """If either order of two writes closes a cycle, both cycles are the proof."""
    log = history(
        (("r", "q", None), ("w", "x", 1), ("w", "p", 1)),
        (("r", "p", None), ("w", "x", 2)),
        (("r", "x", 2), ("w", "q", 1)),
    )

    checked = check_black_box(log)

    assert checked.verdict is Verdict.INVALID
    assert checked.anomalies[0].claim.startswith(
        "Whatever order the writes of x came in, a cycle closes: "
    )
    assert (
        sum(", if the writes of x" in text for text in sentences(checked.anomalies[0]))
        == 2
    )


# Either order of the writes of x rules out both orders of y, or both of z: no single
# choice is wrong by what is known, so this takes a search.
ENTANGLED: tuple[tuple[Operation, ...], ...] = (
    (("w", "x", 1), ("w", "a", 1)),
    (("w", "x", 2), ("w", "b", 1)),
    (("w", "y", 1), ("w", "c", 1)),
    (("w", "y", 2), ("w", "d", 1)),
    (("w", "z", 1), ("w", "e", 1)),
    (("w", "z", 2), ("w", "f", 1)),
    (("r", "x", 1), ("r", "d", 1)),
    (("r", "x", 1), ("r", "c", 1)),
    (("r", "x", 2), ("r", "f", 1)),
    (("r", "x", 2), ("r", "e", 1)),
    (("r", "y", 1), ("r", "b", 1)),
    (("r", "y", 2), ("r", "b", 1)),
    (("r", "z", 1), ("r", "a", 1)),
    (("r", "z", 2), ("r", "a", 1)),
)


@pytest.mark.parametrize("level", HARD)
@pytest.mark.parametrize("most_in_pairs", [8000, 0], ids=["pairs", "no pairs"])
def test_entangled_choices_are_searched_and_told(
    level: IsolationLevel, most_in_pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof is a few cycles that no choice of all avoids.

    They are found beforehand as pairs of edges, or in what the solver comes up with.
    """
    module = "test_framework.check.transactions.polygraph_search"
    monkeypatch.setattr(f"{module}.MOST_EDGES_IN_PAIRS", most_in_pairs)

    checked = check_black_box(history(*ENTANGLED), level)

    found = checked.anomalies[0]
    assert (checked.verdict, checked.broken) == (
        Verdict.INVALID,
        (IsolationLevel.SNAPSHOT_ISOLATION,),
    )
    assert int(checked.facts["choices left"]) == 3
    assert found.claim.startswith("Whatever order the writes of x, y, z came in")
    assert found.claim.count(";") == 3


@pytest.mark.parametrize("left_out", range(6, 14))
def test_entangled_choices_need_each_reader(left_out: int) -> None:
    """Without any one of the readers there is a choice, and the search finds it."""
    rest = [one for at, one in enumerate(ENTANGLED) if at != left_out]

    assert check_black_box(history(*rest)).verdict is Verdict.VALID


def test_proof_holds_no_more_than_it_needs() -> None:
    """Of two tangles that have nothing to do with each other, one is the proof."""
    other = tuple(
        tuple((word, key * 2, value) for word, key, value in operations)
        for operations in ENTANGLED
    )

    checked = check_black_box(history(*ENTANGLED, *other), IsolationLevel.SERIALIZABLE)

    assert int(checked.facts["choices left"]) == 6
    assert checked.anomalies[0].claim.count(";") == 3


def test_missing_solver_ends_in_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pruning leaves open cannot be decided without the extra; it is named."""
    monkeypatch.setitem(sys.modules, "pysat.solvers", None)

    checked = check_black_box(history(*ENTANGLED))

    assert checked.verdict is Verdict.UNKNOWN
    assert "Install isolation-audit[sat]." in checked.reason
    assert check_black_box(WRITE_SKEW).verdict is Verdict.INVALID


class Late:
    """A clock on which an hour passes whenever it is read."""

    def __init__(self) -> None:
        self.hours = 0

    def now_ns(self) -> int:
        """Return the instant."""
        self.hours += 1
        return self.hours * 3_600_000_000_000


def test_end_of_time_is_unknown() -> None:
    """What could not be decided in time is no verdict; the sentence says what to do."""
    checked = check_black_box(history(*ENTANGLED), clock=Late())

    assert checked.verdict is Verdict.UNKNOWN
    assert checked.reason.startswith(
        "60 s were not enough to decide 3 choices of the order of writes."
    )


def test_end_of_time_while_pruning_is_unknown() -> None:
    """Choices that were decided by then are no answer to the others."""
    log = history(
        (("w", "x", 1), ("w", "a", 1)), (("r", "a", 1), ("w", "x", 2), ("r", "x", 2))
    )

    checked = check_black_box(log, clock=Late())

    assert checked.verdict is Verdict.UNKNOWN
    assert checked.reason.startswith("60 s were not enough to decide 1 choices")
    assert check_black_box(log).verdict is Verdict.VALID


def test_history_over_its_memory_is_unknown() -> None:
    """The closure that would not fit is never made."""
    checked = check_black_box(history(*ENTANGLED), limits=Limits(memory_bytes=1000))

    assert checked.verdict is Verdict.UNKNOWN
    assert "14 transactions with 3 pairs of writes" in checked.reason


@pytest.mark.parametrize("level", IsolationLevel)
@pytest.mark.parametrize(
    "transactions",
    [
        [],
        [((("w", "x", 1),), Status.FAIL)],
        [((("w", "x", 1), ("r", "y", None)), Status.INFO)],
        [((("w", "x", 1),), Status.OK), ((("w", "x", 2),), Status.OK)],
    ],
    ids=["empty", "refused", "unknown", "writes only"],
)
def test_history_without_answers_proves_nothing(
    transactions: list[tuple[tuple[Operation, ...], Status]], level: IsolationLevel
) -> None:
    """Where nothing was read, nothing holds: unknown, and never a traceback."""
    builder = LogBuilder()
    for operations, status in transactions:
        builder.add("a", operations, status=status)

    checked = check_black_box(builder.build(), level)

    assert (checked.verdict, checked.holds) == (Verdict.UNKNOWN, ())
    assert checked.reason.startswith("No transaction that committed has a read")


def test_written_none_is_not_taken_for_nothing() -> None:
    """A read of None might be of the write or from before it."""
    log = history((("w", "x", None),), (("r", "x", None), ("r", "y", None)))

    checked = check_black_box(log)

    assert checked.verdict is Verdict.UNKNOWN
    assert "'x' held nothing at first and None was written to it" in checked.reason


def test_ambiguous_reads_end_in_unknown() -> None:
    """A value of two writers proves nothing at these levels either."""
    log = history((("w", "x", 1),), (("w", "x", 1),), (("r", "x", 1),))

    for level in HARD:
        assert check_black_box(log, level).verdict is Verdict.UNKNOWN


def require_axioms(seed: int, tiny: Tiny) -> None:
    """Compare which of the five levels hold with what their axioms say."""
    levels = levels_of(tiny)
    checked = check_black_box(tiny.log())
    broken = [level for level in IsolationLevel if level not in levels][:1]
    assert (seed, checked.verdict, set(checked.holds), list(checked.broken)) == (
        seed,
        Verdict.INVALID if broken else Verdict.VALID,
        levels,
        broken,
    )


@pytest.mark.parametrize("part", range(2))
def test_levels_agree_with_their_axioms(part: int) -> None:
    """On tiny histories every order of commits is tried; all five answers are equal."""
    for seed in range(part * HISTORIES // 2, (part + 1) * HISTORIES // 2):
        rng = random.Random(seed)
        require_axioms(seed, draw(rng, transactions=rng.randint(3, 6)))


@pytest.mark.long
@pytest.mark.parametrize("part", range(20))
def test_levels_agree_with_their_axioms_at_length(part: int) -> None:
    """The same over ten thousand with other keys, and at times without sessions."""
    for seed in range(10_000 + part * 500, 10_500 + part * 500):
        rng = random.Random(seed)
        tiny = draw(rng, transactions=rng.randint(3, 7), keys="xyz"[: seed % 3 + 1])
        if seed % 2:
            tiny = Tiny(tuple(range(len(tiny.sessions))), tiny.transactions)
        require_axioms(seed, tiny)


AWDIT = {
    "none": None,
    "read-committed": IsolationLevel.READ_COMMITTED,
    "read-atomic": IsolationLevel.READ_ATOMIC,
    "causal": IsolationLevel.CAUSAL,
}


@pytest.mark.parametrize("folder", AWDIT)
def test_public_histories_of_awdit_have_their_verdicts(folder: str) -> None:
    """Each folder is named after the strongest of three levels that holds."""
    files = sorted(public_history("awdit", folder).rglob("*.txt"))

    for file in files:
        log = read_history(file)
        assert isinstance(log, TransactionLog)
        held = [
            level
            for level in WEAK
            if check_black_box(log, level).verdict is Verdict.VALID
        ]
        strongest = AWDIT[folder]
        expected = WEAK[: WEAK.index(strongest) + 1] if strongest else ()
        assert (file.name, held) == (file.name, list(expected))
    assert files


LONG = (
    "fig7/20_100_15_10000_0.5_uniform",
    "fig7/20_250_15_10000_0.5_uniform",
    "fig7/30_100_15_10000_0.5_uniform",
    "fig8/rubis-10000",
    "fig8/twitter-10000",
)
BROKEN_POLYSI = {
    "violations/dgraph": IsolationLevel.CAUSAL,
    "violations/galera": IsolationLevel.SNAPSHOT_ISOLATION,
    "violations/yugabyte": IsolationLevel.READ_ATOMIC,
    "fig7/20_100_15_10000_0.5_uniform": IsolationLevel.SERIALIZABLE,
    "fig7/20_100_15_1000_0.5_uniform": IsolationLevel.SERIALIZABLE,
    "fig7/20_250_15_10000_0.5_uniform": IsolationLevel.SERIALIZABLE,
    "fig7/30_100_15_10000_0.5_uniform": IsolationLevel.SERIALIZABLE,
    "fig7/20_10_15_10000_0.5_uniform": None,
    "fig8/25_400_8_10000_0.5_uniform": None,
    "fig8/rubis-10000": None,
    "fig8/twitter-10000": None,
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long) if name in LONG else name
        for name in BROKEN_POLYSI
    ],
)
def test_public_histories_of_polysi_have_their_verdicts(name: str) -> None:
    """Histories of real databases break the level that PolySI and AWDIT say, if any."""
    path = public_history("polysi", *Path(name).parts)
    texts = sorted(path.glob("*.txt"))

    log = read_history(texts[0] if texts else path)

    assert isinstance(log, TransactionLog)
    checked = check_black_box(log)
    weakest = BROKEN_POLYSI[name]
    assert checked.broken == (() if weakest is None else (weakest,))
    assert checked.verdict is (Verdict.INVALID if weakest else Verdict.VALID)
    for found in checked.anomalies:
        numbers = {
            number for link in found.links for number in (link.source, link.target)
        }
        assert numbers <= set(range(len(found.items)))
        for one, two in itertools.pairwise(found.links):
            is_chained = one.target == two.source
            assert (
                is_chained or "Whatever" in found.claim or found.name == "lost-update"
            )


def test_example_of_the_docs_is_true() -> None:
    """The page's example runs, and its witness is that of the example."""
    page = (Path(__file__).parents[4] / "docs" / "isolation.md").read_text("utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    scope: dict[str, Any] = {}

    exec(code, scope)  # noqa: S102  # our own page

    found = scope["checked"].anomalies[0]
    told = [f"{found.name}: {found.claim}", *(f"  {one}" for one in sentences(found))]
    assert "\n".join(told) in page
