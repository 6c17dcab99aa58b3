"""Verdict cases of the clock and of ``shield``: timeouts, nested, retried, outrun."""

import asyncio
import contextlib

from test_framework.explore import Conclusion, external
from tests.unit.explore.verdict_case import case

FOUND, PROVEN = Conclusion.FOUND, Conclusion.PROVEN

# -- timeouts ------------------------------------------------------------------------


@case(FOUND, kind="assertion")
async def timeout_leaves_a_slot_taken() -> None:
    """An answer may take longer than any timeout."""
    slots: list[str] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            slots.append("user")
            await external("work")
            slots.remove("user")
    assert slots == []  # <- here


@case(PROVEN)
async def timeout_frees_its_slot() -> None:
    """The safe twin."""
    slots: list[str] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            slots.append("user")
            try:
                await external("work")
            finally:
                slots.remove("user")
    assert slots == []


@case(FOUND, kind="exception", says="TimeoutError", fidelity="await")
async def answer_is_late_where_awaits_take_time() -> None:
    """At ``await`` too an answer may come after a timeout."""
    async with asyncio.timeout(1):  # <- here
        await external("slow")


@case(FOUND, kind="assertion", fidelity="await")
async def answer_outlasts_a_long_sleep() -> None:
    """At ``await`` an answer may take longer than a sleep of a minute."""
    seen: list[str] = []

    async def ask() -> None:
        await external("slow")
        seen.append("answer")

    task = asyncio.create_task(ask())
    await asyncio.sleep(60)
    assert seen == ["answer"]  # <- here
    await task


@case(PROVEN)
async def answer_that_is_late_is_expected() -> None:
    """The safe twin of both."""
    try:
        async with asyncio.timeout(1):
            await external("slow")
    except TimeoutError:
        await external("fallback")


@case(FOUND, kind="exception", says="TimeoutError")
async def wait_for_is_not_caught() -> None:
    """``wait_for`` names the line that called it."""

    async def ask() -> None:
        await asyncio.wait_for(external("slow"), 1)  # <- here

    await asyncio.gather(ask(), external("other"))


@case(PROVEN)
async def sleep_is_shorter_than_its_timeout() -> None:
    """Time is virtual, and its order is that of the program."""
    async with asyncio.timeout(10):
        await asyncio.sleep(9)
        await asyncio.gather(asyncio.sleep(0.5), asyncio.sleep(0))


@case(FOUND, kind="exception", says="TimeoutError")
async def two_timers_are_closer_than_a_loop_may_lag() -> None:
    """Ten milliseconds between work and its timeout are no promise."""

    async def busy() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def rest() -> None:
        await asyncio.sleep(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async with asyncio.timeout(1.01):  # <- here
        await asyncio.gather(rest(), rest())
        await busy()


@case(FOUND, kind="assertion")
async def inner_handler_takes_the_outer_timeout() -> None:
    """The inner ``except`` believes that the inner limit was met."""
    attempts: list[str] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            try:
                await external("first")
            finally:
                attempts.append("first")
            await external("second")
            attempts.append("second")
    assert len(attempts) == 2  # <- here


@case(PROVEN)
async def nested_timeouts_end_in_the_order_of_their_lengths() -> None:
    """The inner one fires first, whatever the order of the answers is."""
    seen: list[str] = []
    try:
        async with asyncio.timeout(5):
            try:
                async with asyncio.timeout(1):
                    await external("never in time")
                seen.append("answer")
            except TimeoutError:
                seen.append("inner")
    except TimeoutError:
        seen.append("outer")
    assert seen in (["answer"], ["inner"])


@case(FOUND, kind="assertion")
async def nested_wait_for_gives_up_twice() -> None:
    """The outer limit is met while the handler of the inner one waits as well."""
    seen: list[str] = []

    async def ask() -> None:
        try:
            await asyncio.wait_for(external("source"), 1)
        except TimeoutError:
            await external("fallback")
        seen.append("value")

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ask(), 3)
    assert seen  # <- here


