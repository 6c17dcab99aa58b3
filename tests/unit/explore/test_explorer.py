"""explore(): finds what is there, proves small cases, and says no more than it knows."""

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from test_framework.core import UsageError
from test_framework.explore import (
    Cancel,
    Conclusion,
    Fidelity,
    Progress,
    Raise,
    Report,
    Scenario,
    Schedule,
    Segment,
    as_test,
    explore,
    external,
    invariant,
    load_scenario,
    replay,
)


class Counter:
    """A shared counter with two locks."""

    def __init__(self) -> None:
        self.value = 0
        self.first, self.second = asyncio.Lock(), asyncio.Lock()


async def add_late(state: Counter, user: int) -> None:
    """Add one; user 1 comes so late that plain asyncio never overlaps the two."""
    for _ in range(user * 8):
        await asyncio.sleep(0)
    value = state.value
    await asyncio.sleep(0)
    state.value = value + 1


async def add_locked(state: Counter, user: int) -> None:  # noqa: ARG001  # a user like any other
    """Add one under a lock."""
    async with state.first:
        value = state.value
        await asyncio.sleep(0)
        state.value = value + 1


async def lock_both(state: Counter, user: int) -> None:
    """Take both locks, in an order that depends on the user."""
    order = [state.first, state.second]
    if user:
        order.reverse()
        for _ in range(6):
            await asyncio.sleep(0)
    async with order[0]:
        await asyncio.sleep(0)
        async with order[1]:
            state.value += 1


def two(state: Counter) -> None:
    """Both users were counted."""
    assert state.value == 2


LOST = Scenario(Counter, add_late, two)
LOCKED = Scenario(Counter, add_locked, two)
CROSSED = Scenario(Counter, lock_both, two)


def found(report: Report) -> Report:
    """Require a finding and that its schedule repeats it."""
    assert report.conclusion is Conclusion.FOUND, report.text()
    assert report.witness is not None
    return report


@pytest.mark.power
def test_lost_update_is_found_and_shrunk_to_one_switch() -> None:
    """An update that plain asyncio never loses is lost by one preemption."""
    report = found(explore(LOST, fidelity="await", budget=60, seed=1))

    witness = report.witness
    assert witness is not None
    assert witness.failure.kind == "assertion"
    assert witness.schedule.switches <= 1
    assert witness.shrink_runs <= 60
    assert report.schedules <= 60


@pytest.mark.power
@pytest.mark.parametrize("users", [2, 3, 9])
def test_witness_has_no_more_users_than_the_bug_needs(users: int) -> None:
    """Two of nine lose an update; the others are dropped."""

    async def add(state: Counter, _: int) -> None:
        value = state.value
        await external("query")
        assert state.value == value
        state.value = value + 1

    report = found(explore(Scenario(Counter, add, users=users), seed=1))

    witness = report.witness
    assert witness is not None
    assert witness.users == witness.schedule.users == 2
    assert {line.task for line in witness.story} <= {"main", "user[0]", "user[1]"}
    outcome = replay(Scenario(Counter, add, users=users), witness.schedule)
    assert outcome.failure == witness.failure


@pytest.mark.power
def test_users_that_differ_by_number_keep_their_numbers() -> None:
    """Users 0 to 4 are needed where only number 4 does harm."""

    async def spoil(state: Counter, user: int) -> None:
        if user == 4:
            state.value = 1
            await external("query")
            state.value = 0
        elif user == 1:
            await external("query")
            assert state.value == 0

    report = found(explore(Scenario(Counter, spoil, users=9), seed=1))

    assert report.witness is not None
    assert report.witness.users == 5


@pytest.mark.power
def test_crossed_locks_are_found_with_their_holders() -> None:
    """A deadlock names both tasks, both locks, and the lines that hold them."""
    report = found(explore(CROSSED, fidelity="await", budget=60, seed=1))

    witness = report.witness
    assert witness is not None
    failure = witness.failure
    assert failure.kind == "deadlock"
    assert "user[0] -> user[1] -> user[0]" in failure.message
    holds = [line for line in failure.details if "held by user[" in line]
    assert len(holds) == 2
    assert all("test_explorer.py" in line for line in holds)


