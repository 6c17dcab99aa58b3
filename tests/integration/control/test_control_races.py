"""Races of users and controllers on real Postgres: no intent, no count, no lease twice.

Each race is a function that the sound service and its twin run alike.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from uuid import uuid4

import pytest
from sqlalchemy import func, select

from app.context import UserExecutionContext
from app.control import Change, Controllers, Desk, PhrasePlanner, reconcile
from app.settings import Settings
from app.storage import (
    ConflictError,
    ControlKey,
    NodeSet,
    acquire_lease,
    delete_intent,
    draw_epoch,
    find_node_set,
    list_open_keys,
    read_revision,
    release_lease,
    scale_node_set,
    set_replicas,
    settle_key,
)
from app.storage.tables import audit_log
from tests.integration.control.control_twins import (
    lease_by_looking,
    release_anyones,
    scale_by_reading,
    set_without_version,
)
from tests.integration.control.world import LIMIT_S, World, opened, overtaken, until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

USERS = 100
WORKERS = 50


class _Scale(Protocol):
    def __call__(
        self,
        context: UserExecutionContext,
        name: str,
        *,
        by: int,
        token: int | None = None,
    ) -> Awaitable[NodeSet | None]: ...


class _SetReplicas(Protocol):
    def __call__(
        self,
        context: UserExecutionContext,
        name: str,
        *,
        seen: NodeSet | None,
        replicas: int,
    ) -> Awaitable[NodeSet]: ...


# -- a hundred users and two who want to lead -------------------------------------------


@pytest.mark.parametrize(
    "kind", ["postgres", pytest.param("redis", marks=pytest.mark.long)]
)
async def test_intents_of_a_hundred_users_are_applied_once(
    migrated: Settings, kind: str
) -> None:
    """Two stand for election, a hundred submit at once, and the leader leaves midway.

    Whose turn it is changes hands; each intent is applied once, for its user.
    """
    async with opened(migrated, connections=24) as world:
        users, name = await world.add_users(USERS), f"test-{uuid4().hex}"
        standing = [
            Controllers(
                world.election(kind, name, 2.0),
                sessions=world.sessions,
                planner=PhrasePlanner(),
                workers=4,
            )
            for _ in range(2)
        ]

        async def submit(user_id: str) -> None:
            await world.submit(user_id, "add 1 node to web")
            async with world.work(user_id) as context:
                await scale_node_set(context, "web", by=1)

        try:
            for controllers in standing:
                await controllers.start(world.context)
            submitting = asyncio.gather(*(submit(user_id) for user_id in users))
            await until(lambda: any(one.leadership for one in standing))
            leader = next(one for one in standing if one.leadership)
            await submitting
            await leader.close()
            await world.settled(users)
            ends = [await world.converged(user_id, "web") for user_id in users]
        finally:
            for controllers in standing:
                await controllers.close()
        written = [pair for user_id in users for pair in await world.epochs_of(user_id)]

    assert {(node_set.replicas, *nodes) for node_set, nodes in ends} == {(2, 0, 1)}
    assert len(written) == USERS
    assert overtaken(written) == []


class _Together(PhrasePlanner):
    """Plans when so many have read the same intent."""

    def __init__(self, parties: int) -> None:
        self._barrier = asyncio.Barrier(parties)

    async def plan(self, goal: str) -> Change:
        """Wait for the others."""
        await self._barrier.wait()
        return await super().plan(goal)


async def test_intent_that_ten_work_on_is_applied_once(world: World) -> None:
    """Where a queue would hand one key to several, the version keeps all but one out."""
    (ada,) = await world.add_users(1)
    desk = Desk(world.sessions, world.context, _Together(10))
    leadership = await _elect(world)
    intent = await world.submit(ada, "add 1 node to web")
    key, refused = ControlKey(ada, "intent", intent.intent_id), 0

    async def work() -> None:
        nonlocal refused
        try:
            await reconcile(desk, key, leadership)
        except ConflictError:
            refused += 1

    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*(work() for _ in range(10)))
    async with world.work(ada) as context:
        node_set = await find_node_set(context, "web")

    assert node_set is not None
    assert node_set.replicas == 1
    assert refused == 9


async def test_key_that_changed_meanwhile_stays_open(world: World) -> None:
    """Settled up to the revision that was read, a key that was opened since is listed."""
    (ada,) = await world.add_users(1)
    key = ControlKey(ada, "node-set", "web")

    async def is_open() -> bool:
        async with world.sessions.for_control() as session:
            return key in await list_open_keys(session, limit=100_000)

    async with world.work(ada) as context:
        await scale_node_set(context, "web", by=1)
        read = await read_revision(context, key.kind, key.name)
        assert read is not None
    async with world.work(ada) as context:
        await scale_node_set(context, "web", by=1)
    async with world.work(ada) as context:
        await settle_key(context, key.kind, key.name, read)
    assert await is_open()

    async with world.work(ada) as context:
        await settle_key(context, key.kind, key.name, read + 1)
    assert not await is_open()


async def test_intent_that_is_deleted_is_applied_once_or_never(world: World) -> None:
    """Deleted while it is reconciled, an intent has changed the node set or it has not."""
    (ada,) = await world.add_users(1)
    leadership = await _elect(world)
    submitted = [await world.submit(ada, "add 1 node to web") for _ in range(20)]

    async def withdraw(intent_id: str) -> None:
        async with world.work(ada) as context:
            await delete_intent(context, intent_id)

    async def work(intent_id: str) -> None:
        key = ControlKey(ada, "intent", intent_id)
        while True:
            try:
                await reconcile(world.desk, key, leadership)
            except ConflictError:
                continue
            return

    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(
            *(act(intent.intent_id) for intent in submitted for act in (work, withdraw))
        )
    async with world.work(ada) as context:
        node_set = await find_node_set(context, "web")
        applied = await context.database.scalar(
            select(func.count()).where(
                audit_log.c.user_id == ada, audit_log.c.action == "intent.applied"
            )
        )

    assert (node_set.replicas if node_set else 0) == applied
    assert await world.intents_of(ada) == []


async def test_cancelled_reconciling_leaves_nothing_half_done(world: World) -> None:
    """Cancelled at random instants and begun again, each intent is applied once.

    A step takes some 10 ms; the instants are spread over that in a seeded order.
    """
    (ada,) = await world.add_users(1)
    leadership, instants = await _elect(world), random.Random(6)
    cancelled = 0
    for _ in range(10):
        intent = await world.submit(ada, "add 1 node to web")
        for kind, name in (("intent", intent.intent_id), ("node-set", "web")):
            key = ControlKey(ada, kind, name)  # type: ignore[arg-type]  # one of its kinds
            step = asyncio.create_task(reconcile(world.desk, key, leadership))
            await asyncio.sleep(instants.uniform(0, 0.01))
            cancelled += step.cancel()
            await asyncio.gather(step, return_exceptions=True)
            await reconcile(world.desk, key, leadership)
    node_set, nodes = await world.converged(ada, "web")

    assert cancelled > 3
    assert node_set.replicas == 10
    assert nodes == list(range(10))
    assert world.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # every queue pool has it


# -- one number, fifty workers ----------------------------------------------------------


async def _scaled_by_fifty(world: World, scale: _Scale) -> list[int]:
    """Let fifty workers want one node more, and return what they were told."""
    (ada,) = await world.add_users(1)
    async with world.work(ada) as context:
        assert await scale_node_set(context, "web", by=0) is not None

    async def work() -> int:
        async with world.work(ada) as context:
            node_set = await scale(context, "web", by=1)
            return node_set.replicas if node_set else -1

    return sorted(await asyncio.gather(*(work() for _ in range(WORKERS))))


async def test_fifty_scale_one_node_set(world: World) -> None:
    """Each of fifty who scale at one time is told a number of its own, up to fifty."""
    assert await _scaled_by_fifty(world, scale_node_set) == list(range(1, WORKERS + 1))


@pytest.mark.power
async def test_scaling_by_reading_is_found(world: World) -> None:
    """Read, add and write tells several workers the same number."""
    told = await _scaled_by_fifty(world, scale_by_reading)

    assert len(set(told)) < WORKERS


async def _set_by_twenty(world: World, write: _SetReplicas) -> int:
    """Let twenty read, add one and write, again where it has changed; return the end."""
    (ada,) = await world.add_users(1)

    async def work() -> None:
        while True:
            try:
                async with world.work(ada) as context:
                    seen = await find_node_set(context, "web")
                    replicas = (seen.replicas if seen else 0) + 1
                    await write(context, "web", seen=seen, replicas=replicas)
            except ConflictError:
                continue
            return

    async with world.work(ada) as context:
        await scale_node_set(context, "web", by=0)
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*(work() for _ in range(20)))
    async with world.work(ada) as context:
        end = await find_node_set(context, "web")
        assert end is not None
        return end.replicas


async def test_conflict_is_read_again_and_overwrites_nothing(world: World) -> None:
    """Of twenty who write what they computed none overwrites another."""
    assert await _set_by_twenty(world, set_replicas) == 20


@pytest.mark.power
async def test_write_without_version_is_found(world: World) -> None:
    """Who writes without asking for the version overwrites what others wrote."""
    assert await _set_by_twenty(world, set_without_version) < 20


async def test_scaling_holds_its_bounds(world: World) -> None:
    """However many scale at one time, there are never less than none or too many."""
    (ada,) = await world.add_users(1)

    async def work(by: int) -> int | None:
        async with world.work(ada) as context:
            node_set = await scale_node_set(context, "web", by=by)
            return node_set.replicas if node_set else None

    down = await work(-1)
    up = await asyncio.gather(*(work(30) for _ in range(10)))

    assert down is None
    assert sorted(told for told in up if told is not None) == [30, 60, 90]


# -- one lease, many devices ------------------------------------------------------------


async def _leased(
    world: World,
    acquire: Callable[..., Awaitable[NodeSet | None]],
    release: Callable[..., Awaitable[bool]],
) -> tuple[list[int], list[bool]]:
    """Let twenty devices lease one node set, three times.

    Returns:
        The tokens that were given, and whether one of a lease before ended the next.
    """
    (ada,) = await world.add_users(1)
    async with world.work(ada) as context:
        await scale_node_set(context, "web", by=1)

    async def with_work(act: Callable[..., Awaitable[Any]], **options: object) -> Any:  # noqa: ANN401  # what the act returns
        async with world.work(ada) as context:
            return await act(context, "web", **options)

    tokens, stolen = list[int](), list[bool]()
    for _ in range(3):
        answers = await asyncio.gather(
            *(with_work(acquire, holder=f"d{n}", ttl_s=60) for n in range(20))
        )
        tokens += [granted.lease_token for granted in answers if granted]
        stolen.append(await with_work(release, token=tokens[-1] - 1))
        await with_work(release_lease, token=tokens[-1])
    return tokens, stolen


async def test_lease_goes_to_one_of_twenty(world: World) -> None:
    """One of twenty gets the lease, with the next token, and only its token ends it."""
    tokens, stolen = await _leased(world, acquire_lease, release_lease)

    assert tokens == [1, 2, 3]
    assert stolen == [False] * 3


@pytest.mark.power
async def test_lease_of_who_looked_first_is_found(world: World) -> None:
    """A lease that is looked at and then taken is given to several."""
    tokens, _ = await _leased(world, lease_by_looking, release_lease)

    assert len(tokens) > 3


@pytest.mark.power
async def test_release_of_anyones_lease_is_found(world: World) -> None:
    """A release that does not ask for the token ends another's lease."""
    _, stolen = await _leased(world, acquire_lease, release_anyones)

    assert True in stolen


async def _elect(world: World) -> Any:  # noqa: ANN401  # a leadership
    async with world.engine.begin() as connection:
        return await draw_epoch(connection, f"test-{uuid4().hex}", "test")
