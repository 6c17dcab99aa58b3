"""D14: driver connection shared by requests.

alice                           bob
                                statement = f"SELECT {NAMES[user]}"
                                got = await database.query(statement)
                                return await self.wire.call(statement)
                                if self.is_reading:
                                self.is_reading = True
                                await external(request)
statement = f"SELECT {NAMES[user]}"
got = await database.query(statement)
return await self.wire.call(statement)
if self.is_reading:
raise RuntimeError("another operation is in progress")
<- RuntimeError
                                return f"reply to {request}"
                                self.is_reading = False
                                return got
-> RuntimeError: another operation is in progress
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.sessions import Database
from test_framework.catalogue.world import NAMES, visits


class _QueueingDatabase(Database):
    async def query(self, statement: str) -> str:
        async with self.lock:
            return await self.wire.call(statement)


async def _query_own(database: Database, user: int) -> str:
    statement = f"SELECT {NAMES[user]}"
    got = await database.query(statement)
    assert got == f"reply to {statement}", f"{NAMES[user]} got {got}"
    return got


PATTERN = Pattern(
    id="D14",
    title="driver connection shared by requests",
    mechanism=(
        "Two requests use one connection at once, and the driver refuses the second: "
        "'another operation is in progress'."
    ),
    fix="Use a pool, or a lock around it.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer",),
    source="https://github.com/MagicStack/asyncpg/issues/537",
    vulnerable=visits(Database, _query_own),
    safe=visits(_QueueingDatabase, _query_own),
    kind="exception",
    module=__name__,
    hosted=Hosted(),
)