def test_locked_update_is_proven() -> None:
    """All orders of the safe twin are run, which is a proof."""
    report = explore(LOCKED, fidelity="await", budget=60, seed=1)

    assert report.conclusion is Conclusion.PROVEN
    assert "All 4 orders at fidelity await" in report.claim
    assert report.witness is None


def test_only_order_is_proven_with_a_hint() -> None:
    """A test that waits for nothing outside has one order, and is told the cure."""

    async def nothing_outside() -> None:
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))

    report = explore(nothing_outside, budget=60)

    assert report.conclusion is Conclusion.PROVEN
    assert "Only one order" in report.claim
    assert "fidelity='await'" in report.claim


def test_search_that_was_cut_off_is_only_sampled() -> None:
    """A budget that ends before the orders do never makes a proof."""

    async def many(_: Counter, user: int) -> None:  # noqa: ARG001  # alike
        for _step in range(20):
            await asyncio.sleep(0)

    report = explore(
        Scenario(Counter, many), users=5, fidelity="await", schedules=300, seed=1
    )

    assert report.conclusion is Conclusion.SAMPLED
    assert report.schedules == 300
    assert report.unseen_mass is not None
    assert report.unseen_mass > 0.5
    assert "no proof" in report.claim


@pytest.mark.power
def test_external_answers_race_even_in_fifo() -> None:
    """What waits for the world outside is reordered in the default fidelity."""

    async def add(state: Counter, user: int) -> None:  # noqa: ARG001  # alike
        value = state.value
        await external("SELECT")
        state.value = value + 1

    report = found(explore(Scenario(Counter, add, two), budget=60, seed=1))

    assert report.witness is not None
    assert report.witness.is_confirmed is True


@pytest.mark.power
def test_invariant_is_checked_in_the_middle_of_a_run() -> None:
    """A breach that is healed before the end is found at the step that makes it."""

    async def transfer(state: dict[str, int]) -> None:
        state["a"] -= 1
        await external("bank")
        state["b"] += 1

    async def move() -> None:
        state = {"a": 1, "b": 0}
        invariant(lambda: state["a"] + state["b"] == 1)
        await transfer(state)

    async def move_at_once() -> None:
        state = {"a": 1, "b": 0}
        invariant(lambda: state["a"] + state["b"] == 1)
        await external("bank")
        state["a"] -= 1
        state["b"] += 1

    assert found(explore(move, budget=60)).witness.failure.kind == "invariant"  # type: ignore[union-attr]  # found() checks it
    assert explore(move_at_once, budget=60).conclusion is Conclusion.PROVEN


@pytest.mark.power
def test_lost_exception_is_found() -> None:
    """An exception of a task that nobody awaits is a finding with its line."""

    async def lose() -> None:
        async def fail() -> None:
            raise KeyError("lost")

        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        del task

    witness = found(explore(lose, budget=60)).witness

    assert witness is not None
    assert witness.failure.kind == "lost-exception"
    assert "fail[0] raised KeyError" in witness.failure.message


@pytest.mark.power
def test_task_left_over_in_some_orders_is_found() -> None:
    """A task that only some orders leave behind is a finding; a usual one is not."""

    async def sometimes() -> None:
        done = asyncio.Event()
        first = asyncio.create_task(asyncio.to_thread(done.set))
        watcher = asyncio.create_task(done.wait(), name="watcher")
        await external("answer")
        if done.is_set():
            first.cancel()
            watcher = asyncio.create_task(asyncio.Event().wait(), name="stuck")
        del watcher

    async def always() -> None:
        asyncio.get_running_loop().keep = asyncio.create_task(  # type: ignore[attr-defined]  # a place to keep it
            asyncio.Event().wait()
        )
        await external("answer")

    witness = found(explore(sometimes, budget=60, seed=1)).witness
    assert witness is not None
    assert witness.failure.kind == "task-left"
    assert explore(always, budget=60).conclusion is Conclusion.PROVEN


