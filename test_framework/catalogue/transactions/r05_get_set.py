"""R05: GET and SET instead of one atomic command.

alice                           bob
                                await quota.hit()
                                hits = await self.redis.get("hits")
await quota.hit()
hits = await self.redis.get("hits")
                                await self.redis.set("hits", hits + 1)
await self.redis.set("hits", hits + 1)
-> a request was not counted
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import Store, visits


class _Quota:
    """Requests of a tenant in this minute, in Redis."""

    def __init__(self) -> None:
        self.redis = Store(hits=0)

    async def hit(self) -> None:
        hits = await self.redis.get("hits")
        await self.redis.set("hits", hits + 1)


class _AtomicQuota(_Quota):
    async def hit(self) -> None:
        await self.redis.add("hits", 1)


async def _hit(quota: _Quota, user: int) -> None:  # noqa: ARG001  # any user of the tenant
    await quota.hit()


def _all_counted(quota: _Quota) -> None:
    assert quota.redis.data["hits"] == 2, "a request was not counted"


PATTERN = Pattern(
    id="R05",
    title="GET and SET instead of one atomic command",
    mechanism=(
        "A counter in Redis is read, increased in Python and set, over the increase of "
        "another process."
    ),
    fix="Use INCR, WATCH or a script.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "checkers"),
    source="https://redis.io/docs/latest/develop/using-commands/transactions/",
    vulnerable=visits(_Quota, _hit, _all_counted),
    safe=visits(_AtomicQuota, _hit, _all_counted),
    module=__name__,
    hosted=Hosted(shown=lambda quota, _: quota.redis.data["hits"]),
)
