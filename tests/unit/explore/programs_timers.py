"""FIFO programs of the clock: deadlines keep their order, timeouts lose to short work.

Deadlines here are at least 0.1 s apart, more than a loop may lag behind its timers
(``LAG_S``), so that no stock loop breaks them either.
"""

import asyncio

from tests.unit.explore.fifo_program import in_order


@in_order()
async def timers_fire_by_their_deadlines() -> None:
    """Not in the order of ``call_later``."""
    loop, seen = asyncio.get_running_loop(), list[str]()
    loop.call_later(0.3, seen.append, "third")
    loop.call_later(0.1, seen.append, "first")
    loop.call_later(0.2, seen.append, "second")
    await asyncio.sleep(0.5)
    assert seen == ["first", "second", "third"]


@in_order()
async def instants_and_delays_share_one_clock() -> None:
    """``call_at`` and ``call_later`` are sorted together."""
    loop, seen = asyncio.get_running_loop(), list[str]()
    loop.call_at(loop.time() + 0.2, seen.append, "second")
    loop.call_later(0.1, seen.append, "first")
    loop.call_at(loop.time() + 0.4, seen.append, "fourth")
    loop.call_later(0.3, seen.append, "third")
    await asyncio.sleep(0.6)
    assert seen == ["first", "second", "third", "fourth"]


@in_order()
async def zero_delay_comes_after_what_is_queued() -> None:
    """``call_later(0)`` never overtakes an older ``call_soon``."""
    loop, seen = asyncio.get_running_loop(), list[str]()
    loop.call_later(0, seen.append, "later")
    loop.call_soon(seen.append, "soon")
    await asyncio.sleep(0.1)
    assert seen == ["soon", "later"]


@in_order()
async def cancelled_timer_never_fires() -> None:
    """Its neighbours do, in order."""
    loop, seen = asyncio.get_running_loop(), list[int]()
    handles = [loop.call_later(0.1 * n, seen.append, n) for n in (3, 1, 2)]
    handles[2].cancel()
    await asyncio.sleep(0.5)
    assert seen == [1, 3]


@in_order(breaks_at="await")
async def sleepers_wake_by_the_length_of_their_sleep() -> None:
    """Sleep sort: the results of ``as_completed`` come sorted."""

    async def rest(tenths: int) -> int:
        await asyncio.sleep(tenths / 10)
        return tenths

    seen = [
        await following for following in asyncio.as_completed(map(rest, (4, 1, 3, 2)))
    ]
    assert seen == [1, 2, 3, 4]


@in_order(breaks_at="any")
async def short_work_never_times_out() -> None:
    """A timeout of a second does not fire during a sleep of a tenth."""
    async with asyncio.timeout(1):
        await asyncio.sleep(0.1)
    assert await asyncio.wait_for(asyncio.sleep(0.1, "slept"), 1) == "slept"


@in_order()
async def long_work_always_times_out() -> None:
    """A sleep of a second does not end before a timeout of a tenth."""
    seen: list[str] = []
    try:
        async with asyncio.timeout(0.1):
            await asyncio.sleep(1)
            seen.append("slept")
    except TimeoutError:
        seen.append("timeout")
    try:
        await asyncio.wait_for(asyncio.sleep(1), 0.1)
        seen.append("slept")
    except TimeoutError:
        seen.append("timeout")
    assert seen == ["timeout", "timeout"]


@in_order(breaks_at="any")
async def turns_take_no_time() -> None:
    """A hundred turns of ready work end before a timeout of a second."""
    async with asyncio.timeout(1):
        for _ in range(100):
            await asyncio.sleep(0)


@in_order(breaks_at="any")
async def inner_timeout_fires_before_the_outer() -> None:
    """The shorter of two nested timeouts is the one that is caught inside."""
    seen: list[str] = []
    try:
        async with asyncio.timeout(1):
            try:
                async with asyncio.timeout(0.1):
                    await asyncio.sleep(5)
            except TimeoutError:
                seen.append("inner")
            await asyncio.sleep(5)
    except TimeoutError:
        seen.append("outer")
    assert seen == ["inner", "outer"]


@in_order()
async def outer_timeout_passes_through_the_inner() -> None:
    """When the outer is shorter, the inner one does not swallow it."""
    seen: list[str] = []
    try:
        async with asyncio.timeout(0.1):
            try:
                async with asyncio.timeout(1):
                    await asyncio.sleep(5)
            except TimeoutError:
                seen.append("inner")
    except TimeoutError:
        seen.append("outer")
    assert seen == ["outer"]


@in_order(breaks_at="any")
async def moved_deadline_counts() -> None:
    """``reschedule`` gives the work more time."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(0.2) as limit:
        limit.reschedule(loop.time() + 1)
        await asyncio.sleep(0.5)
    assert not limit.expired()


@in_order(breaks_at="await")
async def wait_gives_up_on_the_slow_only() -> None:
    """``wait`` with a timeout returns what is done by then, and cancels nothing."""
    fast = asyncio.create_task(asyncio.sleep(0.1, "fast"))
    slow = asyncio.create_task(asyncio.sleep(0.5, "slow"))
    done, pending = await asyncio.wait({slow, fast}, timeout=0.3)
    assert done == {fast}
    assert pending == {slow}
    assert await slow == "slow"


@in_order(breaks_at="await")
async def heartbeat_beats_as_often_as_there_is_time() -> None:
    """Three beats of a tenth before the end of work that takes nearly four."""
    beats: list[float] = []
    loop = asyncio.get_running_loop()

    async def beat() -> None:
        while True:
            await asyncio.sleep(0.1)
            beats.append(loop.time())

    heart = asyncio.create_task(beat())
    await asyncio.sleep(0.39)
    heart.cancel()
    await asyncio.wait([heart])
    assert len(beats) == 3
    assert beats == sorted(beats)


@in_order(breaks_at="any")
async def timer_that_is_put_off_fires_once() -> None:
    """Debounce: every call takes the place of the timer before."""
    loop, seen = asyncio.get_running_loop(), list[int]()
    timer: asyncio.TimerHandle | None = None
    for number in range(3):
        if timer is not None:
            timer.cancel()
        timer = loop.call_later(0.3, seen.append, number)
        await asyncio.sleep(0.1)
    assert seen == []
    await asyncio.sleep(0.5)
    assert seen == [2]


@in_order(breaks_at="await")
async def group_ends_with_its_longest_sleeper() -> None:
    """And the order of the ends is that of the sleeps."""
    seen: list[int] = []

    async def rest(tenths: int) -> None:
        await asyncio.sleep(tenths / 10)
        seen.append(tenths)

    async with asyncio.TaskGroup() as group:
        for tenths in (3, 1, 2):
            group.create_task(rest(tenths))
    assert seen == [1, 2, 3]


@in_order(breaks_at="await")
async def ready_work_comes_before_a_later_timer() -> None:
    """Turns that are ready end before a sleeper of a tenth wakes."""
    seen: list[str] = []

    async def work() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        seen.append("work")

    async def rest() -> None:
        await asyncio.sleep(0.1)
        seen.append("rest")

    await asyncio.gather(rest(), work())
    assert seen == ["work", "rest"]


@in_order(breaks_at="await")
async def poll_sees_the_change_at_its_next_look() -> None:
    """A poller of every tenth sees at 0.3 what was set at 0.25."""
    state, looks = {"ready": False}, 0

    async def set_it() -> None:
        await asyncio.sleep(0.25)
        state["ready"] = True

    task = asyncio.create_task(set_it())
    while not state["ready"]:  # polling is the subject
        looks += 1
        await asyncio.sleep(0.1)
    await task
    assert looks == 3
