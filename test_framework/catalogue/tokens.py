"""Tokens, keys and limits of logins: spent, refreshed and rotated by many at once."""

import asyncio
from dataclasses import dataclass

from test_framework.catalogue.pattern import Pattern
from test_framework.catalogue.world import NAMES, Store, visits
from test_framework.explore import external


class _Family:
    """Refresh tokens: each is good for one use; a second one looks like theft."""

    def __init__(self) -> None:
        self.current = Store(token=0)
        self.successor: dict[int, int] = {}

    async def rotate(self, token: int) -> int | None:
        current = await self.current.get("token")
        if token != current:
            return None
        await self.current.set("token", token + 1)
        return token + 1


class _GracefulFamily(_Family):
    async def rotate(self, token: int) -> int | None:
        if await self.current.swap("token", token, token + 1):
            self.successor[token] = token + 1
            return token + 1
        return self.successor.get(token)  # the same browser, within the grace time


class _Browser:
    """Two tabs that share one refresh token."""

    def __init__(self, family: _Family) -> None:
        self.family = family
        self.token = 0


def _browser() -> _Browser:
    return _Browser(_Family())


def _graceful_browser() -> _Browser:
    return _Browser(_GracefulFamily())


async def _refresh_tab(browser: _Browser, user: int) -> None:  # noqa: ARG001  # any tab
    token = browser.token
    await external("decide that the access token is too old")
    rotated = await browser.family.rotate(token)
    assert rotated is not None, "an honest tab is taken for a thief"
    browser.token = rotated


REFRESH_ROTATION = Pattern(
    id="A01",
    title="parallel refresh-token rotation",
    summary=(
        "Two tabs refresh with the same token, the second looks like theft, and the "
        "user is logged out. Rotate atomically, with a time of grace."
    ),
    source="https://github.com/nightscout/nocturne/pull/326",
    vulnerable=visits(_browser, _refresh_tab),
    safe=visits(_graceful_browser, _refresh_tab),
)


class _Invitations:
    """An invitation lets one person in."""

    def __init__(self) -> None:
        self.codes = Store(code="team of carol")
        self.members: list[str] = []

    async def consume(self) -> object:
        team = await self.codes.get("code")
        await self.codes.pop("code")
        return team

    async def join(self, user: str) -> None:
        if await self.consume():
            self.members.append(user)


class _AtomicInvitations(_Invitations):
    async def consume(self) -> object:
        return await self.codes.pop("code")


async def _join(invitations: _Invitations, user: int) -> None:
    await invitations.join(NAMES[user])


def _one_joined(invitations: _Invitations) -> None:
    assert len(invitations.members) == 1, "a stranger joined the team"


TOKEN_SPENT_TWICE = Pattern(
    id="A08",
    title="one-time token spent twice",
    summary=(
        "The token is read and then deleted, and two find it. Delete it and look at "
        "what was deleted, with DELETE RETURNING or GETDEL."
    ),
    source="https://github.com/juanifioren/django-oidc-provider/issues/410",
    vulnerable=visits(_Invitations, _join, _one_joined),
    safe=visits(_AtomicInvitations, _join, _one_joined),
)


class _Logins:
    """Three guesses, then the account is locked."""

    def __init__(self) -> None:
        self.redis = Store(failures=2)
        self.guesses = 0

    async def try_password(self) -> None:
        if await self.redis.get("failures") < 3:
            self.guesses += 1
            await external("hash the password")
            await self.redis.add("failures", 1)


class _CountingLogins(_Logins):
    async def try_password(self) -> None:
        if await self.redis.add("failures", 1) <= 3:
            self.guesses += 1
            await external("hash the password")


async def _guess(logins: _Logins, user: int) -> None:  # noqa: ARG001  # one thief, many requests
    await logins.try_password()


def _one_guess_left(logins: _Logins) -> None:
    assert logins.guesses <= 1, "the lock of the account was passed"


LOCKOUT_BYPASS = Pattern(
    id="A13",
    title="login limit passed by parallel attempts",
    summary=(
        "All attempts read the count before one of them has failed. Count the attempt "
        "first, in one command, and judge by its answer."
    ),
    source="https://cwe.mitre.org/data/definitions/307.html",
    vulnerable=visits(_Logins, _guess, _one_guess_left),
    safe=visits(_CountingLogins, _guess, _one_guess_left),
)


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


TOKEN_CLOBBER = Pattern(
    id="A02",
    title="token manager stores the older token",
    summary=(
        "Requests refresh at the same time, each refresh revokes the one before, and "
        "the older answer is stored last. Let one refresh and all wait for it."
    ),
    source="https://datatracker.ietf.org/doc/html/rfc6749#section-6",
    vulnerable=visits(_Tokens, _call_api, _stored_token_is_valid),
    safe=visits(_SingleFlightTokens, _call_api, _stored_token_is_valid),
)


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


KEY_ROTATION = Pattern(
    id="A03",
    title="key rotation turns valid users away",
    summary=(
        "While one request fetches the new keys, the others find the gate closed and "
        "judge by the old ones. Wait for the fetch, then look again."
    ),
    source="https://github.com/jpadilla/pyjwt/pull/1207",
    vulnerable=visits(_Keys, _present_new_key),
    safe=visits(_WaitingKeys, _present_new_key),
)


PATTERNS = (
    REFRESH_ROTATION,
    TOKEN_SPENT_TWICE,
    LOCKOUT_BYPASS,
    TOKEN_CLOBBER,
    KEY_ROTATION,
)
