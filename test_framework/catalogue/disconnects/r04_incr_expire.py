"""R04: INCR, then EXPIRE.

alice
await limit.hit(NAMES[user])
if await self.redis.add(user, 1) == 1:
await external("EXPIRE")
<- cancelled
-> locked out for ever
"""

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, Store, visits
from test_framework.explore import external


class _RateLimit:
    """Counts requests in a key that must expire."""

    def __init__(self) -> None:
        self.redis = Store()
        self.expires: set[str] = set()

    async def hit(self, user: str) -> None:
        if await self.redis.add(user, 1) == 1:
            await external("EXPIRE")
            self.expires.add(user)


class _AtomicRateLimit(_RateLimit):
    async def hit(self, user: str) -> None:
        await external("EVAL: INCR and EXPIRE")
        self.redis.data[user] = self.redis.data.get(user, 0) + 1
        self.expires.add(user)


async def _hit(limit: _RateLimit, user: int) -> None:
    await limit.hit(NAMES[user])


def _expires(limit: _RateLimit, user: int) -> bool:
    return NAMES[user] in limit.expires or NAMES[user] not in limit.redis.data


def _all_counters_expire(limit: _RateLimit) -> None:
    assert set(limit.redis.data) <= limit.expires, "locked out for ever"


PATTERN = Pattern(
    id="R04",
    title="INCR, then EXPIRE",
    mechanism=(
        "A request is cancelled between the two commands, the counter never expires, "
        "and the user is locked out."
    ),
    fix="Do both in one script.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer",),
    source="https://redis.io/docs/latest/commands/incr/",
    vulnerable=visits(_RateLimit, _hit, _all_counters_expire),
    safe=visits(_AtomicRateLimit, _hit, _all_counters_expire),
    needs=CANCELLED_USERS,
    module=__name__,
    hosted=Hosted(shown=_expires),
)
