"""What an alarm says, how sure it is, and from when on."""

import asyncio
import contextlib
import sysconfig
from typing import Any

import pytest

from test_framework.core import AlarmRecord, UsageError
from test_framework.detect import operation_scope
from test_framework.detect.locks import DeadlockWatcher, ordered
from tests.unit.detect.locks import programs
from tests.unit.detect.locks.harness import Program, alarms_of

FILE = "tests/unit/detect/locks/programs.py"


def _line(alarm: AlarmRecord, text: str) -> str:
    (line,) = [line for line in alarm.evidence if text in line]
    return line


async def test_deadlock_names_every_party() -> None:
    """Each task is told with what it holds since where, and where it stands."""

    async def program() -> None:
        accounts, orders = asyncio.Lock(), asyncio.Lock()
        both = (
            asyncio.create_task(programs.use_both(accounts, orders), name="alice"),
            asyncio.create_task(programs.use_both(orders, accounts), name="bob"),
        )
        await asyncio.gather(*both)

    (alarm,) = await alarms_of(program)

    assert alarm.claim == (
        "task 'bob' and task 'alice' wait for each other and never go on"
    )
    assert alarm.site.startswith(f"{FILE}:")
    for name in ("alice", "bob"):
        line = _line(alarm, f"task '{name}' holds Lock #")
        assert f"since {FILE}:" in line
        assert "and waits for Lock #" in line
    assert sum("in use_both: async with second:" in it for it in alarm.evidence) == 2


async def use_stacked(first: asyncio.Lock, second: asyncio.Lock) -> None:
    """Hold two locks by way of a stack of contexts."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(first)
        await asyncio.sleep(0)
        await stack.enter_async_context(second)


@pytest.mark.parametrize("are_met", [True, False], ids=["deadlock", "inversion"])
async def test_locks_on_a_stack_are_told_at_the_line_that_puts_them_there(
    are_met: bool,  # noqa: FBT001  # a case
) -> None:
    """The line of ``contextlib`` would be the same for all locks of a program."""

    async def program() -> None:
        accounts, orders = asyncio.Lock(), asyncio.Lock()
        if are_met:
            await asyncio.gather(
                use_stacked(accounts, orders), use_stacked(orders, accounts)
            )
        await asyncio.create_task(use_stacked(accounts, orders))
        await asyncio.create_task(use_stacked(orders, accounts))

    (alarm,) = await alarms_of(program)

    assert alarm.rule == ("deadlock" if are_met else "lock-order-inversion")
    assert alarm.site.startswith("tests/unit/detect/locks/test_lock_alarms.py:")
    assert "contextlib.py" not in "".join((alarm.claim, *alarm.evidence))


async def test_deadlock_names_its_requests() -> None:
    """The operations of the audit that are stuck are told, for the audit to name users."""

    async def program() -> None:
        accounts, orders = asyncio.Lock(), asyncio.Lock()
        with operation_scope(7):
            first = asyncio.create_task(programs.use_both(accounts, orders))
        with operation_scope(9):
            second = asyncio.create_task(programs.use_both(orders, accounts))
        await asyncio.gather(first, second)

    (alarm,) = await alarms_of(program)

    assert sorted(alarm.operations) == [7, 9]
    assert alarm.claim.startswith(
        ("request 7 and request 9", "request 9 and request 7")
    )
    assert sum(line.startswith("request 7 holds Lock") for line in alarm.evidence) == 1


async def test_tasks_of_one_request_are_told_apart() -> None:
    """Two tasks of one request go by what they run as well."""
    with operation_scope(7):
        (alarm,) = await alarms_of(programs.child_awaited_under_lock)

    assert "request 7 in take and request 7 in ended wait" in alarm.claim


async def test_deadlock_under_a_timeout_says_when_it_ends() -> None:
    """Tasks go on once a timeout ends the wait of one; a test is not ended before."""
    watcher = DeadlockWatcher()
    stuck: list[bool] = []

    async def with_timeout(first: asyncio.Lock, second: asyncio.Lock) -> None:
        async with first:
            await asyncio.sleep(0)
            async with asyncio.timeout(3600), second:
                pass

    async def program() -> None:
        one, two = asyncio.Lock(), asyncio.Lock()
        both = asyncio.gather(with_timeout(one, two), programs.use_both(two, one))
        for _ in range(9):
            await asyncio.sleep(0)
        stuck.append(watcher.is_stuck())
        await both

    (alarm,) = await alarms_of(program, watcher)

    assert stuck == [False]
    assert alarm.claim.endswith("until a timeout of 3600.0 s ends it")


async def test_deadlock_without_a_timeout_is_stuck() -> None:
    """Timeouts of others count for nothing: that around a whole test may be long."""
    watcher = DeadlockWatcher()
    stuck: list[bool] = []

    async def patient() -> None:
        async with asyncio.timeout(3600):
            await asyncio.Event().wait()

    async def program() -> None:
        both = asyncio.gather(programs.crosswise_at_once(), patient())
        for _ in range(9):
            await asyncio.sleep(0)
        stuck.append(watcher.is_stuck())
        async with asyncio.timeout(3600):
            await both

    (alarm,) = await alarms_of(program, watcher)

    assert stuck == [True]
    assert alarm.claim.endswith("and never go on")


_LIBRARY = """
async def checkout(lock):
    async with lock:
        pass

