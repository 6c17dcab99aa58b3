"""D06: uniqueness kept by the application.

alice                           bob
                                return await handles.sign_up("@admin", NAMES[user])
                                return not await self.is_taken(handle) and await self...
                                await external("SELECT")
return await handles.sign_up("@admin", NAMES[user])
return not await self.is_taken(handle) and await self.insert(handle, user)
await external("SELECT")
                                return any(row[0] == handle for row in self.rows)
                                await external("INSERT")
return any(row[0] == handle for row in self.rows)
await external("INSERT")
                                self.rows.append((handle, user))
                                return True
self.rows.append((handle, user))
return True
-> mail to one owner of the handle reaches the other
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Handles:
    """Who signs up takes a handle, if it is free."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    async def is_taken(self, handle: str) -> bool:
        await external("SELECT")
        return any(row[0] == handle for row in self.rows)

    async def insert(self, handle: str, user: str) -> bool:
        await external("INSERT")
        self.rows.append((handle, user))
        return True

    async def sign_up(self, handle: str, user: str) -> bool:
        return not await self.is_taken(handle) and await self.insert(handle, user)


class _UniqueHandles(_Handles):
    async def insert(self, handle: str, user: str) -> bool:
        await external("INSERT ... ON CONFLICT DO NOTHING")
        if any(row[0] == handle for row in self.rows):
            return False
        self.rows.append((handle, user))
        return True


async def _sign_up(handles: _Handles, user: int) -> bool:
    return await handles.sign_up("@admin", NAMES[user])


def _one_owner(handles: _Handles) -> None:
    assert len(handles.rows) == 1, "mail to one owner of the handle reaches the other"


PATTERN = Pattern(
    id="D06",
    title="uniqueness kept by the application",
    mechanism=("SELECT finds no such row for either of two users, and both INSERT it."),
    fix="Let a unique index decide.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "checkers"),
    source="https://doi.org/10.1145/2723372.2737784",
    vulnerable=visits(_Handles, _sign_up, _one_owner),
    safe=visits(_UniqueHandles, _sign_up, _one_owner),
    module=__name__,
    hosted=Hosted(),
)
