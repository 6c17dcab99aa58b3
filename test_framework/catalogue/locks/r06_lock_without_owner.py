"""R06: lock released without looking whose it is.

alice                           bob
name = NAMES[user]
if user:
await lease.work(name)
if not await self.redis.set_if_absent("lock", user):
await external("work")
                                name = NAMES[user]
                                if user:
                                lease.expire()
                                self.redis.data.pop("lock", None)
                                if await lease.redis.set_if_absent("lock", name):
await self.release(user)
await self.redis.pop("lock")
                                await external("work")
return True
                                is_held: bool = lease.redis.data.get("lock") == name
-> somebody else took it away
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, Store, visits
from test_framework.explore import external


class _Lease:
    """A lock in Redis; its key expires when the holder is slow."""

    def __init__(self) -> None:
        self.redis = Store()
        self.inside: list[str] = []

    async def release(self, user: str) -> None:  # noqa: ARG002  # the twin compares it
        await self.redis.pop("lock")

    async def work(self, user: str) -> None:
        if not await self.redis.set_if_absent("lock", user):
            return
        await external("work")
        await self.release(user)

    def expire(self) -> None:
        self.redis.data.pop("lock", None)


class _OwnedLease(_Lease):
    async def release(self, user: str) -> None:
        await external("EVAL: if GET == me then DEL")
        if self.redis.data.get("lock") == user:
            del self.redis.data["lock"]


async def _work_under_lease(lease: _Lease, user: int) -> bool:
    name = NAMES[user]
    if user:
        lease.expire()
        if await lease.redis.set_if_absent("lock", name):
            await external("work")
            is_held: bool = lease.redis.data.get("lock") == name
            assert is_held, "somebody else took it away"
            await lease.release(name)
            return is_held
    else:
        await lease.work(name)
    return True


PATTERN = Pattern(
    id="R06",
    title="lock released without looking whose it is",
    mechanism=("A holder whose key has expired deletes the key of the next holder."),
    fix="Write a token into the key and compare it when deleting.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "checkers"),
    source="https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html",
    vulnerable=visits(_Lease, _work_under_lease),
    safe=visits(_OwnedLease, _work_under_lease),
    module=__name__,
    hosted=Hosted(),
)
