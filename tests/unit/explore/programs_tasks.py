"""Verdict cases of tasks: children, groups, what is lost, left or never done."""

import asyncio

from test_framework.explore import Conclusion, external
from tests.unit.explore.verdict_case import case

FOUND, PROVEN = Conclusion.FOUND, Conclusion.PROVEN

# -- children ------------------------------------------------------------------------


@case(FOUND, kind="assertion")
async def grandchildren_lose_an_update() -> None:
    """Tasks of tasks are scheduled like any other."""
    counter = [0]

    async def add() -> None:
        value = counter[0]
        await external("read")
        counter[0] = value + 1

    async def user() -> None:
        await asyncio.create_task(add())

    await asyncio.gather(user(), user())
    assert counter == [2]  # <- here


@case(PROVEN)
async def grandchildren_under_a_lock_lose_nothing() -> None:
    """The safe twin."""
    counter, lock = [0], asyncio.Lock()

    async def add() -> None:
        async with lock:
            value = counter[0]
            await external("read")
            counter[0] = value + 1

    async def user() -> None:
        await asyncio.create_task(add())

    await asyncio.gather(user(), user())
    assert counter == [2]


@case(FOUND, kind="assertion", fidelity="await")
async def child_is_late_where_awaits_take_time() -> None:
    """The creator lets three turns pass and believes that its child is done."""
    done: list[int] = []

    async def child() -> None:
        await asyncio.sleep(0)
        done.append(1)

    task = asyncio.create_task(child())
    for _ in range(3):
        await asyncio.sleep(0)
    assert done  # <- here
    await task


@case(PROVEN, says="Only one order")
async def child_is_in_time_in_turns() -> None:
    """The same at ``fifo`` has one order."""
    done: list[int] = []

    async def child() -> None:
        await asyncio.sleep(0)
        done.append(1)

    task = asyncio.create_task(child())
    for _ in range(3):
        await asyncio.sleep(0)
    assert done
    await task


@case(FOUND, kind="exception", says="KeyError")
async def session_is_used_after_it_was_closed() -> None:
    """An exception of the program names the line that raised it."""
    sessions = {"alice": 1}

    async def use() -> None:
        await external("read")
        sessions["alice"] += 1  # <- here

    async def close() -> None:
        await external("close")
        del sessions["alice"]

    await asyncio.gather(use(), close())


@case(PROVEN)
async def session_is_looked_up_with_care() -> None:
    """The safe twin."""
    sessions = {"alice": 1}

    async def use() -> None:
        await external("read")
        if "alice" in sessions:
            sessions["alice"] += 1

    async def close() -> None:
        await external("close")
        del sessions["alice"]

    await asyncio.gather(use(), close())


# -- groups --------------------------------------------------------------------------


@case(FOUND, kind="assertion")
async def failing_sibling_leaves_half_a_transfer() -> None:
    """A group cancels the sibling between its two writes."""
    account = {"a": 1, "b": 0}

    async def transfer() -> None:
        account["a"] -= 1
        await external("bank")
        account["b"] += 1

    async def fail() -> None:
        await external("other")
        raise OSError

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(transfer())
            group.create_task(fail())
    except* OSError:
        pass
    assert sum(account.values()) == 1  # <- here


@case(PROVEN)
async def failing_sibling_leaves_a_whole_transfer() -> None:
    """The safe twin writes in one turn."""
    account = {"a": 1, "b": 0}

    async def transfer() -> None:
        await external("bank")
        account["a"] -= 1
        account["b"] += 1

    async def fail() -> None:
        await external("other")
        raise OSError

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(transfer())
            group.create_task(fail())
    except* OSError:
        pass
    assert sum(account.values()) == 1


@case(FOUND, kind="exception", says="ValueError")
async def error_in_a_group_names_the_child() -> None:
    """The line is that of the child that failed, not that of the group."""

    async def fail() -> None:
        await external("read")
        raise ValueError("of the child")  # <- here

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        group.create_task(external("other"))


@case(FOUND, kind="assertion")
async def sibling_of_a_failed_gather_goes_on() -> None:
    """``gather`` raises at once; the others still run and write."""
    log: list[str] = []

    async def fail() -> None:
        await external("a")
        raise OSError

    async def write() -> None:
        await external("b")
        log.append("written")

    task = asyncio.create_task(write())
    try:
        await asyncio.gather(fail(), task)
    except OSError:
        log.append("rolled back")
    await asyncio.wait([task])
    assert log[-1] != "written"  # <- here


@case(PROVEN)
async def gather_that_returns_errors_waits_for_all() -> None:
    """The safe twin."""
    log: list[str] = []

    async def fail() -> None:
        await external("a")
        raise OSError

    async def write() -> None:
        await external("b")
        log.append("written")

    results = await asyncio.gather(fail(), write(), return_exceptions=True)
    if any(isinstance(result, OSError) for result in results):
        log.append("rolled back")
    assert log == ["written", "rolled back"]


