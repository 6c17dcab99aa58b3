"""Faults: where they strike, which runs show that, and what they must not hide."""

import asyncio

import pytest

from test_framework.core import InternalError
from test_framework.explore import (
    Cancel,
    Conclusion,
    Expire,
    Raise,
    Report,
    Scenario,
    explore,
    external,
    invariant,
)
from test_framework.explore.execution import Runner
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.schedulers import Stock


class Pool:
    """One connection that a careless second wait may keep."""

    def __init__(self) -> None:
        self.is_taken = False
        self.busy = asyncio.Lock()
        self.lent = 0


async def borrow(pool: Pool, _: int) -> None:
    """Wait a second time only where another user came first, and leak there."""
    if pool.is_taken:
        pool.lent += 1
        await external("second wait")
        pool.lent -= 1
        return
    pool.is_taken = True
    await external("query")
    pool.is_taken = False


async def borrow_and_return(pool: Pool, _: int) -> None:
    """The same, with a return that a cancellation does not skip."""
    if pool.is_taken:
        pool.lent += 1
        try:
            await external("second wait")
        finally:
            pool.lent -= 1
        return
    pool.is_taken = True
    try:
        await external("query")
    finally:
        pool.is_taken = False


def nothing_lent(pool: Pool) -> None:
    """Every connection came back."""
    assert pool.lent == 0


async def come_late(pool: Pool, user: int) -> None:
    """User 1 comes after user 0 is gone, unless an order without luck delays user 0."""
    if user:
        for _ in range(6):
            await asyncio.sleep(0)
    await borrow(pool, user)


async def come_late_and_return(pool: Pool, user: int) -> None:
    """The safe sibling."""
    if user:
        for _ in range(6):
            await asyncio.sleep(0)
    await borrow_and_return(pool, user)


def faults_of(report: Report) -> tuple[object, ...]:
    """Return the faults of the witness of a finding."""
    assert report.conclusion is Conclusion.FOUND, report.text()
    assert report.witness is not None
    return report.witness.schedule.faults


@pytest.mark.power
def test_cancellation_strikes_where_only_another_order_waits() -> None:
    """Plain asyncio never comes to the second wait; it is struck all the same."""
    report = explore(
        Scenario(Pool, come_late, nothing_lent),
        fidelity="await",
        cancel="user*",
        budget=20,
        seed=3,
    )

    assert any(isinstance(fault, Cancel) for fault in faults_of(report))


def test_proof_with_faults_strikes_every_suspension_of_every_order() -> None:
    """The safe sibling is proven, and the claim counts what the orders showed."""
    scenario = Scenario(Pool, borrow_and_return, nothing_lent)

    report = explore(scenario, fidelity="await", cancel="user*", budget=30, seed=3)

    assert report.conclusion is Conclusion.PROVEN, report.text()
    assert "faults that can strike (one task at one suspension)" in report.claim


@pytest.mark.power
def test_timeout_armed_in_another_order_only_expires() -> None:
    """A fault counts where it applies, also when the usual order has no timeout there."""
    state: dict[str, bool] = {}

    async def guarded(flags: dict[str, bool], user: int) -> None:
        if user:
            for _ in range(6):
                await asyncio.sleep(0)
        if flags.get("busy"):
            flags["waiting"] = True
            try:
                async with asyncio.timeout(30):
                    await external("slow path")
            except TimeoutError:
                return  # still waiting
            flags["waiting"] = False
            return
        flags["busy"] = True
        await external("fast path")
        flags["busy"] = False

    def nobody_waits(flags: dict[str, bool]) -> None:
        assert not flags.get("waiting")

    report = explore(
        Scenario(lambda: dict(state), guarded, nobody_waits),
        fidelity="await",
        cancel="user*",
        budget=20,
        seed=3,
    )

    assert report.conclusion is Conclusion.FOUND, report.text()


