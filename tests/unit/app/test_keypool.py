"""The key pool under every order, cancellation and a hundred holders."""

import asyncio
from collections import Counter
from typing import Self

import pytest

from app.security import KeyPool, KeysRestError, NoKeyLeftError
from test_framework.explore import Report, Scenario, explore, external, invariant
from tests.unit.app.exploring import USERS_ALONE, assert_found
from tests.unit.app.keypool_twins import (
    LastFirst,
    LendsTwice,
    LosesLeases,
    Quiet,
    TakesRevokedBack,
)

Kind = type[KeyPool[str]]


class _Holders:
    """Who holds which key.

    Attributes:
        held: Holders of each key (count).
        pool: What lends the keys.
    """

    def __init__(self, kind: Kind) -> None:
        self.held: Counter[str] = Counter()
        self._kind = kind

    async def __aenter__(self) -> Self:
        self.pool = self._kind(["key"])
        invariant(self._is_exclusive)
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:
            # Waits for ever, which is found as a deadlock, unless the key came back.
            async with self.pool.lease():
                pass

    async def work(self) -> None:
        """Use a key for one round trip."""
        async with self.pool.lease() as lease:
            self.held[lease.key] += 1
            try:
                await external("call")
            finally:
                self.held[lease.key] -= 1

    def _is_exclusive(self) -> bool:
        return max(self.held.values(), default=0) <= 1


def _explored(kind: Kind, *, cancel: str | bool = False) -> Report:
    async def hold(holders: _Holders, user: int) -> None:
        del user
        await holders.work()

    scenario = Scenario(lambda: _Holders(kind), hold, users=3)
    return explore(scenario, fidelity="await", cancel=cancel, schedules=200, seed=1)


def test_exclusive_key_has_one_holder() -> None:
    """Under no order do two hold one key at a time."""
    report = _explored(KeyPool)

    assert report.witness is None, report.text()


def test_cancelled_holders_and_waiters_lose_no_key() -> None:
    """Whoever leaves, and whenever, the key is there for the next."""
    report = _explored(KeyPool, cancel=USERS_ALONE)

    assert report.witness is None, report.text()


@pytest.mark.power
def test_key_that_is_lent_twice_is_found() -> None:
    """A twin that waits between the look and the taking lends a key to two."""
    assert_found(_explored(LendsTwice), "invariant")


@pytest.mark.power
def test_key_lost_with_a_cancelled_waiter_is_found() -> None:
    """A twin that serves a waiter who has left never sees the key again."""
    assert_found(_explored(LosesLeases, cancel=USERS_ALONE), "deadlock")


async def crowd(pool: KeyPool[str], holders: int) -> tuple[int, list[int]]:
    """Let a hundred users work, with cancellations; return the most holders of a key.

    Returns:
        The greatest number of holders that one key had, and the order of service.
    """
    held: Counter[str] = Counter()
    most, order = 0, []

    async def work(user: int) -> None:
        nonlocal most
        async with pool.lease() as lease:
            held[lease.key] += 1
            most = max(most, held[lease.key])
            order.append(user)
            try:
                await asyncio.sleep(0)
            finally:
                held[lease.key] -= 1

    users = [asyncio.create_task(work(user)) for user in range(100)]
    for user in users[5::7]:
        await asyncio.sleep(0)
        user.cancel()
    await asyncio.gather(*users, return_exceptions=True)
    assert most <= holders
    return most, order


@pytest.mark.parametrize("holders", [1, 3])
async def test_hundred_users_share_few_keys_in_order(holders: int) -> None:
    """Each key has as many holders as it may, and who came first is served first."""
    pool = KeyPool([f"key {n}" for n in range(4)], holders=holders)

    most, order = await crowd(pool, holders)

    assert most == holders
    assert order == sorted(order)
    assert len(order) >= 85
    assert max(pool.uses.values()) - min(pool.uses.values()) <= 2


@pytest.mark.power
async def test_last_come_first_served_is_caught() -> None:
    """A twin that serves the last one lets the first ones wait."""
    _, order = await crowd(LastFirst(["key"]), 1)

    assert order != sorted(order)