class Connection:
    """A shared connection: one request, one reply, in order."""

    def __init__(self, *, drops_when_cancelled: bool) -> None:
        self.replies: asyncio.Queue[int] = asyncio.Queue()
        self.lock = asyncio.Lock()
        self.crossed: list[tuple[int, int]] = []
        self._drops = drops_when_cancelled

    async def ask(self, user: int) -> int:
        """Send, then read the reply that comes next."""
        async with self.lock:
            await external("send")
            self.replies.put_nowait(user)
            try:
                await external("receive")
            except asyncio.CancelledError:
                if self._drops:
                    self.replies = asyncio.Queue()
                raise
            return await self.replies.get()


async def asks(connection: Connection, user: int) -> None:
    """Ask as a user and note a foreign reply."""
    reply = await connection.ask(user)
    if reply != user:
        connection.crossed.append((user, reply))


def uncrossed(connection: Connection) -> None:
    """Nobody got another user's reply."""
    assert connection.crossed == []


@pytest.mark.power
def test_unread_reply_is_found_by_cancellation_only() -> None:
    """The ChatGPT defect: found by cancelling the reader, invisible without."""
    leaky = Scenario(
        lambda: Connection(drops_when_cancelled=False), asks, uncrossed, users=3
    )
    sound = Scenario(
        lambda: Connection(drops_when_cancelled=True), asks, uncrossed, users=3
    )

    witness = found(explore(leaky, cancel="user*", budget=60, seed=1)).witness
    assert witness is not None
    assert [type(fault) for fault in witness.schedule.faults] == [Cancel]
    assert witness.is_confirmed is True
    assert explore(leaky, budget=0.2, seed=1).conclusion is not Conclusion.FOUND
    assert (
        explore(sound, cancel="user*", budget=0.3, seed=1).conclusion
        is not Conclusion.FOUND
    )


@pytest.mark.power
def test_injected_error_finds_what_is_not_undone() -> None:
    """An error of the world outside leaves a flag set; the safe twin resets it."""

    def scenario(*, is_safe: bool) -> Scenario[dict[str, bool]]:
        async def work(state: dict[str, bool], user: int) -> None:  # noqa: ARG001  # alike
            state["busy"] = True
            try:
                await external("work")
            except OSError:
                if is_safe:
                    state["busy"] = False
                return
            state["busy"] = False

        def idle(state: dict[str, bool]) -> None:
            assert not state["busy"]

        return Scenario(lambda: {"busy": False}, work, idle, users=1)

    witness = found(
        explore(scenario(is_safe=False), errors=("OSError",), budget=60)
    ).witness
    assert witness is not None
    assert [type(fault) for fault in witness.schedule.faults] == [Raise]
    safe = explore(scenario(is_safe=True), errors=("OSError",), budget=60)
    assert safe.conclusion is Conclusion.PROVEN


@pytest.mark.power
def test_timeout_at_any_point_finds_what_is_kept() -> None:
    """A timeout that fires in the middle leaves a slot taken; the safe twin frees it."""

    def scenario(*, is_safe: bool) -> Scenario[list[int]]:
        async def take(slots: list[int], user: int) -> None:
            try:
                async with asyncio.timeout(5):
                    slots.append(user)
                    try:
                        await external("work")
                    finally:
                        if is_safe:
                            slots.remove(user)
                    if not is_safe:
                        slots.remove(user)
            except TimeoutError:
                pass

        def free(slots: list[int]) -> None:
            assert slots == []

        return Scenario(list, take, free, users=1)

    # External answers may take longer than any timeout, so fifo reaches it by itself;
    # await lets timeouts fire as faults only.
    wrong, right = scenario(is_safe=False), scenario(is_safe=True)
    found(explore(wrong, cancel=True, fidelity="await", budget=60, seed=1))
    assert explore(right, cancel=True, budget=60).conclusion is not Conclusion.FOUND


async def test_lost_update() -> None:
    """A scenario of its own, found by name in this file; passes as a plain test."""
    state = Counter()
    await asyncio.gather(add_late(state, 0), add_late(state, 1))
    two(state)


