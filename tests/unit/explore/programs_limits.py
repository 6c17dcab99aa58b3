"""Verdict cases of the end of a budget and of what cannot be explored."""

import asyncio
import contextlib
import itertools
import random
import socket
import threading
import time
import uuid
from pathlib import Path

from test_framework.explore import Conclusion, Scenario, external, invariant
from tests.unit.explore.verdict_case import case

FOUND, PROVEN = Conclusion.FOUND, Conclusion.PROVEN
SAMPLED, INCONCLUSIVE = Conclusion.SAMPLED, Conclusion.INCONCLUSIVE

# -- the end of a budget -------------------------------------------------------------


async def _ask_three_times() -> None:
    for _ in range(3):
        await external("ask")


@case(SAMPLED, budget="10ms", says="no proof")
async def time_ends_before_the_orders() -> None:
    """Millions of orders and ten milliseconds."""
    await asyncio.gather(*(_ask_three_times() for _ in range(4)))


@case(SAMPLED, schedules=50, says="50 runs")
async def runs_end_before_the_orders() -> None:
    """``schedules`` is kept to the run."""
    await asyncio.gather(*(_ask_three_times() for _ in range(4)))


@case(SAMPLED, schedules=1, says=("1 run, 1 distinct order", "no proof"))
async def one_run_of_two_orders_is_no_proof() -> None:
    """The smallest budget there is."""
    await asyncio.gather(external("a"), external("b"))


@case(PROVEN, schedules=1, says="Only one order")
async def one_run_of_one_order_is_a_proof() -> None:
    """Where there is one order, one run is all of them."""
    await asyncio.gather(asyncio.sleep(1), asyncio.sleep(0))


@case(SAMPLED, schedules=3, says="no proof")
async def rare_order_is_not_met_in_three_runs() -> None:
    """What three runs do not meet is neither found nor excluded."""
    seen: list[int] = []

    async def ask(number: int) -> None:
        await external("ask")
        seen.append(number)

    await asyncio.gather(*(ask(number) for number in range(5)))
    assert seen != [2, 4, 0, 3, 1]


@case(FOUND, kind="assertion")
async def rare_order_is_met_in_time() -> None:
    """The same with runs enough: one order of a hundred and twenty."""
    seen: list[int] = []

    async def ask(number: int) -> None:
        await external("ask")
        seen.append(number)

    await asyncio.gather(*(ask(number) for number in range(5)))
    assert seen != [2, 4, 0, 3, 1]  # <- here


@case(SAMPLED, schedules=6, cancel=True, says="no proof")
def faults_are_not_all_struck_in_six_runs() -> Scenario[list[int]]:
    """A sweep of faults that was cut off proves nothing."""

    async def work(log: list[int], user: int) -> None:
        for _ in range(3):
            await external("work")
        log.append(user)

    return Scenario(list, work)


@case(SAMPLED, schedules=80, fidelity="await", says="cut off at")
async def run_that_was_cut_off_is_no_proof() -> None:
    """An unfair order lets a poller spin; what comes after is not known."""
    state = {"ready": False}

    async def poll() -> None:
        while not state["ready"]:  # noqa: ASYNC110  # the mistake under test
            await asyncio.sleep(0)

    async def tell() -> None:
        await asyncio.sleep(0)
        state["ready"] = True

    await asyncio.gather(poll(), tell())


@case(SAMPLED, schedules=200, max_steps=50, says=("were cut off", "no proof"))
async def order_that_never_ends_is_no_proof() -> None:
    """All orders are run, but one of them for ever: what comes after is not known."""
    first: list[str] = []

    async def come(name: str) -> None:
        await external(name)
        first.append(name)

    await asyncio.gather(come("a"), come("b"))
    while first[0] == "b":
        await external("again")


@case(PROVEN, fidelity="any")
async def two_callbacks_have_two_orders() -> None:
    """At ``any`` callbacks of two tasks are choices as well, and are all run."""
    seen: list[int] = []

    async def queue(number: int) -> None:
        asyncio.get_running_loop().call_soon(seen.append, number)
        await asyncio.sleep(0)

    await asyncio.gather(queue(0), queue(1))


# -- what never ends -----------------------------------------------------------------


@case(INCONCLUSIVE, says="Let the scenario end", max_steps=2_000)
async def main_spins() -> None:
    """Never ends, turn by turn."""
    while True:  # noqa: ASYNC110  # the mistake under test
        await asyncio.sleep(0)  # <- here


