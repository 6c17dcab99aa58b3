"""A03: key rotation turns valid users away.

alice                           bob
                                is_valid = await keys.verify("new")
                                if kid not in self.keys and not self.is_fetching:
                                self.is_fetching = True
                                await self.fetch()
                                await external("GET /jwks")
is_valid = await keys.verify("new")
if kid not in self.keys and not self.is_fetching:
return kid in self.keys
                                self.keys = {"new": "key"}
                                self.is_fetching = False
                                return kid in self.keys
                                return is_valid
-> a valid user was sent away
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
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


async def _present_new_key(keys: _Keys, user: int) -> bool:  # noqa: ARG001  # any user
    is_valid = await keys.verify("new")
    assert is_valid, "a valid user was sent away"
    return is_valid


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
    hosted=Hosted(),
)
