"""The reconcilers: from what is to what shall be, one thing of one user at a time.

A reconciler is told a key and nothing else. It looks at what is wanted and at what
there is, makes a step, and says whether that was the last. What made the key open does
not matter, so it may be lost, repeated or late; doing it again changes nothing.

All that it writes is one transaction of the thing's user, which the database refuses
to a leader whose epoch is over, and to one who read what has changed since.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from app.context import UserExecutionContext
from app.control.planner import Change, PlanError, Planner
from app.storage import (
    MAX_REPLICAS,
    ControlKey,
    Intent,
    Leadership,
    SessionFactory,
    add_nodes,
    find_intent,
    find_node_set,
    lease_left_s,
    list_nodes,
    read_revision,
    remove_nodes,
    report_nodes,
    require_leadership,
    set_replicas,
    settle_intent,
    settle_key,
)

NODES_PER_STEP = 10

ContextFactory = Callable[[str, str], UserExecutionContext]
"""Makes the context of a user (first) for a request id (second), without a session."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What reconcilers work with; holds nothing of a user.

    Attributes:
        sessions: Opens sessions for users.
        contexts: Makes the contexts of users.
        planner: Turns words into changes.
    """

    sessions: SessionFactory
    contexts: ContextFactory
    planner: Planner

    @contextlib.asynccontextmanager
    async def writing(
        self, user_id: str, leadership: Leadership
    ) -> AsyncIterator[UserExecutionContext]:
        """Open a transaction of a user that only the current leader can commit.

        Raises:
            StaleLeaderError: Another leader was elected.
        """
        async with self._opened(user_id, leadership) as context:
            await require_leadership(context, leadership)
            yield context

    @contextlib.asynccontextmanager
    async def reading(
        self, user_id: str, leadership: Leadership
    ) -> AsyncIterator[UserExecutionContext]:
        """Open a transaction of a user to read in."""
        async with self._opened(user_id, leadership) as context:
            yield context

    @contextlib.asynccontextmanager
    async def _opened(
        self, user_id: str, leadership: Leadership
    ) -> AsyncIterator[UserExecutionContext]:
        context = self.contexts(user_id, f"{leadership.name}-{leadership.epoch}")
        async with self.sessions.for_user(user_id) as session:
            yield context.child(session=session)


async def reconcile(
    desk: Desk, key: ControlKey, leadership: Leadership
) -> float | None:
    """Make one step of a thing towards what is wanted of it.

    Returns:
        None when it is as it shall be, else in how many seconds to come back.

    Raises:
        StaleLeaderError: Another leader was elected.
        ConflictError: It has changed meanwhile.
    """
    if key.kind == "intent":
        await _reconcile_intent(desk, key, leadership)
        return None
    return await _reconcile_node_set(desk, key, leadership)


async def _reconcile_intent(
    desk: Desk, key: ControlKey, leadership: Leadership
) -> None:
    async with desk.reading(key.user_id, leadership) as reading:
        revision = await read_revision(reading, key.kind, key.name)
        intent = await find_intent(reading, key.name)
    if revision is None:
        return  # deleted
    # Between two transactions: a planner may take its time, and holds no connection.
    is_open = intent is not None and intent.phase == "pending"
    plan = await _plan(desk.planner, intent.goal) if intent and is_open else None
    async with desk.writing(key.user_id, leadership) as writing:
        done = None
        if intent is not None and plan is not None:
            done = await _apply(writing, intent, plan, leadership)
        await settle_key(writing, key.kind, key.name, revision)
        if done is not None:
            await writing.audit.record(done, key.name)


async def _plan(planner: Planner, goal: str) -> Change | str:
    try:
        return await planner.plan(goal)
    except PlanError as exc:
        return str(exc)


async def _apply(
    writing: UserExecutionContext,
    intent: Intent,
    plan: Change | str,
    leadership: Leadership,
) -> str:
    """Change the node set and settle the intent: both or neither."""
    epoch = leadership.epoch
    if isinstance(plan, str):
        await settle_intent(writing, intent, epoch=epoch, problem=plan)
        return "intent.refused"
    seen = await find_node_set(writing, plan.node_set)
    replicas = plan.from_now(seen.replicas if seen else 0)
    if not 0 <= replicas <= MAX_REPLICAS:
        problem = (
            f"That would be {replicas} nodes; there can be 0 to {MAX_REPLICAS}. "
            "Ask for other numbers."
        )
        await settle_intent(writing, intent, epoch=epoch, problem=problem)
        return "intent.refused"
    await settle_intent(
        writing, intent, epoch=epoch, node_set=plan.node_set, replicas=replicas
    )
    await set_replicas(writing, plan.node_set, seen=seen, replicas=replicas)
    return "intent.applied"


async def _reconcile_node_set(
    desk: Desk, key: ControlKey, leadership: Leadership
) -> float | None:
    async with desk.writing(key.user_id, leadership) as work:
        revision = await read_revision(work, key.kind, key.name)
        node_set = await find_node_set(work, key.name)
        if revision is None or node_set is None:
            return None
        if left_s := await lease_left_s(work, key.name):
            return left_s  # under maintenance: its nodes are left alone
        have = set(await list_nodes(work, key.name))
        want = set(range(node_set.replicas))
        missing = set(sorted(want - have)[:NODES_PER_STEP])
        surplus = set(sorted(have - want, reverse=True)[:NODES_PER_STEP])
        ready = len(have) + len(missing) - len(surplus)
        is_news = (ready, node_set.generation) != (
            node_set.ready_replicas,
            node_set.observed_generation,
        )
        if missing or surplus or is_news:
            await report_nodes(work, node_set, ready=ready)
        await add_nodes(work, key.name, missing, epoch=leadership.epoch)
        await remove_nodes(work, key.name, surplus)
        if (have | missing) - surplus != want:
            return 0.0
        await settle_key(work, key.kind, key.name, revision)
        return None