def test_witness_replays_by_token_text_and_file() -> None:
    """Token and text of a witness fail in the same way when followed."""
    report = found(explore(test_lost_update, fidelity="await", budget=60, seed=1))
    witness = report.witness
    assert witness is not None

    for form in (witness.schedule, witness.schedule.token(), witness.schedule.text()):
        outcome = replay(test_lost_update, form)

        assert outcome.failure is not None
        assert outcome.failure.identity == witness.failure.identity
        assert outcome.parted is None


def test_stale_schedule_says_where_it_parted() -> None:
    """A schedule of a program that changed is followed as far as it goes."""
    stale = Schedule(Fidelity.AWAIT, (Segment("main", 1), Segment("gone[3]", 2)))

    outcome = replay(test_lost_update, stale)

    assert outcome.failure is None
    assert outcome.parted == 1
    assert "its entry 2 (gone[3] 2)" in outcome.text()


def test_as_test_fails_while_the_bug_is_there(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The written test is red with the bug and green without it."""
    source = Path(__file__).read_text(encoding="utf-8")
    (pytester.path / "test_subject.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(pytester.path)
    scenario = load_scenario("test_subject.py::test_lost_update")
    witness = found(explore(scenario, fidelity="await", budget=60, seed=1)).witness
    assert witness is not None
    text = as_test(witness.schedule, witness.failure)
    (pytester.path / "test_regression.py").write_text(text, encoding="utf-8")

    red = pytester.runpytest_subprocess("test_regression.py", "-p", "no:cacheprovider")
    red.assert_outcomes(failed=1)

    mended = source.replace(
        "    value = state.value\n    await asyncio.sleep(0)\n    state.value = value + 1",
        "    state.value += 1",
        1,
    )
    (pytester.path / "test_subject.py").write_text(mended, encoding="utf-8")
    green = pytester.runpytest_subprocess(
        "test_regression.py", "-p", "no:cacheprovider"
    )
    green.assert_outcomes(passed=1)


# -- what a scenario must not do ---------------------------------------------------


async def spins() -> None:
    """Never ends."""
    while True:  # noqa: ASYNC110  # the mistake under test
        await asyncio.sleep(0)


async def sleeps() -> None:
    """Stops every user."""
    time.sleep(0.01)  # noqa: ASYNC251, TID251  # the mistake under test


async def starts_a_thread() -> None:
    """Starts what no scheduler rules."""
    threading.Thread(target=print).start()


async def is_random() -> None:
    """Takes another number of steps in every run."""
    for _ in range(1 + random.randrange(1 << 60) % 1_000):
        await asyncio.sleep(0)


async def blocks() -> None:
    """Never gives up control."""
    while True:
        pass


async def connects() -> None:
    """Talks to a real server, and would not even notice the refusal."""
    try:
        await asyncio.open_connection("localhost", 6379)
    except Exception:  # noqa: BLE001  # the mistake under test
        return


async def wants_a_fixture(pool: object) -> None:
    """Has an argument that nobody fills in."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedules": 0}, r"schedules=0: expected a whole number of 1 or more"),
        ({"schedules": -3}, r"schedules=-3"),
        ({"max_steps": 0}, r"max_steps=0"),
        ({"budget": 0}, r"budget=0: expected a positive length of time"),
        (
            {"fidelity": "strict"},
            r"fidelity='strict': expected one of fifo, await, any",
        ),
        ({"users": 2}, r"users=2 was given with a plain test"),
    ],
)
def test_wrong_option_is_refused_with_what_was_expected(
    options: dict[str, Any], message: str
) -> None:
    """A number of runs that is none cannot prove anything."""

    async def scenario() -> None:
        await asyncio.sleep(0)

    with pytest.raises(UsageError, match=message):
        explore(scenario, **options)


