"""Fencing and leases on real services: what an overtaken leader writes is refused."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from app.cache import Lease
from app.control import Candidate, Desk, Election, PhrasePlanner, reconcile
from app.control.elections import PostgresTerm
from app.settings import Settings
from app.storage import (
    ControlKey,
    Leadership,
    StaleLeaderError,
    draw_epoch,
    find_node_set,
)
from tests.integration.control.control_twins import (
    CarelessLease,
    GlancingDesk,
    RestartingLease,
    UnfencedDesk,
)
from tests.integration.control.world import LIMIT_S, World, overtaken

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def _desk(world: World, kind: type[Desk]) -> Desk:
    return kind(world.sessions, world.context, PhrasePlanner())


async def _elect(world: World, name: str) -> Leadership:
    async with world.engine.begin() as connection:
        return await draw_epoch(connection, name, "test")


# -- a leader that was overtaken --------------------------------------------------------


async def _write_after_another(world: World, kind: type[Desk]) -> list[tuple[int, int]]:
    """Let a new leader and then the old one work; return who wrote after whom."""
    desk, name = _desk(world, kind), f"test-{uuid4().hex}"
    (ada,) = await world.add_users(1)
    old = await _elect(world, name)
    new = await _elect(world, name)
    for leadership in (new, old):
        intent = await world.submit(ada, "add 1 node to web")
        try:
            await reconcile(
                desk, ControlKey(ada, "intent", intent.intent_id), leadership
            )
        except StaleLeaderError:
            assert leadership is old
    return overtaken(await world.epochs_of(ada))


async def test_overtaken_leader_writes_nothing(world: World) -> None:
    """What a leader reconciles after another was elected is not written."""
    assert await _write_after_another(world, Desk) == []


@pytest.mark.power
async def test_election_without_fencing_is_found(world: World) -> None:
    """Where nobody shows an epoch, an old leader writes after a new one."""
    assert await _write_after_another(world, UnfencedDesk) == [(2, 1)]


async def _elected_meanwhile(world: World, kind: type[Desk]) -> bool:
    """Return whether one is elected while another leader's transaction is open."""
    name = f"test-{uuid4().hex}"
    (ada,) = await world.add_users(1)
    old = await _elect(world, name)
    async with world.elections.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        async with _desk(world, kind).writing(ada, old):
            electing = asyncio.create_task(draw_epoch(connection, name, "test"))
            # In a task of its own: one that has a connection asks for no second one.
            is_elected = await asyncio.create_task(_ends_unheld(world, electing, pid))
        async with asyncio.timeout(LIMIT_S):
            assert (await electing).epoch == old.epoch + 1
    return is_elected


async def _ends_unheld(world: World, work: asyncio.Task[Any], pid: int) -> bool:
    """Wait until some work of a session has ended (True) or waits for a lock."""
    held = text("SELECT count(*) FROM pg_locks WHERE pid = :pid AND NOT granted")
    async with asyncio.timeout(LIMIT_S), world.sessions.for_control() as watching:
        while not work.done():
            if await watching.scalar(held, {"pid": pid}):
                return False
            await asyncio.sleep(0.01)
    return True


async def test_new_leader_waits_for_the_last_write(world: World) -> None:
    """Nobody is elected in the middle of a leader's transaction."""
    assert not await _elected_meanwhile(world, Desk)


@pytest.mark.power
async def test_epoch_that_is_only_looked_at_is_found(world: World) -> None:
    """An epoch that is read and not held lets a new leader in between."""
    assert await _elected_meanwhile(world, GlancingDesk)


async def _nothing(_: AsyncConnection) -> None:
    """Be idle, as a process that is stopped between two statements."""


async def _half_a_statement(connection: AsyncConnection) -> None:
    """Say what is to be done and not do it, as one that is stopped in a statement.

    The driver looks at what the server makes of a statement before it executes it. The
    session is not idle then: the server waits for the rest.
    """
    raw = await connection.get_raw_connection()
    assert raw.driver_connection is not None
    await raw.driver_connection.prepare("SELECT count(*) FROM node_sets")


