"""Twins of stored signing keys: each lacks one protection of the rotation."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from app.security import KeySet, KeyState
from app.storage import StoredKeys


class NoOverlap(StoredKeys):
    """Verifies with the key that signs, and with no other."""

    async def read(self, read_at_s: float) -> KeySet:
        keys = await super().read(read_at_s)
        return KeySet.of(keys.signing, read_at_s=read_at_s)


class Unlocked(StoredKeys):
    """Lets every worker take the step that it finds due.

    Attributes:
        decided: Passed when all workers of the test have decided.
    """

    decided: asyncio.Barrier

    async def rotate(self, *, must_wait: bool = False) -> bool:
        del must_wait
        async with self._sessions.for_keys() as session:
            return await self._take_step(session)

    async def _publish(self, session: AsyncSession, state: KeyState) -> None:
        # What has been decided elsewhere meanwhile is not seen.
        await self.decided.wait()
        await super()._publish(session, state)