def test_scenario_with_arguments_is_refused() -> None:
    """The message names the argument and where fixtures are filled in."""
    with pytest.raises(UsageError, match=r"takes pool: .*@pytest.mark.explore"):
        explore(wants_a_fixture)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.power
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("join", "main waits for the work of Queue queue"),
        ("group", "main waits for stuck[0]"),
        ("wait", "main waits for stuck[0]"),
        ("wait_for", "main waits for stuck[0]"),
        ("barrier", "stuck[0] waits at Barrier barrier"),
    ],
)
def test_wait_is_told_by_what_the_program_called(kind: str, words: str) -> None:
    """Not by the Event inside of a queue, nor by the future inside of a group."""

    async def program() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()
        barrier = asyncio.Barrier(2)
        queue.put_nowait(1)

        async def stuck() -> None:
            await barrier.wait()

        match kind:
            case "join":
                await queue.join()
            case "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(stuck())
            case "wait":
                await asyncio.wait([asyncio.create_task(stuck())])
            case "wait_for":
                await asyncio.wait_for(asyncio.create_task(stuck()), None)
            case _:
                await stuck_alone(stuck)

    async def stuck_alone(stuck: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await asyncio.create_task(stuck())

    failure = found(explore(program, budget=60, seed=1)).witness
    assert failure is not None
    assert any(words in line for line in failure.failure.details), failure.failure


@pytest.mark.parametrize(
    ("scenario", "line", "cure"),
    [
        (connects, "await asyncio.open_connection", "Stand external() in for it"),
        (spins, "await asyncio.sleep(0)", "Let the scenario end"),
        (sleeps, "time.sleep(0.01)", "Await asyncio.sleep"),
        (starts_a_thread, "threading.Thread(target=print).start()", "to_thread"),
        (is_random, "random.randrange", "seeded random.Random"),
        pytest.param(blocks, "while True:", "Await something", marks=pytest.mark.slow),
    ],
)
def test_misuse_gets_its_line_and_a_cure(
    scenario: object, line: str, cure: str
) -> None:
    """No verdict, no hang: one sentence with the line and what to do."""
    report = explore(scenario, budget=60, max_steps=2_000)  # type: ignore[arg-type]  # async functions

    assert report.conclusion is Conclusion.INCONCLUSIVE
    assert report.witness is None
    assert "test_explorer.py:" in report.claim
    assert cure in report.claim
    number = int(report.claim.partition("test_explorer.py:")[2].split()[0].strip(".:"))
    near = (
        Path(__file__).read_text(encoding="utf-8").splitlines()[number - 2 : number + 1]
    )
    assert any(line in one for one in near)


def test_failure_that_does_not_repeat_is_no_finding() -> None:
    """A run that fails once and not again by its own schedule is inconclusive."""
    runs = []

    async def fails_in_its_fifth_run() -> None:
        runs.append(1)
        await asyncio.gather(external("a"), external("b"))
        assert len(runs) != 5

    report = explore(fails_in_its_fifth_run, budget=60, seed=1)

    assert report.conclusion is Conclusion.INCONCLUSIVE
    assert "did not repeat" in report.claim


def test_repetition_that_waits_nowhere_has_no_line() -> None:
    """Users that never wait leave no line at which their repetition could have been."""
    runs = []

    async def work(state: list[int], user: int) -> None:
        state.append(user)

    def check(_: list[int]) -> None:
        runs.append(1)
        assert len(runs) != 5

    report = explore(Scenario(list, work, check, users=2), budget=60, seed=1)

    assert report.conclusion is Conclusion.INCONCLUSIVE
    assert "ended without a wait at any line of the program" in report.claim


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget": "soon"}, "budget='soon'.*'500ms'"),
        ({"budget": 0}, "budget=0"),
        ({"fidelity": "best"}, "fidelity='best'.*fifo, await, any"),
        ({"users": 3}, "users=3 was given with a plain test"),
        ({"errors": ("NoSuchError",)}, "NoSuchError.*builtin"),
    ],
)
def test_wrong_option_gets_a_sentence(options: dict[str, object], words: str) -> None:
    """A wrong option is named with its value and what was expected."""
    with pytest.raises(UsageError, match=words):
        explore(test_lost_update, **options)  # type: ignore[arg-type]  # wrong on purpose