Half = Callable[[AsyncConnection], Awaitable[None]]


@pytest.mark.parametrize("stop", [_nothing, _half_a_statement])
async def test_stopped_transaction_does_not_keep_a_leader_out(
    world: World, stop: Half
) -> None:
    """A leader that is stopped in a transaction loses it, and another is elected."""
    name = f"test-{uuid4().hex}"
    (ada,) = await world.add_users(1)
    old = await _elect(world, name)

    elected: list[Leadership] = []

    async def write_late() -> None:
        async with world.desk.writing(ada, old) as context, asyncio.timeout(LIMIT_S):
            await stop(await context.database.connection())
            # Until the server ends the transaction.
            elected.append(await asyncio.create_task(_elect(world, name)))
            await find_node_set(context, "web")

    with pytest.raises(DBAPIError):
        await write_late()
    assert [new.epoch for new in elected] == [old.epoch + 1]


@pytest.mark.parametrize("stop", [_nothing, _half_a_statement])
async def test_stopped_session_does_not_keep_a_leader_out(
    world: World, stop: Half
) -> None:
    """Who is stopped as a leader loses the lock, and another is elected."""
    election = world.election("postgres", f"test-{uuid4().hex}", 0.6)
    first = await election.stand()
    assert isinstance(first, PostgresTerm)
    await stop(first.connection)

    second = None
    async with asyncio.timeout(LIMIT_S):
        while second is None:
            await asyncio.sleep(0.05)
            second = await asyncio.create_task(election.stand())

    assert second.leadership.epoch == first.leadership.epoch + 1
    assert not await first.renew()
    await second.resign()
    await first.resign()


async def test_session_that_did_not_lead_has_its_limits_again(world: World) -> None:
    """Who stood in vain gives back a session without the limits of a leader."""
    election = world.election("postgres", f"test-{uuid4().hex}", 0.6)
    asked = text(
        "SELECT current_setting('idle_session_timeout'), "
        "current_setting('transaction_timeout', true)"
    )
    async with world.elections.connect() as connection:
        before = (await connection.execute(asked)).one()
    term = await election.stand()
    assert term is not None
    for _ in range(4):
        assert await asyncio.create_task(election.stand()) is None
    async with world.elections.connect() as connection:
        assert (await connection.execute(asked)).one() == before
    await term.resign()


# -- elections --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["postgres", "redis"])
async def test_one_of_several_candidates_leads(world: World, kind: str) -> None:
    """Of eight who stand again and again one works at a time, each with a new epoch."""
    name = f"test-{uuid4().hex}"
    stopping, terms, working = asyncio.Event(), list[int](), set[int]()
    beside: list[tuple[int, set[int]]] = []

    async def work(leadership: Leadership) -> None:
        if working:
            beside.append((leadership.epoch, set(working)))
        working.add(leadership.epoch)
        terms.append(leadership.epoch)
        try:
            await asyncio.sleep(0.01)
        finally:
            working.discard(leadership.epoch)
        if len(terms) >= 12:
            stopping.set()

    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(
            *(
                Candidate(world.election(kind, name, 2.0)).run(work, stopping=stopping)
                for _ in range(8)
            )
        )

    assert beside == []
    assert terms == sorted(set(terms))


async def _leads_until_lost(
    election: Election, lose: Callable[[], Awaitable[object]]
) -> bool:
    """Return whether the work of a term ends when the election is lost."""
    stopping, cancelled, begun = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(_: Leadership) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            stopping.set()
            raise

    leading = asyncio.create_task(Candidate(election).run(work, stopping=stopping))
    async with asyncio.timeout(LIMIT_S):
        await begun.wait()
        await lose()
        await leading
    return cancelled.is_set()


