"""The models allow what the literature says, and the judge finds what they forbid."""

import itertools
import random

import pytest

from test_framework.check.litmus import (
    ATOMIC_BATCH,
    COHERENT,
    LITMUS_TESTS,
    READ_COMMITTED,
    SEQUENTIAL,
    SERIALIZABLE,
    SNAPSHOT,
    TOTAL_STORE_ORDER,
    Litmus,
    LitmusRun,
    MemoryModel,
    Outcome,
    Timing,
    check_litmus,
    interleavings,
    litmus_named,
)
from test_framework.core import UsageError, Verdict

ALL_MODELS = (
    SEQUENTIAL,
    TOTAL_STORE_ORDER,
    COHERENT,
    READ_COMMITTED,
    SNAPSHOT,
    SERIALIZABLE,
    ATOMIC_BATCH,
)


def run_in_order(
    litmus: Litmus, order: tuple[int, ...], *, is_driven: bool = True
) -> LitmusRun:
    """Execute a litmus test on plain memory, one event after the other."""
    memory = dict.fromkeys(litmus.registers, 0)
    read: list[list[int]] = [[] for _ in litmus.programs]
    timings: list[list[Timing]] = [[] for _ in litmus.programs]
    for turn, worker in enumerate(order):
        step = litmus.programs[worker][len(timings[worker])]
        if step.value is None:
            read[worker].append(memory[step.register])
        else:
            memory[step.register] = step.value
        timings[worker].append(Timing(3 * turn, 3 * turn + 1))
    last = tuple(memory[name] for name in litmus.registers)
    return LitmusRun(
        tuple(tuple(events) for events in timings),
        tuple(itertools.chain(*read)) + (last if litmus.is_final_seen else ()),
        is_driven=is_driven,
    )


def orders_of(litmus: Litmus) -> tuple[tuple[int, ...], ...]:
    """Return every order in which the steps of a litmus test can come."""
    return interleavings(SEQUENTIAL.events(litmus))


@pytest.mark.parametrize("litmus", LITMUS_TESTS, ids=lambda litmus: litmus.name)
def test_sequential_outcomes_are_those_of_all_interleavings(litmus: Litmus) -> None:
    """Walking the machine gives what running every order on a dict gives."""
    expected = {run_in_order(litmus, order).outcome for order in orders_of(litmus)}

    assert SEQUENTIAL.allowed(litmus) == expected
    assert litmus.telling not in expected


# Alglave et al., "Herding cats", and Sewell et al., "x86-TSO": which shapes show their
# outcome. Transactions: Berenson et al.; SB and LB are write skew, MP a torn read.
TELLING_IS_ALLOWED: dict[MemoryModel, set[str]] = {
    SEQUENTIAL: set(),
    TOTAL_STORE_ORDER: {"SB", "R"},
    COHERENT: {"SB", "MP", "LB", "IRIW", "WRC", "R", "S", "2+2W", "MW"},
    READ_COMMITTED: {"SB"},
    SNAPSHOT: {"SB"},
    SERIALIZABLE: set(),
    ATOMIC_BATCH: set(),
}


@pytest.mark.parametrize("model", ALL_MODELS, ids=lambda model: model.name)
def test_model_allows_the_shapes_that_the_literature_says(model: MemoryModel) -> None:
    """Which telling outcomes each model allows, for all litmus tests."""
    allowed = {
        litmus.name
        for litmus in LITMUS_TESTS
        if litmus.telling in model.allowed(litmus)
    }

    assert allowed == TELLING_IS_ALLOWED[model]


@pytest.mark.parametrize(
    ("name", "outcome", "allowed_by"),
    [
        # Write skew by reads before writes: not serial, allowed by snapshots.
        ("LB", (0, 0), {READ_COMMITTED, SNAPSHOT}),
        # Data without flag: a torn read, which only read committed allows.
        ("MP", (0, 1), {READ_COMMITTED}),
        # A value that changes within one transaction.
        ("CoRR", (0, 1), {READ_COMMITTED}),
        # Two readers that see the writes in opposite orders.
        ("IRIW", (1, 0, 1, 0), set()),
    ],
)
def test_isolation_levels_differ_where_the_standard_says(
    name: str, outcome: Outcome, allowed_by: set[MemoryModel]
) -> None:
    """Outcomes that part the levels."""
    levels = (READ_COMMITTED, SNAPSHOT, SERIALIZABLE)

    found = {one for one in levels if outcome in one.allowed(litmus_named(name))}

    assert found == allowed_by


@pytest.mark.parametrize("litmus", LITMUS_TESTS, ids=lambda litmus: litmus.name)
def test_models_allow_no_less_than_stronger_ones(litmus: Litmus) -> None:
    """Serial implies snapshot; sequential implies TSO, which implies coherence."""
    allowed = {model: model.allowed(litmus) for model in ALL_MODELS}

    assert allowed[SERIALIZABLE] <= allowed[SNAPSHOT]
    assert allowed[SERIALIZABLE] <= allowed[READ_COMMITTED]
    assert allowed[SERIALIZABLE] == allowed[ATOMIC_BATCH] <= allowed[SEQUENTIAL]
    assert allowed[SEQUENTIAL] <= allowed[TOTAL_STORE_ORDER] <= allowed[COHERENT]
    assert allowed[COHERENT] <= set(litmus.space())


