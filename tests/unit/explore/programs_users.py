"""Verdict cases of users, invariants and faults."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from test_framework.explore import Conclusion, Scenario, external, invariant
from tests.unit.explore.verdict_case import case

FOUND, PROVEN = Conclusion.FOUND, Conclusion.PROVEN
INCONCLUSIVE = Conclusion.INCONCLUSIVE
State = dict[str, Any]

# -- users ---------------------------------------------------------------------------


@case(FOUND, kind="assertion")
def users_lose_an_update() -> Scenario[State]:
    """Two users and a read-modify-write."""

    async def add(state: State, _: int) -> None:
        value = state["n"]
        await external("read")
        state["n"] = value + 1

    def check(state: State) -> None:
        assert state["n"] == 2  # <- here

    return Scenario(lambda: {"n": 0}, add, check)


@case(PROVEN)
def users_under_a_lock_lose_nothing() -> Scenario[State]:
    """The safe twin, for three."""

    async def add(state: State, _: int) -> None:
        async with state["lock"]:
            value = state["n"]
            await external("read")
            state["n"] = value + 1

    def check(state: State) -> None:
        assert state["n"] == 3

    return Scenario(lambda: {"n": 0, "lock": asyncio.Lock()}, add, check, users=3)


@case(FOUND, kind="assertion")
def users_arrive_in_any_order() -> Scenario[list[int]]:
    """Even without an await of their own."""

    async def arrive(log: list[int], user: int) -> None:
        log.append(user)

    def check(log: list[int]) -> None:
        assert log == [0, 1, 2]  # <- here

    return Scenario(list, arrive, check, users=3)


@case(PROVEN, users=3)
def users_are_counted_in_any_order() -> Scenario[list[int]]:
    """The safe twin; ``users=`` goes before the number in the scenario."""

    async def arrive(log: list[int], user: int) -> None:
        log.append(user)

    def check(log: list[int]) -> None:
        assert sorted(log) == [0, 1, 2]

    return Scenario(list, arrive, check)


@case(FOUND, kind="exception", says="PermissionError")
def user_is_refused_in_some_orders() -> Scenario[State]:
    """An exception of a user is a failure with its line."""

    async def act(state: State, user: int) -> None:
        state["owner"] = user
        await external("query")
        if state["owner"] != user:
            raise PermissionError(user)  # <- here

    return Scenario(dict, act)


@case(FOUND, kind="deadlock", says="user[")
def users_starve_in_an_async_pool() -> Scenario[asyncio.Queue[int]]:
    """An async set-up; two users want two connections of a pool of two."""

    async def setup() -> asyncio.Queue[int]:
        pool: asyncio.Queue[int] = asyncio.Queue()
        pool.put_nowait(1)
        pool.put_nowait(2)
        await asyncio.sleep(0)
        return pool

    async def work(pool: asyncio.Queue[int], _: int) -> None:
        first = await pool.get()
        await external("query")
        second = await pool.get()  # <- here
        pool.put_nowait(first)
        pool.put_nowait(second)

    return Scenario(setup, work)


@case(PROVEN)
def users_share_an_async_pool() -> Scenario[asyncio.Queue[int]]:
    """The safe twin; the pool is a context manager that is left after the check."""

    @asynccontextmanager
    async def setup() -> AsyncIterator[asyncio.Queue[int]]:
        pool: asyncio.Queue[int] = asyncio.Queue()
        pool.put_nowait(1)
        yield pool
        assert pool.qsize() == 1

    async def work(pool: asyncio.Queue[int], _: int) -> None:
        connection = await pool.get()
        await external("query")
        pool.put_nowait(connection)

    # A context manager is itself a state; its type is what it yields.
    factory: Any = setup
    return Scenario(factory, work)


@case(INCONCLUSIVE, says="setup failed: KeyError")
def set_up_fails() -> Scenario[State]:
    """A failing set-up is a failure with its line, and not a proof."""

    def setup() -> State:
        return {"n": State()["missing"]}  # <- here

    async def work(state: State, _: int) -> None:
        del state

    return Scenario(setup, work)


# -- invariants ----------------------------------------------------------------------


@case(FOUND, kind="invariant")
async def breach_is_healed_before_the_end() -> None:
    """Money is missing between two writes; the invariant's line is named."""
    account = {"a": 1, "b": 0}

    def whole() -> None:
        assert sum(account.values()) == 1  # <- here

    invariant(whole)
    account["a"] -= 1
    await external("bank")
    account["b"] += 1