@case(INCONCLUSIVE, says="Let the scenario end", max_steps=2_000)
async def main_sleeps_for_ever() -> None:
    """Never ends, second by second."""
    while True:  # noqa: ASYNC110  # the mistake under test
        await asyncio.sleep(1)  # <- here


@case(INCONCLUSIVE, says="Let the scenario end", max_steps=2_000)
async def main_asks_for_ever() -> None:
    """Never ends, answer by answer."""
    while True:
        await external("more")  # <- here


@case(INCONCLUSIVE, says=("raise max_steps", "50 steps"), max_steps=50)
async def run_is_longer_than_it_may_be() -> None:
    """A hundred turns where fifty are allowed."""
    for _ in range(100):
        await asyncio.sleep(0)  # <- here


@case(INCONCLUSIVE, says="Let the scenario end", max_steps=2_000)
async def callback_queues_itself_for_ever() -> None:
    """No task is to blame, but main waits for what never comes."""
    loop = asyncio.get_running_loop()

    def again() -> None:
        loop.call_soon(again)

    again()
    while True:  # noqa: ASYNC110  # the mistake under test
        await asyncio.sleep(0)  # <- here


@case(INCONCLUSIVE, says="has not given up control")
async def step_never_ends() -> None:
    """Computes for ever."""
    for number in itertools.count():
        assert number >= 0  # <- here


# -- what blocks ---------------------------------------------------------------------


@case(INCONCLUSIVE, says="Await asyncio.sleep")
async def user_sleeps_in_the_loop() -> None:
    """Stops every user."""
    time.sleep(0.001)  # noqa: ASYNC251, TID251  # <- here


@case(INCONCLUSIVE, says="Await asyncio.sleep")
async def helper_sleeps_in_the_loop() -> None:
    """In a task, below a plain function, in some orders only."""
    state = {"is_slow": False}

    def back_off() -> None:
        time.sleep(0.001)  # noqa: TID251  # <- here

    async def ask() -> None:
        await external("ask")
        if state["is_slow"]:
            back_off()

    async def slow_down() -> None:
        await external("load")
        state["is_slow"] = True

    await asyncio.gather(ask(), slow_down())


@case(INCONCLUSIVE, says="has not given up control")
async def thread_lock_is_held_across_an_await() -> None:
    """A ``threading.Lock`` that another task holds stops the whole loop."""
    lock = threading.Lock()

    async def work() -> None:
        with lock:  # <- here
            await external("work")

    await asyncio.gather(work(), work())


@case(INCONCLUSIVE, says="asyncio.to_thread")
async def program_starts_a_thread() -> None:
    """Starts what no scheduler rules."""
    threading.Thread(target=print).start()  # <- here


@case(INCONCLUSIVE, says="asyncio.to_thread")
async def program_starts_a_timer_thread() -> None:
    """The same by ``threading.Timer``."""
    timer = threading.Timer(9, print)
    timer.start()  # <- here


# -- real I/O ------------------------------------------------------------------------


@case(INCONCLUSIVE, says="Stand external() in for it")
async def program_opens_a_connection() -> None:
    """Asks the loop for a real connection."""
    await asyncio.open_connection("127.0.0.1", 9)  # <- here


@case(INCONCLUSIVE, says="Stand external() in for it")
async def program_starts_a_server() -> None:
    """Asks the loop for a real server."""
    await asyncio.start_server(lambda _, __: None, "127.0.0.1", 0)  # <- here


@case(INCONCLUSIVE, says="Stand external() in for it")
async def program_starts_a_process() -> None:
    """Asks the loop for a real process."""
    await asyncio.create_subprocess_exec("true")  # <- here


@case(INCONCLUSIVE, says="Stand external() in for it")
async def program_looks_up_a_name() -> None:
    """Asks the loop for a name."""
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)  # <- here


@case(INCONCLUSIVE, says="Stand external() in for it")
async def child_opens_a_connection_and_forgives() -> None:
    """A handler of the program does not hide it."""

    async def connect() -> None:
        with contextlib.suppress(Exception):
            await asyncio.open_connection("127.0.0.1", 9)  # <- here

    await asyncio.gather(connect(), external("other"))


