"""Verdict cases of faults: cancellation at any suspension, errors of the world outside."""

import asyncio
from contextlib import suppress
from typing import Any

from test_framework.explore import Conclusion, Scenario, external
from tests.unit.explore.verdict_case import case

FOUND, PROVEN = Conclusion.FOUND, Conclusion.PROVEN
State = dict[str, Any]


# -- cancellation --------------------------------------------------------------------


@case(FOUND, kind="assertion", cancel=True, says="cancel")
def cancelled_user_keeps_its_slot() -> Scenario[list[int]]:
    """Taken before the await, given back after it."""

    async def work(slots: list[int], user: int) -> None:
        slots.append(user)
        await external("work")
        slots.remove(user)

    def check(slots: list[int]) -> None:
        assert slots == []  # <- here

    return Scenario(list, work, check)


@case(PROVEN, cancel=True, says="faults")
def cancelled_user_gives_its_slot_back() -> Scenario[list[int]]:
    """The safe twin."""

    async def work(slots: list[int], user: int) -> None:
        slots.append(user)
        try:
            await external("work")
        finally:
            slots.remove(user)

    def check(slots: list[int]) -> None:
        assert slots == []

    return Scenario(list, work, check)


@case(PROVEN)
def user_that_nobody_cancels_keeps_nothing() -> Scenario[list[int]]:
    """The vulnerable twin without faults is right."""

    async def work(slots: list[int], user: int) -> None:
        slots.append(user)
        await external("work")
        slots.remove(user)

    def check(slots: list[int]) -> None:
        assert slots == []

    return Scenario(list, work, check)


@case(FOUND, kind="assertion", cancel="user*")
def cancellation_strikes_where_only_another_order_waits() -> Scenario[State]:
    """User 1 waits with the lock only when it comes first: not in the usual order."""

    def setup() -> State:
        return {"first": None, "busy": False}

    async def work(state: State, user: int) -> None:
        if state["first"] is None:
            state["first"] = user
        if user == 1 and state["first"] == 1:
            state["busy"] = True
            await external("slow path")
            state["busy"] = False

    def check(state: State) -> None:
        assert not state["busy"]  # <- here

    return Scenario(setup, work, check)


@case(FOUND, kind="assertion", cancel=True)
def clean_up_is_cancelled_too() -> Scenario[State]:
    """The clean-up waits before it frees; an error of the work sends it there."""

    async def work(state: State, _: int) -> None:
        state["busy"] = True
        try:
            await external("work")
        finally:
            await external("log")
            state["busy"] = False

    def check(state: State) -> None:
        assert not state.get("busy")  # <- here

    return Scenario(dict, work, check, users=1)


@case(PROVEN, cancel=True)
def clean_up_frees_before_it_waits() -> Scenario[State]:
    """The safe twin."""

    async def work(state: State, _: int) -> None:
        state["busy"] = True
        try:
            await external("work")
        finally:
            state["busy"] = False
            await external("log")

    def check(state: State) -> None:
        assert not state.get("busy")

    return Scenario(dict, work, check, users=1)


@case(FOUND, kind="assertion", cancel=True)
def item_is_lost_with_its_worker() -> Scenario[State]:
    """Taken from the queue, not done, not put back."""

    def setup() -> State:
        jobs: asyncio.Queue[int] = asyncio.Queue()
        jobs.put_nowait(1)
        return {"jobs": jobs, "done": []}

    async def work(state: State, _: int) -> None:
        job = await state["jobs"].get()
        await external("job")
        state["done"].append(job)

    def check(state: State) -> None:
        assert len(state["done"]) + state["jobs"].qsize() == 1  # <- here

    return Scenario(setup, work, check, users=1)


@case(PROVEN, cancel=True)
def item_is_put_back_by_its_worker() -> Scenario[State]:
    """The safe twin."""

    def setup() -> State:
        jobs: asyncio.Queue[int] = asyncio.Queue()
        jobs.put_nowait(1)
        return {"jobs": jobs, "done": []}

    async def work(state: State, _: int) -> None:
        job = await state["jobs"].get()
        try:
            await external("job")
        except asyncio.CancelledError:
            state["jobs"].put_nowait(job)
            raise
        state["done"].append(job)

    def check(state: State) -> None:
        assert len(state["done"]) + state["jobs"].qsize() == 1

    return Scenario(setup, work, check, users=1)


@case(FOUND, kind="deadlock", cancel="user[0]", says="held by user[0]")
def lock_is_kept_by_a_cancelled_user() -> Scenario[State]:
    """``acquire`` and ``release`` without ``finally``."""

    async def work(state: State, _: int) -> None:
        await state["lock"].acquire()  # <- here
        await external("work")
        state["lock"].release()

    return Scenario(lambda: {"lock": asyncio.Lock()}, work)


@case(FOUND, kind="assertion", cancel="watch*")
async def cancellation_comes_in_the_middle_of_a_wait() -> None:
    """A client leaves when it likes, not only as soon as its task waits."""
    state, done = {"is_dirty": False}, asyncio.Event()

    async def watch() -> None:
        try:
            await done.wait()
        except asyncio.CancelledError:
            assert not state["is_dirty"]  # <- here
            raise

    async def work() -> None:
        await external("begin")
        state["is_dirty"] = True
        await external("commit")
        state["is_dirty"] = False
        done.set()

    await asyncio.gather(watch(), work())


