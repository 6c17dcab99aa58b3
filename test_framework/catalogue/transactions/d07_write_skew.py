"""D07: write skew.

alice                           bob
                                await owners.resign(NAMES[user])
                                await external("SELECT owners")
await owners.resign(NAMES[user])
await external("SELECT owners")
                                read = frozenset(self.owners)
                                if read - {user}:
                                await self.commit(user, read)
                                await external("COMMIT")
read = frozenset(self.owners)
if read - {user}:
await self.commit(user, read)
await external("COMMIT")
                                self.owners.discard(user)
self.owners.discard(user)
-> nobody owns the project
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Owners:
    """A project must keep an owner; each may resign while there is another."""

    def __init__(self) -> None:
        self.owners = set(NAMES[:2])

    async def commit(self, user: str, read: frozenset[str]) -> None:  # noqa: ARG002  # the twin compares it
        await external("COMMIT")
        self.owners.discard(user)

    async def resign(self, user: str) -> None:
        await external("SELECT owners")
        read = frozenset(self.owners)
        if read - {user}:
            await self.commit(user, read)


class _SerializableOwners(_Owners):
    async def commit(self, user: str, read: frozenset[str]) -> None:
        await external("COMMIT")
        if read == self.owners:  # else could not serialize access: 40001
            self.owners.discard(user)


async def _resign(owners: _Owners, user: int) -> None:
    await owners.resign(NAMES[user])


def _somebody_owns(owners: _Owners) -> None:
    assert owners.owners, "nobody owns the project"


PATTERN = Pattern(
    id="D07",
    title="write skew",
    mechanism=(
        "Two transactions read the same rows and each changes another one, so that the "
        "rule that both checked breaks."
    ),
    fix="Use SERIALIZABLE, and try again.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "checkers"),
    source="https://doi.org/10.1145/1071610.1071615",
    vulnerable=visits(_Owners, _resign, _somebody_owns),
    safe=visits(_SerializableOwners, _resign, _somebody_owns),
    module=__name__,
    hosted=Hosted(shown=lambda owners, _: len(owners.owners)),
)
