"""Under the watch, asyncio's primitives are what they are without it."""

import asyncio
import gc
import importlib
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_framework.core import InternalError
from test_framework.detect.locks import DeadlockWatcher
from test_framework.detect.locks.imports import ImportWatch
from tests.unit.detect.locks import programs
from tests.unit.detect.locks.harness import alarms_of, put_away, settle


@pytest.fixture
def watcher() -> Iterator[DeadlockWatcher]:
    """Watch for the length of a test."""
    watcher = DeadlockWatcher()
    watcher.start()
    yield watcher
    watcher.stop()


def test_stop_takes_every_patch_back() -> None:
    """After stop, the classes of asyncio and the finders of imports are as before."""
    kinds = (asyncio.Lock, asyncio.Semaphore, asyncio.BoundedSemaphore, asyncio.Queue)
    before = [dict(vars(kind)) for kind in kinds]
    finders = list(sys.meta_path)
    watcher = DeadlockWatcher()

    watcher.start()
    during = [dict(vars(kind)) for kind in kinds]
    watcher.stop()

    assert during != before
    assert [dict(vars(kind)) for kind in kinds] == before
    assert sys.meta_path == finders


def test_second_start_is_refused(watcher: DeadlockWatcher) -> None:
    """A watcher that is on cannot be started."""
    with pytest.raises(InternalError, match="started twice"):
        watcher.start()


async def _turns(*, cancel: int) -> list[str]:
    """Return who had a lock in which order, when one of five waiters is cancelled."""
    lock, log = asyncio.Lock(), []

    async def work(name: str) -> None:
        try:
            async with lock:
                log.append(f"{name} in")
                await asyncio.sleep(0)
                log.append(f"{name} out")
        except asyncio.CancelledError:
            log.append(f"{name} cancelled")
            raise

    tasks = [asyncio.create_task(work(name)) for name in "abcde"]
    await asyncio.sleep(0)
    tasks[cancel].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return log


@pytest.mark.parametrize("cancel", range(5))
async def test_order_and_cancellation_stay(cancel: int) -> None:
    """Waiters get the lock in the same order, whoever of them is cancelled."""
    expected = await _turns(cancel=cancel)
    watcher = DeadlockWatcher()
    watcher.start()
    try:
        seen = await _turns(cancel=cancel)
    finally:
        watcher.stop()

    assert seen == expected
    assert watcher.alarms() == []


async def test_errors_stay(watcher: DeadlockWatcher) -> None:
    """A release too many raises what asyncio raises, and books nothing."""
    lock, permits = asyncio.Lock(), asyncio.BoundedSemaphore(1)

    with pytest.raises(RuntimeError, match="not acquired"):
        lock.release()
    with pytest.raises(ValueError, match="too many times"):
        permits.release()

    async with permits, lock:
        pass
    assert watcher.alarms() == []


async def test_subclass_keeps_its_own_acquire(watcher: DeadlockWatcher) -> None:
    """A subclass that acquires in its own way is used by ``async with``, and watched."""
    log = []

    class Logged(asyncio.Lock):
        async def acquire(self) -> bool:  # type: ignore[override]  # as asyncio does it
            log.append("acquire")
            return await super().acquire()

    first, second = Logged(), Logged()
    await asyncio.create_task(programs.use_both(first, second))
    await asyncio.create_task(programs.use_both(second, first))

    assert log == ["acquire"] * 4
    assert "lock-order-inversion" in [alarm.rule for alarm in watcher.alarms()]


def test_acquire_can_be_driven_by_hand(watcher: DeadlockWatcher) -> None:
    """Outside of any loop a free lock is acquired at once, and its release is no news."""
    lock = asyncio.Lock()

    with pytest.raises(StopIteration) as done:
        lock.acquire().send(None)
    lock.release()

    assert done.value.value is True
    assert watcher.alarms() == []


async def test_condition_outlives_the_watch() -> None:
    """A condition that bound patched methods works when the watch is over."""
    watcher = DeadlockWatcher()
    watcher.start()
    changed = asyncio.Condition()
    watcher.stop()

    async def notify() -> None:
        async with changed:
            changed.notify()

    async with changed:
        notifier = asyncio.create_task(notify())
        await changed.wait()
    await notifier

    assert not changed.locked()


async def test_lock_outlives_the_watch() -> None:
    """What an earlier watch saw of a lock is not held against a later one."""
    first, second = DeadlockWatcher(), DeadlockWatcher()
    first.start()
    lock = asyncio.Lock()
    await asyncio.create_task(_acquire(lock))
    first.stop()

    second.start()
    try:
        lock.release()
        async with lock:
            pass
    finally:
        second.stop()

    assert second.alarms() == []


