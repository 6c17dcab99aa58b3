"""A03: key rotation turns valid users away.

alice                           bob
                                assert await keys.verify("new"), "a valid user was se...
                                if kid not in self.keys and not self.is_fetching:
                                self.is_fetching = True
                                await self.fetch()
                                await external("GET /jwks")
assert await keys.verify("new"), "a valid user was sent away"
if kid not in self.keys and not self.is_fetching:
return kid in self.keys
                                self.keys = {"new": "key"}
                                self.is_fetching = False
                                return kid in self.keys
-> a valid user was sent away
"""

import asyncio

from test_framework.catalogue.pattern import Area, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Keys:
    """Signing keys of the identity provider, fetched when a key id is unknown."""

    def __init__(self) -> None:
        self.keys = {"old": "key"}
        self.lock = asyncio.Lock()
        self.is_fetching = False

    async def fetch(self) -> None:
        await external("GET /jwks")
        self.keys = {"new": "key"}

    async def verify(self, kid: str) -> bool:
        if kid not in self.keys and not self.is_fetching:
            self.is_fetching = True
            await self.fetch()
            self.is_fetching = False
        return kid in self.keys


class _WaitingKeys(_Keys):
    async def verify(self, kid: str) -> bool:
        async with self.lock:
            if kid not in self.keys:
                await self.fetch()
        return kid in self.keys


async def _present_new_key(keys: _Keys, user: int) -> None:  # noqa: ARG001  # any user
    assert await keys.verify("new"), "a valid user was sent away"


PATTERN = Pattern(
    id="A03",
    title="key rotation turns valid users away",
    mechanism=(
        "While one request fetches the new keys, the others find the gate closed and "
        "judge by the old ones."
    ),
    fix="Wait for the fetch, then look again.",
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "checkers", "timing"),
    source="https://github.com/jpadilla/pyjwt/pull/1207",
    vulnerable=visits(_Keys, _present_new_key),
    safe=visits(_WaitingKeys, _present_new_key),
    module=__name__,
)