@case(FOUND, kind="invariant", says="invariant: assert len(inside) < 1  # <- here  at ")
async def bare_assert_in_an_invariant_is_told_by_its_line() -> None:
    """Without a message of its own the line is what a reader needs."""
    inside: list[int] = []

    def nobody() -> None:
        assert len(inside) < 1  # <- here

    invariant(nobody)
    inside.append(0)
    await external("work")


@case(FOUND, kind="invariant", says="Gate.is_free is False: def is_free(self) -> bool:")
async def broken_method_is_told_by_its_name_and_line() -> None:
    """A method and a partial have a line as well."""

    class Gate:
        inside = 0

        def is_free(self) -> bool:
            return not self.inside

    gate = Gate()
    invariant(partial(Gate.is_free, gate))
    gate.inside = 1
    await external("work")


@case(
    FOUND, kind="assertion", says="assertion: assert sum(account) == 1  # <- here  at "
)
async def bare_assert_is_told_by_its_line() -> None:
    """Without the rewriting of pytest, the source line says what was expected."""
    account = [1, 0]
    account[0] -= 1
    await external("bank")
    assert sum(account) == 1  # <- here


@case(PROVEN)
async def nothing_is_missing_between_two_steps() -> None:
    """The safe twin."""
    account = {"a": 1, "b": 0}
    invariant(lambda: sum(account.values()) == 1)
    await external("bank")
    account["a"] -= 1
    account["b"] += 1


@case(
    FOUND,
    kind="invariant",
    says=(
        "<lambda> is False: invariant(lambda: len(inside) < 2)",
        "programs_users.py:",
    ),
)
async def breach_needs_an_order() -> None:
    """Two inside at once, in some orders only."""
    inside: list[int] = []
    invariant(lambda: len(inside) < 2)

    async def work(user: int) -> None:
        await external("arrive")
        inside.append(user)
        await external("work")
        inside.remove(user)

    await asyncio.gather(work(0), work(1))


@case(PROVEN)
async def one_is_inside_at_a_time() -> None:
    """The safe twin."""
    inside, lock = list[int](), asyncio.Lock()
    invariant(lambda: len(inside) < 2)

    async def work(user: int) -> None:
        await external("arrive")
        async with lock:
            inside.append(user)
            await external("work")
            inside.remove(user)

    await asyncio.gather(work(0), work(1))


@case(FOUND, kind="invariant", says="KeyError")
async def invariant_raises_something_else() -> None:
    """An invariant that cannot be computed does not hold."""
    state = {"owner": "alice"}

    def owned() -> bool:
        return bool(state["owner"])  # <- here

    invariant(owned)
    await external("read")
    del state["owner"]
    await external("write")


@case(FOUND, kind="invariant", says="is 0")
async def invariant_is_false_without_being_false() -> None:
    """What is falsy does not hold."""
    left = [1]
    invariant(lambda: left[0])
    await external("buy")
    left[0] -= 1
    await external("pay")


@case(PROVEN)
async def invariant_without_a_result_holds() -> None:
    """A function that only asserts returns None."""
    left = [1]

    def enough() -> None:
        assert left[0] >= 0

    invariant(enough)
    await asyncio.gather(external("buy"), external("pay"))


@case(FOUND, kind="invariant")
async def invariant_is_registered_in_another_order() -> None:
    """In the usual order there is none: user 0 comes first and has no limit."""
    inside: list[int] = []

    def alone() -> None:
        assert len(inside) < 2  # <- here

    async def work(user: int) -> None:
        await external("arrive")
        if user == 1 and not inside:
            invariant(alone)
        inside.append(user)
        await external("work")

    await asyncio.gather(work(0), work(1))
