"""What is still there when everybody has left: tasks, subscriptions, transactions.

The service is looked at before the first user and after the last has logged out;
what stays for longer than a short grace is residue. Tasks are counted in the
service's own processes and so only when this run started them.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from test_framework.clients.redis import RedisReader
from test_framework.clients.sql import SqlReader
from test_framework.core import ResidueRecord

if TYPE_CHECKING:
    from test_framework.swarm.alarms import Alarms
    from test_framework.swarm.identities import Identities
    from test_framework.swarm.target import Target

GRACE_S = 3.0
HELD_GRACE_S = 1.0
"""For what the leak watchers see: what is really held costs each run this much."""

_PAUSE_S = 0.25
_SPARE_TASKS = 3
"""Tasks of one kind that may come and go; pools start theirs when first used."""


@dataclass(frozen=True, slots=True)
class TaskCount:
    """How many tasks run in the service's processes, by coroutine.

    Attributes:
        of_requests: Those that descend from a request.
        background: Those that descend from none, as far as is known.
    """

    of_requests: Counter[str] = field(default_factory=Counter)
    background: Counter[str] = field(default_factory=Counter)

    def since(self, before: "TaskCount", *, users: int) -> Counter[str]:
        """Return what came and is too much to have come by itself.

        A few of those that a request began are the first use of a pool. Others the
        service may begin by itself at any time, a leader that is elected, say; those
        are of users when they grow with them.
        """
        of_requests = self.of_requests - before.of_requests
        background = self.background - before.background
        most = max(_SPARE_TASKS, users // 2)
        return Counter(
            {
                name: of_requests[name] + background[name]
                for name in of_requests | background
                if of_requests[name] > _SPARE_TASKS or background[name] > most
            }
        )


def count_tasks(target: "Target") -> TaskCount:
    """Return how many tasks of each coroutine run in the service's processes."""
    count = TaskCount()
    if target.host is not None:
        for census in target.host.census():
            background = Counter(census.background)
            count.background.update(background)
            count.of_requests.update(Counter(census.tasks) - background)
    return count


async def find_residue(
    target: "Target",
    identities: "Identities",
    *,
    tasks_before: TaskCount,
    users: int,
    alarms: "Alarms",
    grace_s: float = GRACE_S,
) -> list[ResidueRecord]:
    """Return what is still there after at most ``grace_s`` seconds of waiting.

    Args:
        target: The service.
        identities: Of everybody who was there.
        tasks_before: What ``count_tasks`` said before the first user.
        users: How many there were.
        alarms: What the leak watchers see is waited for as well, for a second at most;
            it is recorded with the other alarms, at the end of the run.
        grace_s: For everything (seconds, >= 0).

    Raises:
        TargetError: Postgres or Redis cannot be reached.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace_s
    held_until = loop.time() + min(grace_s, HELD_GRACE_S)
    while True:
        residue = await _look(target, identities, tasks_before, users)
        now = loop.time()
        is_clean = not residue and (now >= held_until or not alarms.are_passing())
        if is_clean or now >= deadline:
            return residue
        await asyncio.sleep(_PAUSE_S)


async def _look(
    target: "Target",
    identities: "Identities",
    tasks_before: TaskCount,
    users: int,
) -> list[ResidueRecord]:
    came = count_tasks(target).since(tasks_before, users=users)
    residue = [
        ResidueRecord("http", "task", name, count) for name, count in came.items()
    ]
    if target.redis_url is not None:
        async with RedisReader(target.redis_url) as reader:
            residue += _subscriptions(await reader.channels(), identities)
    # In a database that people use, some of them are always in a transaction.
    if target.database_url is not None and not target.is_shared:
        async with SqlReader(target.database_url) as reader:
            idle = await reader.idle_transactions()
        if idle:
            residue.append(
                ResidueRecord(
                    "postgres", "open transaction", "idle in transaction", idle
                )
            )
    return residue


def _subscriptions(
    channels: list[bytes], identities: "Identities"
) -> list[ResidueRecord]:
    by_surface: dict[str, list[int]] = {}
    for channel in channels:
        users = identities.find(channel)
        if users:
            by_surface.setdefault(identities.blank(channel), []).extend(users)
    return [
        ResidueRecord("pubsub", "subscription", surface, len(users), tuple(users))
        for surface, users in sorted(by_surface.items())
    ]