def test_scenario_of_the_wrong_colour_is_refused() -> None:
    """A user that is not async, or a check that is, would prove nothing."""

    def plain(_: Counter, user: int) -> None:
        del user

    async def never_awaited(_: Counter) -> None:
        raise AssertionError

    with pytest.raises(UsageError, match=r"user=.*plain.* is not async"):
        explore(Scenario(Counter, plain))  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(UsageError, match=r"check=.*never_awaited.* is async"):
        explore(Scenario(Counter, add_late, never_awaited))


def test_what_is_no_scenario_gets_a_sentence() -> None:
    """A plain function is refused."""
    with pytest.raises(UsageError, match="async function without arguments"):
        explore(print)  # type: ignore[arg-type]  # wrong on purpose


def test_progress_is_told_while_searching() -> None:
    """A long search says how far it is about twice a second."""
    told: list[Progress] = []

    async def many(_: Counter, user: int) -> None:  # noqa: ARG001  # alike
        for _step in range(9):
            await asyncio.sleep(0)

    explore(
        Scenario(Counter, many),
        users=4,
        fidelity="await",
        budget=0.8,
        progress=told.append,
    )

    assert told
    assert told[-1].schedules >= told[-1].distinct > 0
    assert 0 <= told[-1].left_s < 0.8


def test_seed_repeats_an_exploration() -> None:
    """The same seed finds the same witness after the same runs."""

    def once() -> tuple[int, str]:
        report = found(explore(LOST, fidelity="await", budget=60, seed=7))
        assert report.witness is not None
        return report.schedules, report.witness.schedule.text()

    assert once() == once()


@pytest.mark.parametrize("kind", [asyncio.Lock, asyncio.Semaphore, asyncio.Condition])
def test_lock_as_the_state_is_for_users_to_take(
    kind: Callable[[], asyncio.Lock],
) -> None:
    """A lock is a context manager too, and yet not what a setup is entered for."""

    async def use(lock: asyncio.Lock, _: int) -> None:
        async with lock:
            await external("work")

    report = explore(Scenario(kind, use), budget=60, seed=1)

    assert report.conclusion is Conclusion.PROVEN, report.text()


def test_state_whose_entry_returns_none_stays_the_state() -> None:
    """Users get the pool itself."""

    class Pool:
        is_open = False

        async def __aenter__(self) -> None:
            self.is_open = True

        async def __aexit__(self, *_: object) -> None:
            self.is_open = False

    async def use(pool: Pool, _: int) -> None:
        assert pool.is_open

    report = explore(Scenario(Pool, use), budget=60, seed=1)

    assert report.conclusion is Conclusion.PROVEN, report.text()


class Account:
    """Whose balance a check knows in advance."""

    def __init__(self) -> None:
        self.balance = 0
        self.lock = asyncio.Lock()


async def pay_in(account: Account, _: int) -> None:
    """Lose what others pay in meanwhile."""
    balance = account.balance
    await external("query")
    account.balance = balance + 10


async def pay_in_locked(account: Account, _: int) -> None:
    """The safe sibling."""
    async with account.lock:
        await pay_in(account, 0)


def all_paid(account: Account) -> None:
    """Three users paid."""
    assert account.balance == 30


@pytest.mark.power
def test_users_are_not_dropped_where_the_check_knows_how_many_there_are() -> None:
    """With one user the check fails by itself; that is another failure, not a smaller one."""
    report = found(explore(Scenario(Account, pay_in, all_paid, users=3), seed=1))

    assert report.witness is not None
    assert report.witness.users == 3
    mended = Scenario(Account, pay_in_locked, all_paid, users=3)
    assert replay(mended, report.witness.schedule).failure is None


@pytest.mark.power
def test_claim_says_how_many_users_are_enough() -> None:
    """Nine were asked for and two do harm."""

    async def check_out(state: Counter, _: int) -> None:
        value = state.value
        await external("query")
        assert state.value == value
        state.value += 1

    report = found(explore(Scenario(Counter, check_out, users=9), seed=1))

    assert "2 of 9 users are enough." in report.claim


