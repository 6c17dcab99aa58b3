"""D01: one AsyncSession in concurrent tasks.

alice                           alice, task 2
assert len(await dashboard.load(NAMES[user])) == 2, "a part is missing"
orders = asyncio.create_task(self.later(f"orders of {user}"))
profile = await self.query(f"profile of {user}")
return await self.wire.call(statement)
if self.is_reading:
self.is_reading = True
await external(request)
                                await external("read the first page from the cache")
                                return await self.query(statement)
                                return await self.wire.call(statement)
                                if self.is_reading:
                                raise RuntimeError("another operation is in progress")
                                <- RuntimeError
return f"reply to {request}"
self.is_reading = False
return [profile, await orders]
<- RuntimeError
-> RuntimeError: another operation is in progress
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.sessions import Database, Wire
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Dashboard(Database):
    """Loads its parts at the same time, over one session."""

    async def load(self, user: str) -> list[str]:
        orders = asyncio.create_task(self.later(f"orders of {user}"))
        profile = await self.query(f"profile of {user}")
        return [profile, await orders]

    async def later(self, statement: str) -> str:
        await external("read the first page from the cache")
        return await self.query(statement)


class _SessionPerTaskDashboard(_Dashboard):
    async def query(self, statement: str) -> str:
        return await Wire().call(statement)


async def _load_dashboard(dashboard: _Dashboard, user: int) -> None:
    assert len(await dashboard.load(NAMES[user])) == 2, "a part is missing"


PATTERN = Pattern(
    id="D01",
    title="one AsyncSession in concurrent tasks",
    mechanism=(
        "A handler gathers queries over its session, which works while they happen not "
        "to overlap."
    ),
    fix="Give each task its own session.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer",),
    source="https://github.com/sqlalchemy/sqlalchemy/issues/5967",
    vulnerable=visits(_Dashboard, _load_dashboard, users=1),
    safe=visits(_SessionPerTaskDashboard, _load_dashboard, users=1),
    kind="exception",
    module=__name__,
    hosted=Hosted(),
)