async def test_lock_of_an_earlier_watch_is_watched_anew() -> None:
    """A hold that was never booked off hides no deadlock from a later watch."""
    first, second = DeadlockWatcher(), DeadlockWatcher()
    first.start()
    lock = asyncio.Lock()
    await asyncio.create_task(_acquire(lock))
    first.stop()
    lock.release()

    async def program() -> None:
        async with lock, lock:
            pass

    (alarm,) = await alarms_of(program, second)

    assert alarm.rule == "deadlock"
    assert "made before" not in str(alarm.evidence)


async def test_permit_of_an_earlier_watch_may_come_back() -> None:
    """Somebody unknown has a permit and may give it back: nobody waits for himself."""
    first, second = DeadlockWatcher(), DeadlockWatcher()
    first.start()
    permits = asyncio.Semaphore(2)
    await permits.acquire()
    first.stop()

    async def program() -> None:
        async with permits, permits:
            pass

    alarms = await alarms_of(program, second)

    assert [alarm.rule for alarm in alarms] == ["permit-nested"]


async def test_connection_is_booked_once(watcher: DeadlockWatcher) -> None:
    """A checkout that calls itself, as SQLAlchemy's does, is one hold."""
    watch = watcher._watch
    pool, connection = watch.enrol_pool("Pool", 2), object()

    with watch.asking(pool, is_full=True) as got:
        with watch.asking(pool, is_full=False) as got_inside:
            got_inside(connection)
        got(connection)
    held = list(pool.holders)
    watch.given_back(pool, connection)

    assert len(held) == 1
    assert pool.holders == []
    assert watch.ledger.held_by == {}


async def _acquire(lock: asyncio.Lock) -> None:
    await lock.acquire()


async def test_lock_made_before_the_watch_is_watched() -> None:
    """Locks of modules that were imported earlier are seen taken crosswise."""
    one, two = asyncio.Lock(), asyncio.Lock()

    async def program() -> None:
        await asyncio.create_task(programs.use_both(one, two))
        await asyncio.create_task(programs.use_both(two, one))

    (alarm,) = await alarms_of(program)

    assert alarm.rule == "lock-order-inversion"
    assert "made before the watch began" in alarm.claim


async def test_lock_is_collected(watcher: DeadlockWatcher) -> None:
    """The watch keeps no lock alive, and no task that has given its locks back."""
    lock, other = asyncio.Lock(), asyncio.Lock()
    task = asyncio.create_task(programs.use_both(lock, other))
    await task
    gone: list[weakref.ref[object]] = [weakref.ref(lock), weakref.ref(task)]

    del lock, task
    await asyncio.sleep(0)
    gc.collect()

    assert [reference() for reference in gone] == [None, None]
    assert watcher.alarms() == []


async def test_queue_keeps_no_task_alive(watcher: DeadlockWatcher) -> None:
    """A pool's queue lives for years; who once took from it is collected."""
    queue: asyncio.Queue[int] = asyncio.Queue()
    task = asyncio.create_task(queue.put(1))
    await task
    gone = weakref.ref(task)

    del task
    await asyncio.sleep(0)
    gc.collect()

    assert gone() is None
    assert queue.get_nowait() == 1
    assert watcher.alarms() == []


async def test_wait_for_gives_up_as_ever(watcher: DeadlockWatcher) -> None:
    """A timeout ends a wait, and the lock goes to the next in line."""
    lock = asyncio.Lock()
    async with lock:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lock_again(lock), 0)
    async with lock:
        pass

    assert [alarm.level for alarm in watcher.alarms()] == []


async def lock_again(lock: asyncio.Lock) -> None:
    """Take a lock."""
    async with lock:
        pass


def test_uvloop_is_watched() -> None:
    """Deadlocks are seen on uvloop, and the coverage says what it does not tell."""
    uvloop = pytest.importorskip("uvloop")
    watcher = DeadlockWatcher()

    async def main() -> None:
        tasks = {
            asyncio.create_task(programs.child_grouped_under_lock()),
            asyncio.create_task(programs.event_never_set()),
        }
        await settle()
        rules.extend((alarm.rule, alarm.level) for alarm in watcher.alarms())
        await put_away({*tasks, *asyncio.all_tasks()} - {asyncio.current_task()})

    rules: list[tuple[str, str]] = []
    watcher.start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    finally:
        watcher.stop()

    assert rules == [("deadlock", "error")]
    assert any("uvloop" in sentence for sentence in watcher.coverage().unwatched)


@pytest.mark.parametrize("is_early", [True, False])
def test_module_is_patched_once_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_early: bool
) -> None:
    """A callback comes once the module has run, whether imported before or after."""
    name = f"patched_when_{'early' if is_early else 'late'}"
    (tmp_path / f"{name}.py").write_text("value = 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    seen: list[object] = []
    watch = ImportWatch({name: seen.append, "never_imported": seen.append})
    if is_early:
        importlib.import_module(name)

    watch.install()
    try:
        module = importlib.import_module(name)
        importlib.reload(module)
    finally:
        watch.remove()

    assert seen == [module]
    assert module.value == 1