@pytest.mark.parametrize("litmus", LITMUS_TESTS, ids=lambda litmus: litmus.name)
def test_driven_order_leaves_one_outcome(litmus: Litmus) -> None:
    """Calls one after the other are right with the one outcome of that order only."""
    for order in orders_of(litmus):
        run = run_in_order(litmus, order)
        wrong = [
            LitmusRun(run.timings, outcome, is_driven=True)
            for outcome in SEQUENTIAL.allowed(litmus) - {run.outcome}
        ]

        table = check_litmus(litmus, SEQUENTIAL, [run, *wrong])

        assert table.stale == len(wrong)
        assert table.checked.facts["anomalies"] == len(wrong)


def test_all_orders_are_counted_once_each() -> None:
    """Coverage is of distinct orders, and says how many there could be."""
    litmus = litmus_named("IRIW")
    runs = [run_in_order(litmus, order) for order in orders_of(litmus)]

    assert check_litmus(litmus, SEQUENTIAL, runs).orders == 180
    table = check_litmus(litmus, SEQUENTIAL, runs[:50] + runs[:50])
    assert (table.orders, table.possible_orders) == (50, 180)
    assert table.checked.verdict is Verdict.VALID


def test_forbidden_outcome_shows_its_interleaving() -> None:
    """The witness holds every step with what it was answered, in order of time."""
    litmus = litmus_named("MP")
    timings = (
        (Timing(10, 20), Timing(30, 40)),
        (Timing(35, 45), Timing(50, 60)),
    )

    table = check_litmus(
        litmus, SEQUENTIAL, [LitmusRun(timings, (1, 0), is_driven=False)]
    )

    (anomaly,) = table.checked.anomalies
    assert table.checked.verdict is Verdict.INVALID
    assert anomaly.name == "forbidden outcome"
    assert [item.text for item in anomaly.items] == [
        "W x=1",
        "W y=1",
        "R y -> 1",
        "R x -> 0",
    ]
    assert [link.kind for link in anomaly.links] == ["session", "concurrent", "session"]
    assert any("FORBIDDEN seen      1  <- telling" in line for line in table.lines())


def test_overlapping_calls_leave_their_order_open() -> None:
    """What is too old after calls that were over is right beside calls that were not."""
    litmus = litmus_named("SB")
    both_written = ((Timing(0, 50), Timing(51, 99)), (Timing(0, 50), Timing(51, 99)))
    beside = ((Timing(0, 50), Timing(51, 99)), (Timing(40, 70), Timing(71, 99)))
    for outcome, timings, stale in [
        ((1, 0), both_written, 1),
        ((1, 1), both_written, 0),
        ((0, 1), beside, 0),
        ((1, 0), beside, 1),
    ]:
        run = LitmusRun(timings, outcome, is_driven=False)

        table = check_litmus(litmus, SEQUENTIAL, [run])

        assert (table.stale, table.overlapped) == (stale, 1)


def test_store_buffer_is_held_to_forced_order_only() -> None:
    """Under TSO a clock proves nothing, waiting for each other does."""
    litmus = litmus_named("SB")
    apart = ((Timing(0, 1), Timing(3, 4)), (Timing(6, 7), Timing(9, 10)))
    seen = LitmusRun(apart, (0, 0), is_driven=False)
    forced = LitmusRun(apart, (0, 0), is_driven=True)

    assert check_litmus(litmus, TOTAL_STORE_ORDER, [seen]).stale == 0
    assert check_litmus(litmus, TOTAL_STORE_ORDER, [forced]).stale == 1


def test_value_that_nobody_wrote_is_named() -> None:
    """A value that nobody wrote in this execution came from another, or was torn."""
    litmus = litmus_named("RYW")
    run = run_in_order(litmus, (0, 0))
    old = LitmusRun(run.timings, (-7,), is_driven=True, iteration=3)

    (anomaly,) = check_litmus(litmus, SEQUENTIAL, [old]).checked.anomalies

    assert anomaly.name == "out-of-thin-air value"
    assert "iteration 3" in anomaly.claim


def test_no_execution_proves_nothing() -> None:
    """An empty table is unknown, never valid."""
    table = check_litmus(litmus_named("SB"), SEQUENTIAL, [])

    assert table.checked.verdict is Verdict.UNKNOWN


def test_execution_with_missing_events_is_refused() -> None:
    """Timings must be those of the model's events, commits included."""
    litmus = litmus_named("SB")
    run = run_in_order(litmus, (0, 0, 1, 1))

    with pytest.raises(UsageError, match=r"it has \(3, 3\)"):
        check_litmus(litmus, SNAPSHOT, [run])
    with pytest.raises(UsageError, match="no litmus test 'XY'"):
        litmus_named("XY")


def test_serial_order_in_time_is_held_against_transactions() -> None:
    """A transaction that began after another's commit must see it, at every level."""
    litmus = litmus_named("CoRR")
    writer = (Timing(0, 1), Timing(2, 3))
    reader = (Timing(5, 6), Timing(7, 8), Timing(9, 10))
    rng = random.Random(1)
    for model in (READ_COMMITTED, SNAPSHOT, SERIALIZABLE):
        late = LitmusRun((writer, reader), (0, 0), is_driven=rng.random() < 0.5)
        right = LitmusRun((writer, reader), (1, 1), is_driven=True)

        table = check_litmus(litmus, model, [late, right])

        assert table.stale == 1