async def revoked_while_held(pool: KeyPool[str]) -> tuple[bool, list[str]]:
    """Revoke a key while it is held and wanted.

    Returns:
        Whether the holder was told, and which keys were lent afterwards.
    """
    lent: list[str] = []
    is_revoked = asyncio.Event()

    async def wait() -> None:
        async with pool.lease() as lease:
            lent.append(lease.key)

    async with pool.lease() as other:
        async with pool.lease() as lease:
            waiting = [asyncio.create_task(wait()) for _ in range(3)]
            await asyncio.sleep(0)
            pool.revoke(lease.key)
            if lease.revoked.is_set():
                is_revoked.set()
            assert lent == []
            assert not other.revoked.is_set()
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    return is_revoked.is_set(), lent


async def test_revoked_key_is_lent_no_more() -> None:
    """Its holder is told, the others get other keys, and it cannot come back."""
    pool = KeyPool(["b", "a"])

    is_told, lent = await revoked_while_held(pool)

    assert is_told
    assert len(set(lent)) == 1
    (revoked,) = {"a", "b"} - set(lent)
    assert list(pool.uses) == lent[:1]
    with pytest.raises(ValueError, match="revoked"):
        pool.add(revoked)


@pytest.mark.power
async def test_revoked_key_that_comes_back_is_caught() -> None:
    """A twin that takes back what was revoked lends it again."""
    _, lent = await revoked_while_held(TakesRevokedBack(["b", "a"]))

    assert len(set(lent)) == 2


@pytest.mark.power
async def test_holder_that_is_not_told_is_caught() -> None:
    """A twin that revokes in silence leaves its holders at work."""
    is_told, _ = await revoked_while_held(Quiet(["b", "a"]))

    assert not is_told


async def test_key_revoked_on_its_way_is_not_taken() -> None:
    """Lent and revoked before the caller woke up: the caller gets another one."""
    pool = KeyPool(["a", "b"])
    async with pool.lease() as first, pool.lease() as second:
        task = asyncio.create_task(anext_key(pool))
        await asyncio.sleep(0)
        pool.add("c")
        pool.revoke("c")
        pool.add("d")

        assert await task == "d"
    assert {first.key, second.key} == {"a", "b"}


async def anext_key(pool: KeyPool[str]) -> str:
    """Return the key that is lent next."""
    async with pool.lease() as lease:
        return lease.key


async def test_key_rests_between_uses() -> None:
    """A key is lent again when its rest is over, and another one meanwhile."""
    now_s = 0.0
    pool = KeyPool(["a"], rest_s=10, clock=lambda: now_s)
    assert await anext_key(pool) == "a"

    waiting = asyncio.create_task(anext_key(pool))
    await asyncio.sleep(0)
    assert not waiting.done()
    pool.add("b")
    assert await waiting == "b"
    now_s = 10.0
    assert await anext_key(pool) == "a"


async def test_rest_that_a_provider_asks_for_is_kept() -> None:
    """A key at its limit rests; who waits is served by the clock, and by nobody."""
    pool = KeyPool(["a"])
    pool.rest("a", 0.02)
    pool.rest("unknown", 1)

    assert await asyncio.wait_for(anext_key(pool), 20) == "a"


async def test_nobody_waits_longer_than_the_pool_says() -> None:
    """Who waits is told when the last key goes to rest, and who comes later at once."""
    now_s = 0.0
    pool = KeyPool(["a", "b"], longest_rest_s=2, clock=lambda: now_s)
    async with pool.lease() as first, pool.lease():
        waiting = asyncio.create_task(anext_key(pool))
        await asyncio.sleep(0)
        pool.rest("a", 5)
        await asyncio.sleep(0)
        assert not waiting.done(), "the other key may come back any time"
        pool.rest("b", 3)
        with pytest.raises(KeysRestError, match=r"rest, 3\.0 s") as told:
            await waiting
    with pytest.raises(KeysRestError) as at_once:
        await anext_key(pool)

    assert (told.value.rest_s, at_once.value.rest_s) == (3.0, 3.0)
    assert first.key == "a"
    now_s = 1.0  # two are left
    waiting = asyncio.create_task(anext_key(pool))
    await asyncio.sleep(0)
    now_s = 3.0
    pool.add("c")
    assert await waiting in {"b", "c"}
    assert pool.resting_s == 0


async def test_pool_without_keys_says_so() -> None:
    """Who waits when the last key is revoked is told, and so is who comes later."""
    pool = KeyPool(["a"])
    async with pool.lease():
        waiting = asyncio.create_task(anext_key(pool))
        await asyncio.sleep(0)
        pool.revoke("a")
        pool.revoke("a")

        with pytest.raises(NoKeyLeftError, match="Add one"):
            await waiting
    with pytest.raises(NoKeyLeftError):
        await anext_key(pool)
