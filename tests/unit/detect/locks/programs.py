"""Small programs that deadlock, or could, each beside a sibling that never does."""

import asyncio


async def use_both(
    first: asyncio.Lock, second: asyncio.Lock, *, turns: int = 1
) -> None:
    """Hold one lock and take another."""
    async with first:
        for _ in range(turns):
            await asyncio.sleep(0)
        async with second:
            pass


async def crosswise_at_once() -> None:
    """Two tasks take two locks in opposite orders, and meet in between."""
    accounts, orders = asyncio.Lock(), asyncio.Lock()
    await asyncio.gather(use_both(accounts, orders), use_both(orders, accounts))


async def same_way_at_once() -> None:
    """Two tasks take two locks in one order."""
    accounts, orders = asyncio.Lock(), asyncio.Lock()
    await asyncio.gather(use_both(accounts, orders), use_both(accounts, orders))


async def crosswise_in_turn() -> None:
    """Two tasks take two locks in opposite orders, one after the other."""
    accounts, orders = asyncio.Lock(), asyncio.Lock()
    await asyncio.create_task(use_both(accounts, orders))
    await asyncio.create_task(use_both(orders, accounts))


async def same_way_in_turn() -> None:
    """Two tasks take two locks in one order, one after the other."""
    accounts, orders = asyncio.Lock(), asyncio.Lock()
    await asyncio.create_task(use_both(accounts, orders))
    await asyncio.create_task(use_both(accounts, orders))


async def crosswise_under_a_gate() -> None:
    """Opposite orders, but one lock around both lets in one task at a time."""
    gate, accounts, orders = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()

    async def guarded(first: asyncio.Lock, second: asyncio.Lock) -> None:
        async with gate:
            await use_both(first, second)

    await asyncio.gather(guarded(accounts, orders), guarded(orders, accounts))


async def crosswise_under_two_gates() -> None:
    """Opposite orders under different gates, which guard nothing."""
    accounts, orders = asyncio.Lock(), asyncio.Lock()

    async def guarded(first: asyncio.Lock, second: asyncio.Lock) -> None:
        async with asyncio.Lock():
            await use_both(first, second)

    await asyncio.create_task(guarded(accounts, orders))
    await asyncio.create_task(guarded(orders, accounts))


async def three_in_a_ring() -> None:
    """Three tasks in turn take three locks in a ring; no pair is reversed."""
    one, two, three = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
    for first, second in ((one, two), (two, three), (three, one)):
        await asyncio.create_task(use_both(first, second))


async def three_in_a_row() -> None:
    """Three tasks in turn take three locks in one order."""
    one, two, three = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
    for first, second in ((one, two), (two, three), (one, three)):
        await asyncio.create_task(use_both(first, second))