async def middleware(endpoint, lock):
    await endpoint(checkout, lock)
"""


async def test_lines_are_those_of_the_service() -> None:
    """Of packages around the service nothing is told but the innermost line."""
    file = f"{sysconfig.get_path('purelib')}/somebody/pool.py"
    library: dict[str, Any] = {}
    exec(compile(_LIBRARY, file, "exec"), library)  # noqa: S102  # the file is the point

    async def endpoint(checkout: Any, lock: asyncio.Lock) -> None:  # noqa: ANN401  # a function of the library
        async with lock:
            await checkout(lock)

    async def program() -> None:
        await library["middleware"](endpoint, asyncio.Lock())

    (alarm,) = await alarms_of(program)

    assert alarm.site.startswith("tests/unit/detect/locks/test_lock_alarms.py:")
    assert f"at {alarm.site}" in alarm.evidence[0]
    lines = [line.strip() for line in alarm.evidence[1:]]
    assert not [line for line in lines if "in middleware" in line]
    assert [line for line in lines if "somebody/pool.py" in line] == lines[-1:]
    assert "await checkout(lock)" in lines[-2]


async def test_a_crowd_is_told_in_few_lines() -> None:
    """Of many tasks in one deadlock six are told, the deepest with few lines."""

    async def deep(permits: asyncio.Semaphore, levels: int) -> None:
        if levels:
            await deep(permits, levels - 1)
        else:
            await programs.nest_permits(permits)

    async def program() -> None:
        permits = asyncio.Semaphore(20)
        await asyncio.gather(*(deep(permits, 30) for _ in range(20)))

    alarms = await alarms_of(program)

    (alarm,) = [alarm for alarm in alarms if alarm.rule == "deadlock"]
    assert sum("holds Semaphore" in line for line in alarm.evidence) == 6
    assert alarm.evidence[-1] == "and 14 more tasks"
    assert len(alarm.evidence) <= 6 * 12


async def test_one_cause_is_one_alarm() -> None:
    """Many requests through the same lines are counted, not repeated."""

    async def program() -> None:
        for _ in range(5):
            await programs.permits_nested_alone()

    (alarm,) = await alarms_of(program)

    assert alarm.count == 5


async def test_lock_given_up_in_time_is_a_warning() -> None:
    """Tasks that give up soon and go on try their luck on purpose: no error."""

    async def try_both(first: asyncio.Lock, second: asyncio.Lock) -> None:
        async with first:
            await asyncio.sleep(0)
            try:
                async with asyncio.timeout(0):
                    await second.acquire()
            except TimeoutError:
                return
            second.release()

    async def program() -> None:
        one, two = asyncio.Lock(), asyncio.Lock()
        await asyncio.gather(try_both(one, two), try_both(two, one))

    alarms = await alarms_of(program)

    assert {alarm.level for alarm in alarms} == {"warning"}
    assert "was cancelled after 0.0 s" in str(alarms)


async def test_deadlock_that_was_cancelled_whole_is_an_error() -> None:
    """A test that gives up its stuck tasks has still seen a deadlock."""
    watcher = DeadlockWatcher()
    watcher.start()
    try:
        program = asyncio.gather(programs.crosswise_at_once(), return_exceptions=True)
        for _ in range(9):
            await asyncio.sleep(0)
        program.cancel()
        await asyncio.gather(program, return_exceptions=True)
        for _ in range(9):
            await asyncio.sleep(0)
    finally:
        watcher.stop()

    assert [(it.rule, it.level) for it in watcher.alarms()] == [("deadlock", "error")]


async def _held_across_an_await() -> None:
    lock = asyncio.Lock()

    async def work() -> None:
        async with lock:
            await _answer_of_a_model()

    await asyncio.gather(work(), work())


async def _awaited_before_the_lock() -> None:
    lock = asyncio.Lock()

    async def work() -> None:
        await _answer_of_a_model()
        async with lock:
            pass

    await asyncio.gather(work(), work())


async def _answer_of_a_model() -> None:
    await asyncio.sleep(0.001)


async def test_lock_held_across_a_slow_await_is_told() -> None:
    """A waiter that waits too long names the await of the holder."""

    async def program() -> None:
        await _held_across_an_await()

    watcher = DeadlockWatcher(slow_wait_s=0)
    watcher.start()
    try:
        await program()
    finally:
        watcher.stop()
    (alarm,) = [it for it in watcher.alarms() if it.rule == "lock-held-across-await"]

    assert alarm.level == "warning"
    assert "and stood at tests/unit/detect/locks/test_lock_alarms.py" in str(alarm)


@pytest.mark.parametrize(
    ("program", "slow_wait_s"),
    [(_awaited_before_the_lock, 0.0), (_held_across_an_await, 5.0)],
    ids=["awaited-before", "below-the-limit"],
)
async def test_brief_hold_is_quiet(program: Program, slow_wait_s: float) -> None:
    """A lock that is taken after the await, or waited for briefly, raises no alarm."""
    watcher = DeadlockWatcher(slow_wait_s=slow_wait_s)
    watcher.start()
    try:
        await program()
    finally:
        watcher.stop()

    assert watcher.alarms() == []


async def test_long_hold_without_waiters_is_a_note() -> None:
    """Who made nobody wait is noted with the lines of acquire and release."""

    async def program() -> None:
        await programs.take(asyncio.Lock())

    (alarm,) = await alarms_of(program, DeadlockWatcher(slow_hold_s=0))

    assert (alarm.rule, alarm.level) == ("lock-held-across-await", "note")


class _Account:
    def __init__(self, number: int) -> None:
        self.lock = ordered(asyncio.Lock(), number)


class _Room:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()


async def _rooms_in_order() -> None:
    one, two = _Room(), _Room()
    await programs.use_both(one.lock, two.lock)
    await programs.use_both(one.lock, two.lock)


async def test_nested_locks_of_one_class_are_a_note() -> None:
    """Nothing says in which order two rooms are locked: a note with the line to declare."""
    (alarm,) = await alarms_of(_rooms_in_order)

    assert (alarm.rule, alarm.level) == ("lock-order-undeclared", "note")
    assert "sorted_classes" in alarm.fix


async def test_class_declared_sorted_is_quiet() -> None:
    """The line that the note names, given as sorted, silences it and nothing else."""
    (note,) = await alarms_of(_rooms_in_order)
    line = note.claim.partition("made at ")[2].partition(")")[0]

    async def crosswise() -> None:
        one, two = _Room(), _Room()
        await asyncio.create_task(programs.use_both(one.lock, two.lock))
        await asyncio.create_task(programs.use_both(two.lock, one.lock))

    declared = DeadlockWatcher(sorted_classes=[line])
    assert await alarms_of(_rooms_in_order, declared) == []
    rules = [alarm.rule for alarm in await alarms_of(crosswise, declared)]
    assert rules == ["lock-order-inversion"]


async def test_rank_against_the_order_is_told_at_once() -> None:
    """Ranked locks are quiet upwards, and a warning the first time downwards."""

    async def upwards() -> None:
        await programs.use_both(_Account(1).lock, _Account(2).lock)

    async def downwards() -> None:
        await programs.use_both(_Account(2).lock, _Account(1).lock)

    assert await alarms_of(upwards) == []
    (alarm,) = await alarms_of(downwards)
    assert (alarm.rule, alarm.level) == ("lock-order-inversion", "warning")
    assert "rank 1" in alarm.claim


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slow_wait_s": -1.0}, "slow_wait_s=-1.0: expected seconds"),
        ({"sorted_classes": ["rooms"]}, "'rooms' is not the line"),
    ],
)
def test_wrong_option_is_refused(options: dict[str, object], message: str) -> None:
    """A limit that means nothing is refused with what was expected."""
    with pytest.raises(UsageError, match=message):
        DeadlockWatcher(**options)  # type: ignore[arg-type]  # wrong on purpose
