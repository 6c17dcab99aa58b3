"""R10: whole session read, changed and written back.

alice                           bob
                                await sessions.put(("cart", "csrf")[user], "set")
                                session = dict(await self.redis.get("session"))
await sessions.put(("cart", "csrf")[user], "set")
session = dict(await self.redis.get("session"))
                                session[key] = value
                                await self.redis.set("session", session)
session[key] = value
await self.redis.set("session", session)
-> a field is lost
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import Store, visits


class _Sessions:
    """A session is one blob in Redis; two requests of a user change different fields."""

    def __init__(self) -> None:
        self.redis = Store(session={})

    async def put(self, key: str, value: str) -> None:
        session = dict(await self.redis.get("session"))
        session[key] = value
        await self.redis.set("session", session)

    def fields(self) -> dict[str, str]:
        return dict(self.redis.data["session"])


class _ComparingSessions(_Sessions):
    async def put(self, key: str, value: str) -> None:
        while True:
            old = await self.redis.get("session")
            if await self.redis.swap("session", old, old | {key: value}):
                return


async def _put_field(sessions: _Sessions, user: int) -> None:
    await sessions.put(("cart", "csrf")[user], "set")


def _both_fields_kept(sessions: _Sessions) -> None:
    assert sessions.fields() == {"cart": "set", "csrf": "set"}, "a field is lost"


PATTERN = Pattern(
    id="R10",
    title="whole session read, changed and written back",
    mechanism=(
        "The response that ends last writes its old copy of the session over what the "
        "other one changed."
    ),
    fix="Compare and swap, or write single fields.",
    areas=(Area.USER_CONTEXT,),
    detectors=(
        "explorer",
        "checkers",
    ),
    source="https://cwe.mitre.org/data/definitions/362.html",
    vulnerable=visits(_Sessions, _put_field, _both_fields_kept),
    safe=visits(_ComparingSessions, _put_field, _both_fields_kept),
    module=__name__,
    hosted=Hosted(shown=lambda sessions, _: sessions.fields()),
    beyond={"swarm": "both requests are of one user"},
)
