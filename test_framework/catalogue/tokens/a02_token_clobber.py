"""A02: token manager stores the older token.

alice                           bob
                                await tokens.get()
                                if self.token is None:
                                self.token = await self.refresh()
                                await external("POST /token")
await tokens.get()
if self.token is None:
self.token = await self.refresh()
await external("POST /token")
for old in self.issued:
token = _Token(len(self.issued))
self.issued.append(token)
await external("the answer")
                                for old in self.issued:
                                old.is_revoked = True
                                for old in self.issued:
                                token = _Token(len(self.issued))
                                self.issued.append(token)
                                await external("the answer")
                                return token
                                return self.token
return token
return self.token
-> everybody is logged out
"""

import asyncio
from dataclasses import dataclass

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


@dataclass
class _Token:
    number: int
    is_revoked: bool = False


class _Tokens:
    """Access tokens of a provider that revokes the old one when it issues a new one."""

    def __init__(self) -> None:
        self.token: _Token | None = None
        self.issued: list[_Token] = []
        self.lock = asyncio.Lock()

    async def refresh(self) -> _Token:
        await external("POST /token")
        for old in self.issued:
            old.is_revoked = True
        token = _Token(len(self.issued))
        self.issued.append(token)
        await external("the answer")
        return token

    async def get(self) -> _Token:
        if self.token is None:
            self.token = await self.refresh()
        return self.token


class _SingleFlightTokens(_Tokens):
    async def get(self) -> _Token:
        async with self.lock:
            return await super().get()


async def _call_api(tokens: _Tokens, user: int) -> None:  # noqa: ARG001  # any user
    await tokens.get()


def _stored_token_is_valid(tokens: _Tokens) -> None:
    assert tokens.token is not None, "no token is stored"
    assert not tokens.token.is_revoked, "everybody is logged out"


PATTERN = Pattern(
    id="A02",
    title="token manager stores the older token",
    mechanism=(
        "Requests refresh at the same time, each refresh revokes the one before, and "
        "the older answer is stored last."
    ),
    fix="Let one refresh and all wait for it.",
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "access", "timing"),
    source="https://datatracker.ietf.org/doc/html/rfc6749#section-6",
    vulnerable=visits(_Tokens, _call_api, _stored_token_is_valid),
    safe=visits(_SingleFlightTokens, _call_api, _stored_token_is_valid),
    module=__name__,
    hosted=Hosted(
        shown=lambda tokens, _: tokens.token is not None and not tokens.token.is_revoked
    ),
)
