"""Twins of the use of secrets: each looks twice within one use."""

import asyncio
from collections.abc import Mapping

from app.security import Secret


class TwoLooks:
    """Names the version that it looked at, and shows the value of a later look."""

    def __init__(self, secret: Secret) -> None:
        """Use ``secret``."""
        self._secret = secret

    async def use(self) -> Mapping[str, str]:
        """Return the name and the value of what should be one version."""
        number = self._secret.current.number
        await self._work()
        return {"number": str(number), "value": self._secret.current.value}

    async def _work(self) -> None:
        # Until the secret has been exchanged: the longest that a use can take.
        number = self._secret.current.number
        while self._secret.current.number == number:
            await asyncio.sleep(0)


class OneLook(TwoLooks):
    """Takes one version for one use: the sound sibling."""

    async def use(self) -> Mapping[str, str]:
        """Return the name and the value of one version."""
        version = self._secret.current
        await self._work()
        return {"number": str(version.number), "value": version.value}