async def test_lost_session_ends_the_work(world: World, settings: Settings) -> None:
    """When the session that has the lock is gone, the work is cancelled."""
    name = f"test-{uuid4().hex}"
    election = world.election("postgres", name, 0.6)

    async def lose() -> None:
        owner = create_async_engine(settings.owner_database_url, poolclass=NullPool)
        async with owner.connect() as connection:
            ended = await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = "
                    "'advisory' AND (classid::bigint << 32 | objid::bigint) "
                    "= hashtextextended(:name, 0)"
                ),
                {"name": name},
            )
            assert ended.scalars().all() == [True]

    assert await _leads_until_lost(election, lose)


async def test_lost_lease_ends_the_work(world: World) -> None:
    """When the lease is gone, the work is cancelled."""
    name = f"test-{uuid4().hex}"
    election = world.election("redis", name, 0.6)

    assert await _leads_until_lost(
        election, lambda: world.redis.delete(f"{name}:holder")
    )


# -- leases in Redis --------------------------------------------------------------------


def _lease(world: World, kind: type[Lease] = Lease, *, ttl_s: float = 30) -> Lease:
    return kind(world.redis, f"test-{uuid4().hex}", ttl_s)


async def test_lease_is_held_by_one_of_fifty(world: World) -> None:
    """Of fifty who ask at one time one gets it, and their tokens grow from term to term."""
    lease, tokens = _lease(world), list[int]()

    for _ in range(10):
        holders = [secrets.token_hex(4) for _ in range(50)]
        answers = await asyncio.gather(*(lease.acquire(holder) for holder in holders))
        granted = [(h, t) for h, t in zip(holders, answers, strict=True) if t]
        assert len(granted) == 1
        tokens.append(granted[0][1])
        assert await lease.release(granted[0][0])

    assert tokens == sorted(set(tokens))


async def _keeps_its_lease(world: World, kind: type[Lease]) -> bool:
    """Return whether a holder keeps its lease when one of before releases."""
    lease = _lease(world, kind)
    await lease.acquire("ada")
    await world.redis.delete(f"{lease.name}:holder")  # it has ended by itself
    await lease.acquire("bob")
    await lease.release("ada")
    return await lease.renew("bob")


async def test_lease_is_not_released_by_another(world: World) -> None:
    """Who held a lease that has ended does not end that of the next."""
    assert await _keeps_its_lease(world, Lease)


@pytest.mark.power
async def test_release_without_comparing_is_found(world: World) -> None:
    """A release that deletes whatever there is ends another's lease."""
    assert not await _keeps_its_lease(world, CarelessLease)


async def test_lease_that_has_ended_is_not_renewed(world: World) -> None:
    """A lease ends by itself, and then nobody renews it."""
    lease = _lease(world, ttl_s=0.05)
    await lease.acquire("ada")
    async with asyncio.timeout(LIMIT_S):
        while await world.redis.exists(f"{lease.name}:holder"):  # noqa: ASYNC110  # the server's clock
            await asyncio.sleep(0.01)

    assert not await lease.renew("ada")


async def _goes_on_above(world: World, kind: type[Lease]) -> bool:
    """Return whether tokens go on growing when Redis has forgotten all."""
    lease = _lease(world, kind)
    first = [await lease.acquire("ada"), await lease.release("ada")]
    last = await lease.acquire("ada")
    assert first[0] is not None
    assert last is not None
    await world.redis.delete(f"{lease.name}:holder", f"{lease.name}:token")
    again = await lease.acquire("bob", above=last)
    return again is not None and again > last


async def test_tokens_grow_when_redis_forgets(world: World) -> None:
    """A token is larger than what the database knows of, whatever Redis has lost."""
    assert await _goes_on_above(world, Lease)


@pytest.mark.power
async def test_tokens_of_redis_alone_are_found(world: World) -> None:
    """Tokens that only Redis counts begin again when it has lost its data."""
    assert not await _goes_on_above(world, RestartingLease)
