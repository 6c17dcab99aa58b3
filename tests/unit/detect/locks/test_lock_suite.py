"""The deadlock suite: every program that hangs, or could, and its safe sibling."""

import asyncio

import pytest

from tests.unit.detect.locks import programs
from tests.unit.detect.locks.harness import Program, alarms_of

DEADLOCKS = (
    programs.crosswise_at_once,
    programs.crosswise_with_a_timeout,
    programs.asked_for_at_the_hand_over,
    programs.take_again,
    programs.last_permit_twice,
    programs.child_awaited_under_lock,
    programs.child_gathered_under_lock,
    programs.child_grouped_under_lock,
    programs.child_waited_for_under_lock,
    programs.child_in_a_set_under_lock,
    programs.child_blocked_before_it_is_awaited,
    programs.grandchild_under_lock,
    programs.queue_fills_itself,
    programs.queues_fill_each_other,
)
PREDICTED = {
    programs.crosswise_by_each_of_two: "lock-order-inversion",
    programs.crosswise_in_turn: "lock-order-inversion",
    programs.crosswise_under_two_gates: "lock-order-inversion",
    programs.three_in_a_ring: "lock-order-inversion",
    programs.permit_then_lock_crosswise: "lock-order-inversion",
    programs.locks_of_a_table_unsorted: "lock-order-inversion",
    programs.rooms_and_users_crosswise: "lock-order-inversion",
    programs.permits_nested_alone: "permit-nested",
    programs.released_by_a_stranger: "lock-released-by-stranger",
    programs.ends_with_its_lock: "lock-held-at-end",
}
STALLS = (
    programs.reader_becomes_writer,
    programs.barrier_behind_a_lock,
    programs.event_never_set,
    programs.readers_and_writers_crosswise,
)
SAFE = (
    programs.child_seen_to_wait_under_lock,
    programs.crosswise_by_one_task,
    programs.same_way_at_once,
    programs.same_way_in_turn,
    programs.crosswise_under_a_gate,
    programs.three_in_a_row,
    programs.take_in_turn,
    programs.permits_in_turn,
    programs.permit_then_lock,
    programs.semaphore_as_a_signal,
    programs.permit_handed_to_a_callback,
    programs.child_awaited_after_lock,
    programs.first_child_suffices,
    programs.queue_drained_by_another,
    programs.worker_with_nothing_to_do,
    programs.worker_that_feeds_itself,
    programs.holder_that_waited_before,
    programs.readers_and_writers,
    programs.barrier_before_a_lock,
    programs.event_set_in_time,
    programs.locks_of_a_table_sorted,
    programs.acquired_with_a_timeout,
    programs.cancelled_while_waiting,
)


@pytest.mark.power
@pytest.mark.parametrize("program", DEADLOCKS)
async def test_deadlock_is_an_error(program: Program) -> None:
    """Tasks that wait for each other, or for themselves, are told as one error."""
    alarms = await alarms_of(program)

    errors = [alarm.rule for alarm in alarms if alarm.level == "error"]
    assert errors == ["deadlock"]


@pytest.mark.power
@pytest.mark.parametrize(("program", "rule"), PREDICTED.items())
async def test_hazard_is_a_warning(program: Program, rule: str) -> None:
    """What did not hang in this run and could in another is told as a warning."""
    alarms = await alarms_of(program)

    assert [(alarm.rule, alarm.level) for alarm in alarms] == [(rule, "warning")]


@pytest.mark.power
@pytest.mark.parametrize("program", STALLS)
async def test_stall_is_told_at_the_timeout(program: Program) -> None:
    """Where nobody is known to be waited for, the timeout tells where each task is."""
    alarms = await alarms_of(program, at_timeout=True)

    stalls = [alarm for alarm in alarms if alarm.rule == "task-stall"]
    assert [stall.level for stall in stalls] == ["error"]
    assert "programs.py" in "".join(stalls[0].evidence)


@pytest.mark.parametrize(
    "program",
    [
        programs.take_again_after_a_release_in_store,
        programs.take_again_after_a_release_by_a_timer,
        programs.take_again_after_the_end_of_a_task,
    ],
)
async def test_release_in_store_is_no_deadlock(program: Program) -> None:
    """A lock that a callback is going to release makes nobody wait for himself."""
    alarms = await alarms_of(program, seconds=0.01)

    told = [(alarm.rule, alarm.level) for alarm in alarms]
    assert told == [("lock-released-by-stranger", "warning")]
    assert "programs.py:" in alarms[0].site


async def test_deadlock_that_a_stranger_undoes_is_no_error() -> None:
    """What looked like a deadlock until another task released the lock is a warning."""
    program = programs.take_again_after_a_hand_over

    alarms = await alarms_of(program, seconds=0.01)

    assert {alarm.level for alarm in alarms} == {"warning"}
    (deadlock,) = [alarm for alarm in alarms if alarm.rule == "deadlock"]
    assert "others than its holder release the lock" in deadlock.evidence[-1]


async def test_stall_with_a_timer_is_a_note() -> None:
    """While a timer runs somebody may still be woken: told, and not called an error."""

    async def program() -> None:
        await asyncio.gather(programs.event_never_set(), asyncio.sleep(3600))

    (alarm,) = await alarms_of(program, at_timeout=True)

    assert (alarm.rule, alarm.level) == ("task-stall", "note")
    assert "waits for an Event to be set" in str(alarm.evidence)


async def test_worker_that_feeds_itself_is_in_no_circle() -> None:
    """A worker that waits for itself is idle; at a timeout it is listed, no more."""
    alarms = await alarms_of(programs.worker_that_feeds_itself, at_timeout=True)

    assert [alarm.rule for alarm in alarms] == ["task-stall"]


async def test_worker_without_items_is_told_at_the_timeout() -> None:
    """Who waits for an item that only its own waiter could bring is told, but then only."""
    alarms = await alarms_of(programs.worker_with_nothing_to_do, at_timeout=True)

    assert [alarm.rule for alarm in alarms] == ["deadlock"]


@pytest.mark.parametrize("program", SAFE)
async def test_safe_sibling_is_quiet(program: Program) -> None:
    """A program that cannot hang raises no alarm, not even a note."""
    assert await alarms_of(program) == []
