"""Values that are read, awaited about, and written back."""

import asyncio
import collections
import logging
from dataclasses import dataclass, field

from tests.unit.detect.access.twins.pair import Pair

_LOG = logging.getLogger(__name__)


@dataclass
class Quota:
    """A limit that all share."""

    used: int = 0
    log: list[str] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


async def spend(quota: Quota, _: int) -> None:
    used = quota.used
    await asyncio.sleep(0)
    quota.used = used + 1


async def spend_under_lock(quota: Quota, _: int) -> None:
    async with quota.lock:
        used = quota.used
        await asyncio.sleep(0)
        quota.used = used + 1


async def spend_in_two_sections(quota: Quota, _: int) -> None:
    async with quota.lock:
        used = quota.used
    await asyncio.sleep(0)
    async with quota.lock:
        quota.used = used + 1


async def spend_at_once(quota: Quota, _: int) -> None:
    await asyncio.sleep(0)
    quota.used = quota.used + 1
    await asyncio.sleep(0)
    _LOG.info("%s used", quota.used)


async def add_awaited(quota: Quota, user: int) -> None:
    quota.used += await asyncio.sleep(0, user)


async def await_and_add(quota: Quota, user: int) -> None:
    amount = await asyncio.sleep(0, user)
    quota.used += amount
    await asyncio.sleep(0)
    quota.used -= amount


async def check_then_add(quota: Quota, _: int) -> None:
    if quota.used < 2:
        await asyncio.sleep(0)
        quota.used += 1


async def add_then_check(quota: Quota, _: int) -> None:
    quota.used += 1
    if quota.used > 2:
        quota.used -= 1
        return
    await asyncio.sleep(0)


@dataclass
class Accounts:
    """Balances by name."""

    balances: dict[str, int] = field(default_factory=lambda: {"shared": 10})
    by_user: collections.defaultdict[int, int] = field(
        default_factory=lambda: collections.defaultdict(int)
    )


async def withdraw(accounts: Accounts, user: int) -> None:
    balance = accounts.balances["shared"]
    await asyncio.sleep(0)
    accounts.balances["shared"] = balance - user


async def withdraw_at_once(accounts: Accounts, user: int) -> None:
    await asyncio.sleep(0)
    accounts.balances["shared"] -= user
    accounts.balances[f"of {user}"] = accounts.balances.get(f"of {user}", 0) + user
    before = accounts.by_user[user]
    await asyncio.sleep(0)
    accounts.by_user[user] = before + 1


async def make_if_missing(accounts: Accounts, user: int) -> None:
    if "made" not in accounts.balances:
        await asyncio.sleep(0)
        accounts.balances["made"] = user


async def make_if_missing_checked_again(accounts: Accounts, user: int) -> None:
    if "made" not in accounts.balances:
        await asyncio.sleep(0)
        if "made" not in accounts.balances:
            accounts.balances["made"] = user


PAIRS = {
    "read await write": Pair(Quota, spend, spend_under_lock, "shared-update-lost"),
    "two short sections": Pair(
        Quota, spend_in_two_sections, spend_at_once, "shared-update-lost"
    ),
    "add an awaited value": Pair(
        Quota, add_awaited, await_and_add, "shared-update-lost"
    ),
    "check then add": Pair(Quota, check_then_add, add_then_check, "shared-update-lost"),
    "key of a dictionary": Pair(
        Accounts, withdraw, withdraw_at_once, "shared-update-lost"
    ),
    "make if missing": Pair(
        Accounts, make_if_missing, make_if_missing_checked_again, "shared-update-lost"
    ),
}