def test_errors_are_raised_at_waits_for_the_outside_and_nowhere_else() -> None:
    """A lock cannot fail; a query can."""

    async def use(pool: Pool, _: int) -> None:
        async with pool.busy:
            pool.lent += 1
            await external("query")
            pool.lent -= 1

    report = explore(
        Scenario(Pool, use, nothing_lent), errors=("OSError",), budget=60, seed=3
    )

    (fault,) = faults_of(report)
    assert isinstance(fault, Raise)
    assert report.witness is not None
    assert any("query" in line.code for line in report.witness.story if line.fault)


@pytest.mark.power
def test_timeout_may_come_before_the_answer_of_the_outside() -> None:
    """At fidelity await no answer is faster than every timeout."""

    async def impatient() -> None:
        async with asyncio.timeout(30):
            await external("slow query")

    report = explore(impatient, fidelity="await", budget=60, seed=1)

    assert report.conclusion is Conclusion.FOUND, report.text()
    assert report.witness is not None
    assert report.witness.failure.message.startswith("TimeoutError")
    assert faults_of(report) == ()


def test_answer_in_time_is_proven_where_the_timeout_is_caught() -> None:
    """The safe sibling meets both orders and holds in both."""
    outcomes = set()

    async def patient() -> None:
        try:
            async with asyncio.timeout(30):
                await external("slow query")
        except TimeoutError:
            outcomes.add("late")
        else:
            outcomes.add("in time")

    report = explore(patient, fidelity="await", budget=60, seed=1)

    assert report.conclusion is Conclusion.PROVEN, report.text()
    assert outcomes == {"late", "in time"}


async def _beat() -> None:
    while True:  # noqa: ASYNC110  # a heartbeat as services have them
        await asyncio.sleep(1)


async def _crossed(*, is_ordered: bool) -> None:
    first, second = asyncio.Lock(), asyncio.Lock()
    heart = asyncio.create_task(_beat(), name="heartbeat")

    async def take(one: asyncio.Lock, other: asyncio.Lock) -> None:
        async with one:
            await asyncio.sleep(0)
            async with other:
                pass

    locks = (first, second) if is_ordered else (second, first)
    await asyncio.gather(take(first, second), take(*locks))
    heart.cancel()


@pytest.mark.power
@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_heartbeat_does_not_hide_a_deadlock(fidelity: str) -> None:
    """A task that ticks for ever keeps no one alive; it is named."""

    async def crossed() -> None:
        await _crossed(is_ordered=False)

    report = explore(crossed, fidelity=fidelity, budget=60, seed=1)

    assert report.conclusion is Conclusion.FOUND, report.text()
    assert report.witness is not None
    failure = report.witness.failure
    assert failure.kind == "deadlock"
    assert "take[0] -> take[1] -> take[0]; only heartbeat can go" in failure.message
    assert report.witness.is_confirmed


@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_heartbeat_beside_ordered_locks_is_no_deadlock(fidelity: str) -> None:
    """The safe sibling of the crossed locks."""

    async def ordered() -> None:
        await _crossed(is_ordered=True)

    report = explore(ordered, fidelity=fidelity, budget=60, seed=1)

    assert report.conclusion in {Conclusion.PROVEN, Conclusion.SAMPLED}, report.text()


@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_main_that_waits_for_a_heartbeat_is_endless_and_no_deadlock(
    fidelity: str,
) -> None:
    """Whoever waits for a task without end is told that, not that it is stuck."""

    async def endless() -> None:
        event = asyncio.Event()
        await asyncio.gather(_beat(), event.wait())

    report = explore(endless, fidelity=fidelity, budget=60, seed=1, max_steps=2000)

    assert report.conclusion is Conclusion.INCONCLUSIVE, report.text()
    assert "did not end" in report.claim


def test_long_poll_that_ends_is_no_deadlock() -> None:
    """Somebody who wakes the others after 2,000 ticks is waited for."""

    async def patient() -> None:
        freed = asyncio.Event()

        async def reap() -> None:
            for _ in range(2000):
                await asyncio.sleep(1)
            freed.set()

        reaper = asyncio.create_task(reap())
        await freed.wait()
        await reaper

    report = explore(patient, fidelity="fifo", budget=60, seed=1, max_steps=1000)

    assert report.conclusion is not Conclusion.FOUND, report.text()