@case(FOUND, kind="task-left", says="was still running")
async def wait_with_a_timeout_leaves_the_slow() -> None:
    """``asyncio.wait`` cancels nothing; in the usual order nothing is left."""

    async def fetch(page: str) -> None:
        await external(page)

    tasks = [asyncio.create_task(fetch("one")), asyncio.create_task(fetch("two"))]
    await asyncio.wait(tasks, timeout=1)


@case(FOUND, kind="task-left", says="was still running", fidelity="await")
async def wait_leaves_the_slow_where_awaits_take_time() -> None:
    """At ``await`` too a task that waits for the world outside is left over."""

    async def fetch(page: str) -> None:
        await external(page)

    tasks = [asyncio.create_task(fetch("one")), asyncio.create_task(fetch("two"))]
    await asyncio.wait(tasks, timeout=1)


@case(PROVEN)
async def wait_with_a_timeout_cancels_the_slow() -> None:
    """The safe twin."""

    async def fetch(page: str) -> None:
        await external(page)

    tasks = [asyncio.create_task(fetch("one")), asyncio.create_task(fetch("two"))]
    _, slow = await asyncio.wait(tasks, timeout=1)
    for task in slow:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@case(FOUND, kind="assertion")
async def retry_charges_twice() -> None:
    """The first charge goes through after its timeout."""
    charges: list[int] = []

    async def charge() -> None:
        await external("bank")
        charges.append(1)

    first = asyncio.create_task(charge())
    try:
        await asyncio.wait_for(asyncio.shield(first), 1)
    except TimeoutError:
        await charge()
    await asyncio.wait([first])
    assert len(charges) == 1  # <- here


@case(PROVEN)
async def retry_with_a_key_charges_once() -> None:
    """The safe twin."""
    charges: dict[str, int] = {}

    async def charge(key: str) -> None:
        await external("bank")
        charges[key] = 1

    first = asyncio.create_task(charge("order 7"))
    try:
        await asyncio.wait_for(asyncio.shield(first), 1)
    except TimeoutError:
        await charge("order 7")
    await asyncio.wait([first])
    assert len(charges) == 1


@case(FOUND, kind="assertion")
async def hedge_uses_whoever_is_first() -> None:
    """The replica may answer before the primary."""
    value = {"primary": 2, "replica": 1}

    async def read(server: str) -> int:
        await external(server)
        return value[server]

    tasks = [asyncio.create_task(read(server)) for server in value]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    assert min(task.result() for task in done) == 2  # <- here


@case(PROVEN, fidelity="await")
async def zero_delay_does_not_overtake_what_is_queued() -> None:
    """No loop runs ``call_later(0)`` before an older ``call_soon``."""
    loop, seen = asyncio.get_running_loop(), list[str]()
    loop.call_later(0, seen.append, "later")
    loop.call_soon(seen.append, "soon")
    await asyncio.sleep(0.1)
    assert seen == ["soon", "later"]


# -- answer and timeout at once --------------------------------------------------------


@case(FOUND, kind="assertion")
async def answer_comes_just_before_its_timeout() -> None:
    """Handed over in one turn, timed out in it as well: the connection is lost.

    Plain asyncio does it when the answer takes as long as the timeout.
    """
    handed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    pool, got = ["connection"], list[str]()

    async def connect() -> None:
        await external("connect")
        if not handed.done():
            handed.set_result(pool.pop())

    connecting = asyncio.create_task(connect())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            got.append(await handed)
    await connecting
    assert pool or got  # <- here


@case(FOUND, kind="assertion")
async def answer_comes_just_before_a_short_timeout() -> None:
    """The same where all of the timeout is within what a loop may lag."""
    handed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    pool, got = ["connection"], list[str]()

    async def connect() -> None:
        await external("connect")
        if not handed.done():
            handed.set_result(pool.pop())

    connecting = asyncio.create_task(connect())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.04):
            got.append(await handed)
    await connecting
    assert pool or got  # <- here