@case(FOUND, kind="assertion", cancel="watch*", fidelity="await")
async def cancellation_is_late_where_awaits_take_time() -> None:
    """At ``await`` the clean-up itself may come late."""
    state, done = {"is_dirty": False}, asyncio.Event()

    async def watch() -> None:
        try:
            await done.wait()
        except asyncio.CancelledError:
            assert not state["is_dirty"]  # <- here
            raise

    async def work() -> None:
        await external("begin")
        state["is_dirty"] = True
        await external("commit")
        state["is_dirty"] = False
        done.set()

    await asyncio.gather(watch(), work())


@case(PROVEN, cancel="watch*")
async def cancellation_in_the_middle_does_no_harm() -> None:
    """The safe twin."""
    state, done = {"is_dirty": False}, asyncio.Event()
    log: list[str] = []

    async def watch() -> None:
        try:
            await done.wait()
        finally:
            log.append("left")

    async def work() -> None:
        await external("begin")
        state["is_dirty"] = True
        await external("commit")
        state["is_dirty"] = False
        done.set()

    await asyncio.gather(watch(), work())


@case(FOUND, kind="assertion", cancel="take*", says="cancel just before it goes on")
async def cancellation_meets_what_was_handed_over() -> None:
    """Cancelled when the answer is there but not yet taken: gh-86296 was of that kind."""
    handed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    pool, got = ["connection"], list[str]()

    async def take() -> None:
        got.append(await handed)

    async def give() -> None:
        await external("connect")
        if not handed.done():
            handed.set_result(pool.pop())

    await asyncio.gather(take(), give(), return_exceptions=True)
    assert pool or got  # <- here


@case(PROVEN, cancel="take*")
async def what_was_handed_over_is_put_back() -> None:
    """The safe twin looks at what it was handed."""
    handed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    pool, got = ["connection"], list[str]()

    async def take() -> None:
        try:
            got.append(await handed)
        except asyncio.CancelledError:
            if not handed.cancelled():
                pool.append(handed.result())
            raise

    async def give() -> None:
        await external("connect")
        if not handed.done():
            handed.set_result(pool.pop())

    await asyncio.gather(take(), give(), return_exceptions=True)
    assert pool or got


# -- errors --------------------------------------------------------------------------


@case(FOUND, kind="assertion", errors=("OSError",))
def failed_request_keeps_its_flag() -> Scenario[State]:
    """An error of the world outside skips the reset."""

    async def work(state: State, _: int) -> None:
        state["busy"] = True
        try:
            await external("work")
        except OSError:
            return
        state["busy"] = False

    def check(state: State) -> None:
        assert not state.get("busy")  # <- here

    return Scenario(dict, work, check, users=1)


@case(PROVEN, errors=("OSError",))
def failed_request_resets_its_flag() -> Scenario[State]:
    """The safe twin."""

    async def work(state: State, _: int) -> None:
        state["busy"] = True
        try:
            await external("work")
        except OSError:
            pass
        finally:
            state["busy"] = False

    def check(state: State) -> None:
        assert not state.get("busy")

    return Scenario(dict, work, check, users=1)


@case(FOUND, kind="assertion", errors=("ValueError", "asyncio:QueueFull"))
def second_of_two_errors_is_not_handled() -> Scenario[State]:
    """Every named error is tried; one of another module by ``module:Name``."""

    async def work(state: State, _: int) -> None:
        state["busy"] = True
        with suppress(ValueError):
            await external("work")
        state["busy"] = False

    def check(state: State) -> None:
        assert not state.get("busy")  # <- here

    return Scenario(dict, work, check, users=1)


@case(FOUND, kind="deadlock", errors=("ConnectionResetError",), says="held by")
def lock_is_kept_after_an_error() -> Scenario[State]:
    """The error of one user locks out the other."""

    async def work(state: State, _: int) -> None:
        await state["lock"].acquire()  # <- here
        try:
            await external("work")
        except ConnectionResetError:
            return
        state["lock"].release()

    return Scenario(lambda: {"lock": asyncio.Lock()}, work)


@case(PROVEN, errors=("ConnectionResetError",))
def lock_is_released_after_an_error() -> Scenario[State]:
    """The safe twin."""

    async def work(state: State, _: int) -> None:
        async with state["lock"]:
            try:
                await external("work")
            except ConnectionResetError:
                return

    return Scenario(lambda: {"lock": asyncio.Lock()}, work)


@case(PROVEN, errors=("OSError",))
async def error_of_a_fault_ends_a_group() -> None:
    """A group wraps the error that was injected; it still is that of the fault."""
    async with asyncio.TaskGroup() as group:
        group.create_task(external("work"))


@case(PROVEN, cancel=True)
async def timeout_of_a_fault_ends_a_group() -> None:
    """So does a timeout that a fault let expire."""

    async def work() -> None:
        async with asyncio.timeout(5):
            await asyncio.sleep(1)

    async with asyncio.TaskGroup() as group:
        group.create_task(work())


@case(PROVEN, errors=("OSError",))
async def error_of_a_fault_is_translated() -> None:
    """``raise ... from`` keeps the injected error as its cause."""
    try:
        await external("work")
    except OSError as exc:
        raise RuntimeError("the service is not there") from exc
