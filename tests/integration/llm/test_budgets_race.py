"""Budgets of tokens on real Redis: a hundred runs at one time never overspend."""

import asyncio
import dataclasses

import pytest
from redis.asyncio import Redis

from app.context import UserExecutionContext
from app.llm import BudgetError, TokenBudgets
from tests.integration.llm.conftest import user_context
from tests.integration.llm.llm_twins import (
    ChecksThenCounts,
    KeepsDeadReservations,
    ReservesWithoutAnId,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]

RUNS = 100
TOKENS = 50
ROOM = 20
"""Calls that fit into a user's budget."""


def budgets_of(
    redis: Redis,
    kind: type[TokenBudgets] = TokenBudgets,
    *,
    run_tokens: int = 10_000,
    reserved_s: int = 60,
) -> TokenBudgets:
    """Return budgets with room for twenty calls of a user."""
    return kind(
        redis,
        user_tokens=ROOM * TOKENS,
        run_tokens=run_tokens,
        reserved_s=reserved_s,
    )


async def spend(
    budgets: TokenBudgets, context: UserExecutionContext, *, used: int = TOKENS
) -> int:
    """Let a hundred runs of a user make a call each, and return how many could.

    Those who could hold their tokens until everyone has asked.
    """
    waiting, all_asked = RUNS, asyncio.Event()

    def has_asked() -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            all_asked.set()

    async def call(number: int) -> bool:
        run = dataclasses.replace(context, run_id=f"run-{number}")
        try:
            async with budgets.reserved(run, TOKENS) as held:
                has_asked()
                await all_asked.wait()
                held.used = used
        except BudgetError:
            has_asked()
            return False
        return True

    return sum(await asyncio.gather(*map(call, range(RUNS))))


async def test_hundred_runs_never_overspend(redis: Redis) -> None:
    """As many calls as fit are made, whoever comes first, and no more."""
    budgets, context = budgets_of(redis), user_context(redis)

    made = await spend(budgets, context)

    assert made == ROOM
    assert await budgets.spent(context) == ROOM * TOKENS
    with pytest.raises(BudgetError, match="and 0 are left of your budget"):
        await budgets.reserve(context, 1)


@pytest.mark.power
async def test_check_before_counting_is_caught(redis: Redis) -> None:
    """Runs that look first all find room, and spend more than there is."""
    budgets, context = budgets_of(redis, ChecksThenCounts), user_context(redis)

    made = await spend(budgets, context)

    assert made > ROOM
    assert await budgets.spent(context) > ROOM * TOKENS


async def test_what_was_not_used_is_given_back(redis: Redis) -> None:
    """A call that cost less than it could have leaves the rest to others."""
    budgets, context = budgets_of(redis), user_context(redis)

    made = [await spend(budgets, context, used=10) for _ in range(2)]

    # 20 hold 50 each and spend 10, so 800 of 1,000 are left: room for 16 at once.
    assert made == [ROOM, 16]
    assert await budgets.spent(context) == 360


async def test_fifty_users_have_budgets_of_their_own(redis: Redis) -> None:
    """What one user spends is not missing from another's budget."""
    budgets = budgets_of(redis)
    contexts = [user_context(redis) for _ in range(50)]

    async def spend_all(context: UserExecutionContext) -> int:
        async with budgets.reserved(context, ROOM * TOKENS):
            return await budgets.spent(context)

    assert await asyncio.gather(*map(spend_all, contexts)) == [0] * 50
    spent = await asyncio.gather(*map(budgets.spent, contexts))
    assert spent == [ROOM * TOKENS] * 50


async def test_run_has_a_budget_within_the_users(redis: Redis) -> None:
    """A run that used up its budget is refused, another run of the user is not."""
    budgets = budgets_of(redis, run_tokens=100)
    context = user_context(redis, run_id="first")
    other = dataclasses.replace(context, run_id="other")
    async with budgets.reserved(context, 80):
        pass

    with pytest.raises(BudgetError, match="20 are left of this run's budget"):
        await budgets.reserve(context, 30)

    await budgets.reserve(other, 30)


class _SlowToSettle(TokenBudgets):
    """Needs a while before it settles."""

    async def settle(
        self, context: UserExecutionContext, number: str, used: int
    ) -> bool:
        await asyncio.sleep(0.02)
        return await super().settle(context, number, used)


async def test_cancelled_call_is_counted(redis: Redis) -> None:
    """A call that is cancelled, and once more while it settles, is settled first."""
    budgets, context = budgets_of(redis, _SlowToSettle), user_context(redis)
    entered = asyncio.Event()

    async def call() -> None:
        async with budgets.reserved(context, 30) as held:
            held.used = 1
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(call())
    await entered.wait()
    task.cancel()
    await asyncio.sleep(0)  # it settles
    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()
    assert await budgets.spent(context) == 1
    await budgets.reserve(context, ROOM * TOKENS - 1)


async def _leave_while_reserving(
    redis: Redis, kind: type[TokenBudgets] = TokenBudgets
) -> list[bool]:
    """Let fifty users leave, each a step of the loop later than the one before.

    A call that holds its tokens uses none.

    Returns:
        Whether each user has the whole budget left.
    """
    budgets = budgets_of(redis, kind)

    async def call(context: UserExecutionContext) -> None:
        async with budgets.reserved(context, 30) as held:
            held.used = 0
            await asyncio.sleep(0)

    async def leave(steps: int) -> bool:
        context = user_context(redis)
        task = asyncio.create_task(call(context))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        try:
            await budgets.reserve(context, ROOM * TOKENS)
        except BudgetError:
            return False
        return True

    return [await leave(steps) for steps in range(50)]


async def test_who_leaves_while_reserving_holds_nothing(redis: Redis) -> None:
    """Redis may have reserved by then, or do it yet: either is given back."""
    assert all(await _leave_while_reserving(redis))


@pytest.mark.power
async def test_reservation_lost_to_a_cancellation_is_caught(redis: Redis) -> None:
    """Whoever learns the id with the answer cannot give back what is on its way."""
    assert not all(await _leave_while_reserving(redis, ReservesWithoutAnId))


async def test_settling_again_counts_once(redis: Redis) -> None:
    """A client that lost the answer may settle again."""
    budgets, context = budgets_of(redis), user_context(redis)
    number = await budgets.reserve(context, 30)

    assert await budgets.settle(context, number, 20)
    assert not await budgets.settle(context, number, 20)

    assert await budgets.spent(context) == 20


async def _is_freed(budgets: TokenBudgets, context: UserExecutionContext) -> bool:
    """Let a run die with most of the budget; see whether it comes back in time.

    The user makes small calls meanwhile: what is kept of the user does not end with
    silence, only each reservation by itself.
    """
    most = ROOM * TOKENS - 100
    await budgets.reserve(context, most)
    for _ in range(30):
        await asyncio.sleep(0.1)
        await budgets.reserve(context, 1)
        try:
            await budgets.reserve(context, most)
        except BudgetError:
            continue
        return True
    return False


async def test_reservation_of_a_dead_run_runs_out(redis: Redis) -> None:
    """Tokens that nobody settles are free again after their time."""
    budgets, context = budgets_of(redis, reserved_s=1), user_context(redis)

    assert await _is_freed(budgets, context)


@pytest.mark.power
async def test_reservation_kept_for_ever_is_seen(redis: Redis) -> None:
    """Without an end a dead run shuts its user out."""
    budgets = budgets_of(redis, KeepsDeadReservations)

    assert not await _is_freed(budgets, user_context(redis))