@case(PROVEN)
async def connection_that_comes_with_its_timeout_is_put_back() -> None:
    """The safe twin of both looks at what it was handed."""
    handed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    pool, got = ["connection"], list[str]()

    async def connect() -> None:
        await external("connect")
        if not handed.done():
            handed.set_result(pool.pop())

    connecting = asyncio.create_task(connect())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.04):
            try:
                got.append(await handed)
            except asyncio.CancelledError:
                if handed.done() and not handed.cancelled():
                    pool.append(handed.result())
                raise
    await connecting
    assert pool or got


@case(FOUND, kind="assertion")
async def answer_outlasts_a_lease() -> None:
    """An answer may take longer than a lease by the clock of the loop."""
    loop = asyncio.get_running_loop()
    granted = loop.time()
    await external("slow")
    assert loop.time() - granted < 60  # <- here


@case(FOUND, kind="assertion", fidelity="await")
async def answer_outlasts_a_lease_at_await() -> None:
    """The same where every await may take any time."""
    loop = asyncio.get_running_loop()
    granted = loop.time()
    await external("slow")
    assert loop.time() - granted < 60  # <- here


@case(FOUND, kind="assertion")
async def answer_outlasts_a_lease_within_its_timeout() -> None:
    """The timeout of the answer is longer than the lease, and a nap follows it."""
    loop = asyncio.get_running_loop()
    granted = loop.time()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(90):
            await external("slow")
            await asyncio.sleep(0)
            await asyncio.sleep(1e-5)
            assert loop.time() - granted < 60  # <- here


@case(PROVEN)
async def answer_within_its_lease() -> None:
    """The safe twin: the timeout ends the wait before the lease does."""
    granted = asyncio.get_running_loop().time()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(30):
            await external("slow")
            assert asyncio.get_running_loop().time() - granted < 60


@case(FOUND, kind="assertion")
async def lease_is_renewed_too_early() -> None:
    """Renewed before the slow answer, and not looked at after it."""
    loop = asyncio.get_running_loop()
    state = {"until": loop.time() + 60}

    async def renew() -> None:
        await external("renew")
        state["until"] = loop.time() + 60

    async def write() -> None:
        if loop.time() < state["until"]:
            await external("write")
            assert loop.time() < state["until"]  # <- here

    await asyncio.gather(renew(), write())


@case(PROVEN)
async def lease_is_looked_at_after_the_answer() -> None:
    """The safe twin: what is late is not used."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 60
    used: list[float] = []
    await asyncio.gather(external("read"), external("write"))
    now = loop.time()
    if now < until:
        used.append(now)
    assert all(instant < until for instant in used)


# -- shield --------------------------------------------------------------------------


@case(FOUND, kind="assertion")
async def shielded_work_outlives_its_resource() -> None:
    """The caller gives up and closes what the shielded work still uses."""
    log: list[str] = []

    async def write() -> None:
        await external("disk")
        log.append("written")

    work = asyncio.create_task(write())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(work), 1)
    log.append("closed")
    await work
    assert log == ["written", "closed"]  # <- here


@case(PROVEN)
async def shielded_work_is_awaited_before_the_close() -> None:
    """The safe twin."""
    log: list[str] = []

    async def write() -> None:
        await external("disk")
        log.append("written")

    work = asyncio.create_task(write())
    try:
        await asyncio.wait_for(asyncio.shield(work), 1)
    except TimeoutError:
        await work
    log.append("closed")
    assert log == ["written", "closed"]


@case(FOUND, kind="lost-exception", says="save[0] raised OSError")
async def shielded_work_fails_unseen() -> None:
    """Nobody awaits it any more when it fails."""

    async def save() -> None:
        await external("disk")
        raise OSError("disk")  # <- here

    async def user() -> None:
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(asyncio.shield(save()), 1)
        await external("more")

    await asyncio.gather(user(), external("other"))
