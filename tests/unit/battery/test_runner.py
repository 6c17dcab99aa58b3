"""The runner loses nothing: no operation, no error, no worker that hangs."""

import asyncio
import os
import threading

import pytest

from test_framework.battery import (
    RaceRun,
    RaceTestConfig,
    RaceTestRunner,
    RefusedError,
    Worker,
    WorkerKind,
    common_checks,
)
from test_framework.core import UsageError, Verdict, merge
from tests.unit.battery import workers

KINDS: list[WorkerKind] = ["task", "thread", "process"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def verdict_of(run: RaceRun) -> Verdict:
    """Return what holds for every test."""
    return merge(check.verdict for check in common_checks(run))


@every_kind
async def test_every_operation_is_recorded(kind: WorkerKind) -> None:
    """Each worker takes each turn, at once with others, on one clock."""
    config = RaceTestConfig(workers=3, iterations=20, kind=kind)

    run = await RaceTestRunner(config).run(workers.meet)

    calls = run.calls()
    assert [len(journal) for journal in run.journals] == [20, 20, 20]
    assert {call.process for call in calls} == {0, 1, 2}
    assert all(call.completed and call.invoked < call.completed for call in calls)
    assert [call.index for call in calls] == list(range(60))
    assert run.overlap.peak == 3
    assert run.overlap.pairs == 1.0
    assert verdict_of(run) is Verdict.VALID


@every_kind
async def test_no_error_is_lost(kind: WorkerKind) -> None:
    """Each of 200 errors is there, with its worker, turn and traceback."""
    config = RaceTestConfig(workers=2, iterations=100, kind=kind)

    run = await RaceTestRunner(config).run(workers.fail_each_time)

    assert sorted(error.message for error in run.errors) == sorted(
        f"{worker}/{turn}" for worker in range(2) for turn in range(100)
    )
    assert all("fail_each_time" in error.trace for error in run.errors)
    assert verdict_of(run) is Verdict.INVALID


@every_kind
async def test_hang_ends_and_tells_where(kind: WorkerKind) -> None:
    """Workers that wait for ever are cut off, and what they did is kept."""
    config = RaceTestConfig(workers=2, kind=kind, quiet_s=0.3)

    run = await RaceTestRunner(config).run(workers.wait_for_ever)

    assert run.hang is not None
    assert [one.kind for one in run.hang.pending] == ["wait", "wait"]
    assert run.hang.abandoned == ()
    assert [call.kind for call in run.calls() if call.is_known] == ["meet"] * 2
    assert [call.kind for call in run.calls() if not call.is_known] == ["wait"] * 2
    # Of tasks it is seen that nobody is left to wake them.
    is_proved = kind == "task"
    assert verdict_of(run) is (Verdict.INVALID if is_proved else Verdict.UNKNOWN)


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_worker_that_blocks_tells_where(kind: WorkerKind) -> None:
    """A worker that no cancellation reaches is given up, and its line is named."""
    config = RaceTestConfig(workers=2, kind=kind, quiet_s=0.3)

    run = await RaceTestRunner(config).run(workers.block_for_ever)

    assert run.hang is not None
    assert [one.kind for one in run.hang.pending] == ["acquire", "acquire"]
    assert all("block_for_ever" in stack for stack in run.hang.stacks.values())
    assert len(run.hang.stacks) == 2


async def test_circle_of_waiting_is_a_deadlock() -> None:
    """Two workers that wait for each other's lock are told as a circle."""
    locks = asyncio.Lock(), asyncio.Lock()

    async def cross(worker: Worker[None]) -> None:
        first, second = locks if worker.index else locks[::-1]
        async with first:
            await asyncio.sleep(0.01)
            await worker.journal.call("acquire", second.acquire)

    config = RaceTestConfig(workers=2, iterations=1, quiet_s=0.3)
    run = await RaceTestRunner(config).run(cross)

    assert run.hang is not None
    found = [one for check in common_checks(run) for one in check.anomalies]
    assert [one.name for one in found] == ["deadlock"]
    assert "worker-0" in found[0].claim
    assert "worker-1" in found[0].claim


async def test_deadlock_detection_can_be_turned_off() -> None:
    """The same without the watcher is a hang and no more."""
    locks = asyncio.Lock(), asyncio.Lock()

    async def cross(worker: Worker[None]) -> None:
        first, second = locks if worker.index else locks[::-1]
        async with first:
            await asyncio.sleep(0.01)
            await worker.journal.call("acquire", second.acquire)

    config = RaceTestConfig(
        workers=2, iterations=1, quiet_s=0.3, detect_deadlocks=False
    )
    run = await RaceTestRunner(config).run(cross)

    assert verdict_of(run) is Verdict.UNKNOWN


async def test_run_without_overlap_proves_nothing() -> None:
    """Tasks that never give way run one after the other: that is no pass."""

    async def alone(worker: Worker[None]) -> None:
        await worker.journal.call("read", lambda: 1)

    run = await RaceTestRunner(RaceTestConfig(workers=4, iterations=50)).run(alone)

    assert run.overlap.peak == 1
    assert (run.overlap.share, run.overlap.pairs) == (0.0, 0.0)
    assert verdict_of(run) is Verdict.UNKNOWN


async def test_run_out_of_time_is_unknown() -> None:
    """Workers that go on and on are cut off at the timeout; nothing is proved."""
    config = RaceTestConfig(workers=2, iterations=10**9, timeout_s=0.2)

    run = await RaceTestRunner(config).run(workers.meet)

    assert run.hang is not None
    assert not run.hang.is_quiet
    assert verdict_of(run) is Verdict.UNKNOWN


async def test_process_that_dies_is_no_pass() -> None:
    """A crash loses a history; the run says so and proves nothing."""
    config = RaceTestConfig(workers=2, iterations=3, kind="process", timeout_s=10)

    run = await RaceTestRunner(config).run(workers.die)

    assert [error.type for error in run.errors] == ["ProcessDied"]
    assert "exit code 7" in run.errors[0].message
    assert verdict_of(run) is Verdict.UNKNOWN


async def test_processes_share_what_they_are_given() -> None:
    """Shared memory is shared: each worker sees the additions of the others."""
    config = RaceTestConfig(workers=2, iterations=50, kind="process")

    run = await RaceTestRunner(config).run(workers.add, workers.Counter())

    assert sorted(int(str(call.result)) for call in run.calls()) == [*range(1, 101)]


async def test_what_cannot_be_sent_is_a_usage_error() -> None:
    """A closure cannot reach a process; the error says what to do."""
    config = RaceTestConfig(workers=2, kind="process")

    with pytest.raises(UsageError, match="cannot be sent to a process"):
        await RaceTestRunner(config).run(lambda worker: worker.note(OSError()))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
@every_kind
async def test_workers_are_bound_to_their_cpus(kind: WorkerKind) -> None:
    """Each worker runs on the one CPU it was given, and ours are free again after."""
    before = os.sched_getaffinity(0)
    one = min(before)
    config = RaceTestConfig(workers=2, iterations=1, kind=kind, cpus=(one,))

    run = await RaceTestRunner(config).run(workers.tell_cpus)

    assert [call.result for call in run.calls()] == [(one,), (one,)]
    assert os.sched_getaffinity(0) == before


async def test_worker_that_cannot_connect_frees_the_others() -> None:
    """One failed connection ends the run at once, with its error."""

    class Refusing:
        def connect(self) -> None:
            raise ConnectionRefusedError("nobody listens")

    run = await RaceTestRunner(RaceTestConfig(workers=3)).run(workers.meet, Refusing())

    assert {error.type for error in run.errors} == {"ConnectionRefusedError"}
    assert run.turns == 0
    assert verdict_of(run) is Verdict.UNKNOWN


@pytest.mark.parametrize("kind", ["task", "thread"])
async def test_same_seed_makes_same_choices(kind: WorkerKind) -> None:
    """Workers draw the same numbers under one seed, and others under another."""
    drawn: dict[int, list[float]] = {}
    lock = threading.Lock()

    def draw(worker: Worker[None]) -> None:
        with lock:
            drawn.setdefault(worker.index, []).append(worker.rng.random())

    async def drawn_under(seed: int) -> dict[int, list[float]]:
        drawn.clear()
        config = RaceTestConfig(workers=2, iterations=3, seed=seed, kind=kind)
        await RaceTestRunner(config).run(draw)
        return dict(drawn)

    first = await drawn_under(1)
    assert first == await drawn_under(1)
    assert first != await drawn_under(2)
    assert first[0] != first[1]


async def test_cancelled_operation_is_of_unknown_outcome() -> None:
    """What was cancelled underway may have happened: it is neither done nor refused."""

    async def give_up(worker: Worker[None]) -> None:
        answer = await worker.call_cancelled("wait", asyncio.Event().wait)
        assert answer is None

    run = await RaceTestRunner(RaceTestConfig(workers=2, iterations=5)).run(give_up)

    assert run.errors == ()
    assert [call.is_known for call in run.calls()] == [False] * 10


@every_kind
async def test_no_worker_begins_before_all_are_ready(kind: WorkerKind) -> None:
    """They begin at one instant, however long one of them takes to connect."""
    config = RaceTestConfig(workers=3, iterations=1, kind=kind)

    run = await RaceTestRunner(config).run(workers.tell_ready, workers.SlowDoor())

    begun = [call.invoked for call in run.calls()]
    ready = [int(str(call.result)) for call in run.calls()]
    assert max(ready) <= min(begun)


@every_kind
async def test_workers_meet_in_the_middle(kind: WorkerKind) -> None:
    """No worker begins its next turn before all others have ended the one before."""
    config = RaceTestConfig(workers=3, iterations=5, kind=kind)

    run = await RaceTestRunner(config).run(workers.meet_then_sleep)

    turns = [journal.ended for journal in run.journals]
    for turn in range(4):
        ended = max(own[turn] for own in turns)
        assert ended <= min(journal.invoked[turn + 1] for journal in run.journals)


async def test_cut_off_history_leaves_nothing_out() -> None:
    """What a cut-off worker does later is not done, so no other sees what is not told."""
    done: list[int] = []

    async def go_on(worker: Worker[None]) -> None:
        try:
            await worker.journal.call("wait", asyncio.Event().wait)
        finally:
            await worker.journal.call("note", lambda: done.append(worker.index))

    config = RaceTestConfig(workers=2, iterations=1, quiet_s=0.2)
    run = await RaceTestRunner(config).run(go_on)

    assert done == []
    assert [call.kind for call in run.calls()] == ["wait", "wait"]


async def test_refused_operation_is_left_out() -> None:
    """What was refused for certain did not happen; it is counted and no error."""

    def refuse() -> None:
        raise RefusedError

    async def knock(worker: Worker[None]) -> None:
        await worker.journal.call("knock", refuse)

    run = await RaceTestRunner(RaceTestConfig(workers=2, iterations=3)).run(knock)

    assert run.calls() == []
    assert [journal.refused for journal in run.journals] == [3, 3]
    assert run.errors == ()
