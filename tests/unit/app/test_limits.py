"""Slots by user: shares, turns, and what is refused."""

import asyncio

import pytest

from app.llm import UserLimits
from tests.unit.app.llm_twins import FirstComeFirstServed


async def _order(limits: UserLimits, users: str) -> str:
    """Let users come in this order and return the order in which they are served."""
    served: list[str] = []

    async def call(user: str) -> None:
        async with limits.slot(user):
            served.append(user)
            await asyncio.sleep(0)

    await asyncio.gather(*map(call, users))
    return "".join(served)


async def test_users_take_turns() -> None:
    """A user with a long queue is served once in each round, like all others."""
    assert await _order(UserLimits(total=2, per_user=1), "aaaabbc") == "abcabaa"


@pytest.mark.power
async def test_long_queue_served_first_is_seen() -> None:
    """Without shares the user with the long queue takes both slots."""
    limits = FirstComeFirstServed(total=2, per_user=1)

    assert (await _order(limits, "aaaabbc"))[:2] == "aa"


async def test_user_with_all_slots_is_refused() -> None:
    """Limits under which one user could take all are no limits."""
    with pytest.raises(ValueError, match="per_user=5: per_user must be"):
        UserLimits(total=5, per_user=5)


async def test_failed_call_gives_its_slot_back() -> None:
    """An error within the block frees the slot for the next."""
    limits = UserLimits(total=2, per_user=1)

    with pytest.raises(ZeroDivisionError):
        async with limits.slot("ada"):
            raise ZeroDivisionError

    async with asyncio.timeout(5), limits.slot("ada"):
        assert limits.held == {"ada": 1}
    assert limits.free == 2
