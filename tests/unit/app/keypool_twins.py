"""Twins of the key pool: each lacks one protection."""

import asyncio

from app.security import KeyPool, Lease
from app.security.keypool import _Place


class LendsTwice(KeyPool[str]):
    """Looks for a free key, waits for a moment, and takes it then."""

    async def _borrow(self) -> Lease[str]:
        place = self._free_place()
        if place is None:
            return await super()._borrow()
        # As one that asks a store whether the key is still good.
        await asyncio.sleep(0)
        lease = Lease(place.key)
        place.leases.add(lease)
        return lease


class LosesLeases(KeyPool[str]):
    """Forgets that a caller may be cancelled after it was served."""

    async def _borrow(self) -> Lease[str]:
        return await self._queue_up(is_first=False)


class TakesRevokedBack(KeyPool[str]):
    """Puts every key that is given back among those to lend."""

    def _give_back(self, lease: Lease[str]) -> None:
        self._places.setdefault(lease.key, _Place(lease.key)).leases.discard(lease)
        self._serve()


class LastFirst(KeyPool[str]):
    """Serves whoever came last."""

    def _queue_up(self, *, is_first: bool) -> asyncio.Future[Lease[str]]:
        return super()._queue_up(is_first=not is_first)


class Quiet(KeyPool[str]):
    """Revokes a key and tells nobody."""

    def revoke(self, key: str) -> None:
        self._revoked.add(key)
        self._places.pop(key)
