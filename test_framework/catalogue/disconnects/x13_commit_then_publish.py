"""X13: cancelled between commit and publish.

alice
await grants.grant(NAMES[user])
await external("COMMIT")
self.table.append(user)
await external("PUBLISH")
<- cancelled
-> granted, and nobody knows
"""

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Grants:
    """Commits a grant, then tells the other services."""

    def __init__(self) -> None:
        self.table: list[str] = []
        self.published: list[str] = []
        self.outbox: list[str] = []

    async def grant(self, user: str) -> None:
        await external("COMMIT")
        self.table.append(user)
        await external("PUBLISH")
        self.published.append(user)

    def relay(self) -> None:
        """Publish what is in the outbox, as a relay does every second."""
        self.published += self.outbox


class _OutboxGrants(_Grants):
    async def grant(self, user: str) -> None:
        await external("COMMIT")
        self.table.append(user)
        self.outbox.append(user)


async def _grant(grants: _Grants, user: int) -> None:
    await grants.grant(NAMES[user])


def _is_told(grants: _Grants, user: int) -> tuple[bool, bool]:
    grants.relay()
    return NAMES[user] in grants.table, NAMES[user] in grants.published


def _all_told(grants: _Grants) -> None:
    grants.relay()
    assert set(grants.table) == set(grants.published), "granted, and nobody knows"


PATTERN = Pattern(
    id="X13",
    title="cancelled between commit and publish",
    mechanism=(
        "The row is committed, the request is cancelled, and the event is never sent."
    ),
    fix="Write the event in the same transaction and let a relay send it.",
    areas=(Area.WEBSOCKET, Area.DATABASE_SESSION),
    detectors=("explorer", "checkers"),
    source="https://microservices.io/patterns/data/transactional-outbox.html",
    vulnerable=visits(_Grants, _grant, _all_told),
    safe=visits(_OutboxGrants, _grant, _all_told),
    needs=CANCELLED_USERS,
    module=__name__,
    hosted=Hosted(shown=_is_told),
)