@pytest.mark.power
def test_invariant_that_raises_is_broken_in_the_words_of_its_error() -> None:
    """An invariant that looks up what is not there is no internal error."""

    async def forgetful() -> None:
        owners: dict[str, str] = {"a": "user"}
        invariant(lambda: owners["a"] == "user")
        await asyncio.sleep(0)
        del owners["a"]
        await asyncio.sleep(0)

    report = explore(forgetful, fidelity="await", budget=60, seed=1)

    assert report.conclusion is Conclusion.FOUND, report.text()
    assert report.witness is not None
    assert report.witness.failure.kind == "invariant"
    assert report.witness.failure.message == "KeyError: 'a'"


@pytest.mark.parametrize(
    ("value", "conclusion"),
    [
        (0, Conclusion.FOUND),
        ("", Conclusion.FOUND),
        (False, Conclusion.FOUND),
        (None, Conclusion.PROVEN),
        (1, Conclusion.PROVEN),
    ],
)
def test_invariant_that_returns_something_false_is_broken(
    value: object, conclusion: Conclusion
) -> None:
    """None is what a function without return says, and holds."""

    async def checked() -> None:
        invariant(lambda: value)
        await asyncio.sleep(0)

    assert explore(checked, budget=60, seed=1).conclusion is conclusion


def test_expiry_is_a_fault_of_its_own() -> None:
    """A caught timeout that forgets to clean up is found by letting it expire."""

    async def use(pool: Pool, _: int) -> None:
        pool.lent += 1
        try:
            async with asyncio.timeout(5):
                await asyncio.sleep(0.2)
        except TimeoutError:
            return
        pool.lent -= 1

    report = explore(
        Scenario(Pool, use, nothing_lent),
        fidelity="await",
        cancel="user*",
        budget=60,
        seed=3,
    )

    kinds = {type(fault) for fault in faults_of(report)}
    assert kinds <= {Cancel, Expire}


@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_error_in_a_sleep_that_is_due_is_no_error_of_the_loop(fidelity: str) -> None:
    """The timer of a sleep that failed may fire before its task goes on."""
    seen = []

    async def patient(_: dict[str, int], user: int) -> None:
        try:
            await asyncio.sleep(0.01)
        except ConnectionResetError:
            seen.append(user)

    report = explore(
        Scenario(dict[str, int], patient),
        errors=("ConnectionResetError",),
        fidelity=fidelity,
        budget=60,
        schedules=200,
        seed=1,
    )

    assert report.witness is None, report.text()
    assert set(seen) == {0, 1}


def test_pattern_that_names_no_task_proves_nothing() -> None:
    """A typing mistake in ``cancel`` is told, with the names that there are."""
    report = explore(
        Scenario(Pool, borrow_and_return), cancel="usr*", budget=60, seed=1
    )

    assert report.conclusion is Conclusion.INCONCLUSIVE
    assert "cancel='usr*' is the name of no task" in report.claim
    assert "user[0], user[1]" in report.claim


def test_brackets_of_a_pattern_stand_for_themselves() -> None:
    """``user[1]`` is a name, not a set of letters."""
    report = explore(
        Scenario(Pool, borrow, nothing_lent), cancel="user[1]", budget=60, seed=1
    )

    (fault,) = faults_of(report)
    assert fault == Cancel("user[1]", getattr(fault, "suspension", 0))


def test_failing_look_at_a_step_is_our_fault_and_no_finding() -> None:
    """What the explorer itself does wrong is never told as the program's error."""

    async def sound() -> None:
        await asyncio.sleep(0)

    def broken(_: int) -> None:
        raise ZeroDivisionError("in a hook")

    runner = Runner(sound, ExplorationLoop())

    with pytest.raises(InternalError, match="ZeroDivisionError: in a hook"):
        runner.run(Stock(), after=broken)