@case(INCONCLUSIVE, says="external()")
async def program_connects_a_blocking_socket() -> None:
    """A blocking connect stops every user, and no scheduler decides its answer."""
    with socket.socket() as connection:
        connection.settimeout(0.01)
        connection.connect_ex(("127.0.0.1", 9))  # <- here


# -- what is not repeatable ----------------------------------------------------------


# Two runs agree by chance with odds of 2 ** -60.
@case(INCONCLUSIVE, says=("Two runs of one schedule differ", "seeded"))
async def path_is_random() -> None:
    """Unseeded random numbers."""
    for _ in range(60):
        if random.random() < 0.5:
            await asyncio.sleep(0)  # <- here
        else:
            await external("slow path")  # <- here


_addresses = itertools.count()


class _Peer:
    """An object whose hash differs from run to run, as addresses in memory do.

    Real addresses would too, but not surely: memory is used again.
    """

    def __init__(self, *, is_slow: bool) -> None:
        self.is_slow = is_slow
        self._address = hash((next(_addresses), "scattered"))

    def __hash__(self) -> int:
        return self._address


@case(INCONCLUSIVE, says=("Two runs of one schedule differ", "sort what comes from"))
async def order_comes_from_a_set_of_objects() -> None:
    """Whom it serves first is decided by hashes."""
    for peer in {_Peer(is_slow=number % 2 == 0) for number in range(60)}:
        if peer.is_slow:
            await external("slow path")  # <- here
        else:
            await asyncio.sleep(0)  # <- here


@case(INCONCLUSIVE, says="fix the time")
async def wall_clock_decides() -> None:
    """The parity of nanoseconds."""
    for _ in range(40):
        if time.perf_counter_ns() // 100 % 2:
            await asyncio.sleep(0)  # <- here
        else:
            await external("slow path")  # <- here


_calls = itertools.count()


@case(INCONCLUSIVE, says="make all state inside of the scenario")
async def state_outlives_the_run() -> None:
    """A cache at the top of a module is warm in the second run."""
    if next(_calls) == 0:
        await external("fill the cache")  # <- here
    await external("read")  # <- here


@case(PROVEN)
async def random_numbers_that_decide_nothing_are_harmless() -> None:
    """Identifiers may differ from run to run."""
    names: dict[str, str] = {}

    async def login(user: str) -> None:
        token = str(uuid.uuid4())
        await external("login")
        names[token] = user

    await asyncio.gather(login("alice"), login("bob"))
    assert sorted(names.values()) == ["alice", "bob"]


@case(PROVEN)
async def seeded_numbers_are_repeatable() -> None:
    """The cure that the report names."""
    rng = random.Random(7)
    for _ in range(rng.randrange(9)):
        await external("retry")


@case(PROVEN)
async def file_of_the_program_may_be_read() -> None:
    """Reading a file is no order of anything."""
    text = await asyncio.to_thread(Path(__file__).read_text, encoding="utf-8")
    assert "may_be_read" in text


@case(FOUND, kind="exception", says="RuntimeError")
async def loop_is_run_inside_of_a_loop() -> None:
    """``asyncio.run`` in a coroutine fails as everywhere."""
    work = external("work")
    try:
        asyncio.run(work)  # <- here
    finally:
        work.close()


@case(FOUND, kind="exception", says="SystemExit")
async def program_ends_the_process() -> None:
    """A user that calls ``sys.exit`` takes all the others down."""
    await external("check the configuration")
    raise SystemExit(3)  # <- here


class Skipped(Exception):  # noqa: N818  # the name is the point
    """What the program calls a user that it leaves out."""


@case(FOUND, kind="exception", says="Skipped: nobody is left")
async def exception_has_the_name_of_a_skip() -> None:
    """It is an error of the program, and not what ``pytest.skip`` raises."""
    await external("users")
    raise Skipped("nobody is left")  # <- here


@case(INCONCLUSIVE, says=("CPython's own loop", "isolation-audit replay"))
async def program_asks_which_loop_it_is_on() -> None:
    """What fails on the explorer's loop alone is no finding at ``fifo``."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, asyncio.BaseEventLoop)  # <- here


@case(INCONCLUSIVE, says="must not await")
async def invariant_is_async() -> None:
    """A coroutine is true, so an async invariant would always hold."""

    async def holds() -> bool:
        return False

    invariant(holds)  # <- here
    await external("work")
