"""Tokens: short signed access tokens, and random refresh tokens kept only as hashes.

An access token (JWT) names its user, its login session and the key that signed it. Which
algorithm a key is for stands with the key: what the token says of it is only compared.
Its signature says nothing about a logout since: whoever serves it asks whether the login
lives (``RefreshTokens.is_live``). A refresh token is random; the database holds its SHA-256.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

import jwt
from jwt.utils import base64url_decode

from app.security.keyring import KeyRing
from app.security.signing import ALGORITHM, KeySet

ISSUER = "isolation-audit-reference"
AUDIENCE = "isolation-audit-reference-api"
_REQUIRED = ["exp", "iat", "iss", "aud", "sub", "jti", "sid"]


_NOT_VALID = "The access token is not valid. Log in again."

MAX_TOKEN_CHARS = 4_096
"""Ours have some 400; what is longer is not even parsed."""


class TokenError(Exception):
    """Raised when a token is malformed, forged or expired: the client's fault.

    Attributes:
        reason: Which of it, in one word, to be counted by.
    """

    def __init__(self, reason: str, message: str) -> None:
        """Say what is wrong in one word and in a sentence."""
        super().__init__(message)
        self.reason = reason


class UnknownKeyError(TokenError):
    """Raised when a token names a key that this process does not know (yet).

    Attributes:
        kid: The name of the key.
    """

    def __init__(self, kid: str) -> None:
        """Name the key."""
        super().__init__("forged", _NOT_VALID)
        self.kid = kid


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid access token says.

    Attributes:
        user_id: Whose token it is.
        session_id: The login it came from: the family of its refresh tokens.
        expires_at: When it ends (seconds since the epoch).
    """

    user_id: str
    session_id: str
    expires_at: int


def wall_clock() -> float:
    """Return seconds since the epoch: tokens outlive processes and hosts."""
    return time.time()  # noqa: TID251  # expiry is wall-clock time by RFC 7519


class AccessTokens:
    """Signs and verifies access tokens; holds keys and no user's state."""

    def __init__(
        self,
        keys: KeyRing,
        *,
        lifetime_s: int,
        now: Callable[[], float] = wall_clock,
    ) -> None:
        """Sign with the active key of ``keys`` and verify with all of them."""
        self._keys = keys
        self.lifetime_s = lifetime_s
        self._now = now

    def issue(self, user_id: str, session_id: str) -> str:
        """Return a new signed token of the user.

        Raises:
            StaleKeysError: The keys could not be read for too long.
        """
        issued_at = int(self._now())
        # Once: the name in the header is that of the key which signs.
        signing = self._keys.signing
        return jwt.encode(
            {
                "iss": ISSUER,
                "aud": AUDIENCE,
                "sub": user_id,
                "sid": session_id,
                "jti": str(uuid4()),
                "iat": issued_at,
                "exp": issued_at + self.lifetime_s,
            },
            signing.private,
            algorithm=ALGORITHM,
            headers={"kid": signing.kid},
        )

    async def recognise(self, token: str) -> Claims:
        """Return what the token says; look for its key when it is not known.

        Raises:
            TokenError: It is malformed, signed by an unknown key, or expired.
        """
        try:
            return self.verify(token)
        except UnknownKeyError as exc:
            return self._verify(token, await self._keys.find(exc.kid))

    def verify(self, token: str) -> Claims:
        """Return what the token says, as far as the keys known by now can tell.

        Raises:
            UnknownKeyError: Its key is not among them.
            TokenError: It is malformed, signed by another key, or expired.
        """
        return self._verify(token, self._keys.current)

    def _verify(self, token: str, keys: KeySet) -> Claims:
        if len(token) > MAX_TOKEN_CHARS:
            message = f"The access token is longer than {MAX_TOKEN_CHARS} characters."
            raise TokenError("oversized", message)
        try:
            claims = jwt.decode(
                token,
                keys.verifying[_kid_of(token, keys)],
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                # The clock is a parameter, so expiry is judged below.
                options={
                    "require": _REQUIRED,
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
        # A header of nested brackets is no JSON that the parser can end.
        except (jwt.PyJWTError, ValueError, RecursionError) as exc:
            raise TokenError(_reason(exc), _NOT_VALID) from exc
        expires_at = int(claims["exp"])
        if expires_at <= self._now():
            message = "The access token has expired. Refresh it at /auth/refresh."
            raise TokenError("expired", message)
        return Claims(str(claims["sub"]), str(claims["sid"]), expires_at)


def _kid_of(token: str, keys: KeySet) -> str:
    # Only the first segment: the library would check and parse all three, twice.
    segment = token.partition(".")[0]
    header = json.loads(base64url_decode(segment))
    kid = header.get("kid") if isinstance(header, dict) else None
    if not isinstance(kid, str):
        message = "no key is named"
        raise jwt.InvalidKeyError(message)
    if kid not in keys.verifying:
        raise UnknownKeyError(kid)
    return kid


def _reason(exc: Exception) -> str:
    # To the library, a wrong signature is a way of being malformed.
    is_text = isinstance(exc, jwt.DecodeError | ValueError | RecursionError)
    is_malformed = is_text and not isinstance(exc, jwt.InvalidSignatureError)
    return "malformed" if is_malformed else "forged"


def new_refresh_token() -> str:
    """Return a new random refresh token (256 bits, URL-safe)."""
    return secrets.token_urlsafe(32)


def hash_refresh_token(token: str) -> bytes:
    """Return what the database keeps of a refresh token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