@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_state_that_outlives_a_run_is_no_finding(fidelity: str) -> None:
    """A list of the module grows from run to run; the order has nothing to do with it."""
    rows: list[int] = []

    async def insert() -> None:
        rows.append(1)
        await asyncio.sleep(0)
        assert len(rows) == 1, len(rows)

    report = explore(insert, fidelity=fidelity, budget=60, seed=1)

    assert report.conclusion is Conclusion.INCONCLUSIVE
    assert "state outlives a run" in report.claim


@pytest.mark.power
def test_check_that_returns_false_is_a_finding() -> None:
    """A lambda cannot assert; what it says counts."""
    scenario = Scenario(Account, pay_in, lambda account: account.balance == 20)

    report = found(explore(scenario, seed=1))

    assert report.witness is not None
    assert report.witness.failure.message == "The check returned False."


@pytest.mark.power
def test_finding_of_another_fidelity_is_not_told_as_one_without_order() -> None:
    """Plain asyncio passes, so an order is needed, if the simplest one."""

    async def named() -> None:
        seen: list[str] = []

        async def visit(name: str) -> None:
            seen.append(name)
            await asyncio.sleep(0)
            seen.append(name)

        await asyncio.gather(visit("alice"), visit("bob"))
        assert seen != ["alice", "alice", "bob", "bob"]

    report = found(explore(named, fidelity="await", seed=1))

    assert "no particular order" not in report.claim
    assert "plain asyncio does not do" in report.claim


def test_proof_says_where_faults_ended_the_test_and_nothing_was_asked() -> None:
    """A plain gather ends with the cancellation; the lock that is lost is not seen."""
    lock_of_run: list[asyncio.Lock] = []

    async def careless() -> None:
        lock_of_run[:] = [asyncio.Lock()]

        async def hold() -> None:
            await lock_of_run[0].acquire()
            await external("work")
            lock_of_run[0].release()

        await asyncio.gather(hold(), hold())

    report = explore(careless, cancel="hold*", budget=60, seed=1)

    assert any("nothing was asked after that" in note for note in report.notes)


@pytest.mark.parametrize("fidelity", ["fifo", "await"])
@pytest.mark.parametrize("kind", ["plain", "async", "entered"])
def test_setup_that_raises_in_the_first_run_is_no_finding(
    kind: str, fidelity: str
) -> None:
    """A variable that is not set says nothing about orders; the line is told."""
    environ: dict[str, str] = {}

    def plain() -> str:
        return environ["REDIS_URL"]

    async def waiting() -> str:
        await asyncio.sleep(0)
        return environ["REDIS_URL"]

    @contextlib.asynccontextmanager
    async def entered() -> AsyncIterator[str]:
        yield environ["REDIS_URL"]

    async def use(url: str, user: int) -> None:
        pass

    setups: dict[str, Any] = {"plain": plain, "async": waiting, "entered": entered}

    report = explore(Scenario(setups[kind], use), fidelity=fidelity, seed=1)

    assert report.conclusion is Conclusion.INCONCLUSIVE, report.text()
    assert "setup failed: KeyError: 'REDIS_URL' at " in report.claim
    assert "test_explorer.py:" in report.claim


def test_what_comes_after_setup_is_a_finding() -> None:
    """The end of the context manager is where some look at the state."""

    @contextlib.asynccontextmanager
    async def entered() -> AsyncIterator[list[int]]:
        seen: list[int] = []
        yield seen
        assert not seen, "somebody came"

    async def come(seen: list[int], user: int) -> None:
        seen.append(user)

    report = found(explore(Scenario(entered, come), seed=1))

    assert report.witness is not None
    assert report.witness.failure.message == "somebody came"


def test_setup_that_raises_in_some_orders_is_found() -> None:
    """What only some orders break is a finding, wherever it happens."""

    async def racing() -> None:
        done: list[int] = []

        async def work(number: int) -> None:
            await external("work")
            done.append(number)

        await asyncio.gather(work(0), work(1))
        assert done == [0, 1], "the other order"

    async def use(nothing: None, user: int) -> None:
        pass

    found(explore(Scenario(racing, use), seed=1))