@case(FOUND, kind="assertion")
async def nested_groups_race() -> None:
    """The inner group of one task against the body of the outer."""
    seats = [1]
    sold: list[str] = []

    async def buy(name: str) -> None:
        if seats[0]:
            await external("pay")
            seats[0] -= 1
            sold.append(name)

    async def family() -> None:
        async with asyncio.TaskGroup() as inner:
            inner.create_task(buy("child"))

    async with asyncio.TaskGroup() as outer:
        outer.create_task(family())
        outer.create_task(buy("single"))
    assert len(sold) == 1  # <- here


# -- lost, left, cancelled -----------------------------------------------------------


@case(FOUND, kind="lost-exception", says=("fail[0] raised OSError", "nobody awaited"))
async def exception_of_a_forgotten_task_is_lost() -> None:
    """A task that nobody awaits fails in silence."""

    async def fail() -> None:
        await external("write")
        raise OSError("disk")  # <- here

    task = asyncio.create_task(fail())
    await external("other")
    await asyncio.wait([task])


@case(PROVEN)
async def exception_that_is_looked_at_is_not_lost() -> None:
    """The safe twin asks for it."""

    async def fail() -> None:
        await external("write")
        raise OSError("disk")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    assert isinstance(task.exception(), OSError)


@case(FOUND, kind="task-left", says="watcher was still running")
async def watcher_is_left_when_the_answer_is_quick() -> None:
    """In the usual order the watcher is done; in another one it is left."""
    event = asyncio.Event()

    async def watch() -> None:
        await event.wait()

    async def tell() -> None:
        await external("tell")
        event.set()

    teller = asyncio.create_task(tell())
    watcher = asyncio.create_task(watch(), name="watcher")
    await asyncio.sleep(0)
    await external("answer")
    if not event.is_set():
        teller.cancel()
        await asyncio.wait([teller])
    else:
        await watcher


@case(PROVEN)
async def watcher_is_cancelled_with_its_teller() -> None:
    """The safe twin."""
    event = asyncio.Event()

    async def tell() -> None:
        await external("tell")
        event.set()

    tasks = [asyncio.create_task(tell()), asyncio.create_task(event.wait())]
    await external("answer")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@case(PROVEN)
async def daemon_that_is_always_left_is_usual() -> None:
    """A task that every order leaves over is how the program is."""
    forever = asyncio.Event()
    daemon = asyncio.create_task(forever.wait())
    await asyncio.gather(external("a"), external("b"))
    assert not daemon.done()


@case(FOUND, kind="loop-error", says="ZeroDivisionError")
async def callback_fails_in_the_loop() -> None:
    """An error in a callback goes to the handler of the loop."""
    loop, shares = asyncio.get_running_loop(), [1]

    def split() -> None:
        shares.append(1 // shares[0])  # <- here

    async def take() -> None:
        await external("take")
        shares[0] -= 1

    task = asyncio.create_task(take())
    await external("ask")
    loop.call_soon(split)
    await task
    await asyncio.sleep(0)


@case(FOUND, kind="loop-error", says="ZeroDivisionError")
async def callback_fails_under_a_handler_of_the_program() -> None:
    """A handler that only logs does not make it right."""
    loop, log = asyncio.get_running_loop(), list[str]()
    loop.set_exception_handler(lambda _, context: log.append(context["message"]))
    loop.call_soon(lambda: 1 // 0)  # <- here
    await external("answer")
    await asyncio.sleep(0)


@case(FOUND, kind="loop-error", says="never retrieved")
async def future_with_an_error_is_dropped() -> None:
    """Nobody asks for the error of a future."""
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    await external("answer")
    waiting.set_exception(OSError("disk"))
    del waiting
    await asyncio.sleep(0)


@case(FOUND, kind="assertion")
async def waiter_goes_on_before_a_later_callback() -> None:
    """Who waited first is woken first, before a callback that was added later."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waits, log = asyncio.Event(), list[str]()

    async def wait() -> None:
        waits.set()
        await future
        assert log  # <- here

    task = asyncio.create_task(wait())
    await waits.wait()
    future.add_done_callback(lambda _: log.append("called back"))
    future.set_result(None)
    await task


@case(FOUND, kind="assertion", fidelity="await")
async def waiter_goes_on_before_a_later_callback_at_await() -> None:
    """What plain asyncio does is one of the orders in which awaits take any time."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waits, log = asyncio.Event(), list[str]()

    async def wait() -> None:
        waits.set()
        await future
        assert log  # <- here

    task = asyncio.create_task(wait())
    await waits.wait()
    future.add_done_callback(lambda _: log.append("called back"))
    future.set_result(None)
    await task


@case(FOUND, kind="exception", says="cancelled from inside")
async def scenario_cancels_itself() -> None:
    """A task that cancels main ends the scenario."""
    main = asyncio.current_task()
    assert main is not None

    async def stop() -> None:
        await external("stop")
        main.cancel()

    task = asyncio.create_task(stop())
    await external("answer")
    await task
    await external("more")


@case(PROVEN)
async def cancelled_child_is_no_failure() -> None:
    """Who cancels a task and takes its end for granted does right."""
    task = asyncio.create_task(external("slow"))
    await external("fast")
    task.cancel()
    await asyncio.wait([task])
