"""Tokens: short signed access tokens, and random refresh tokens kept only as hashes.

An access token (JWT) names its user, its login session and the key that signed it.
Its signature says nothing about a logout since: whoever serves it asks whether the login
lives (``RefreshTokens.is_live``). A refresh token is random; the database holds its SHA-256.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import uuid4

import jwt
from jwt.utils import base64url_decode

from app.settings import SigningKey

ISSUER = "isolation-audit-reference"
AUDIENCE = "isolation-audit-reference-api"
ALGORITHM = "HS256"
_REQUIRED = ["exp", "iat", "iss", "aud", "sub", "jti", "sid"]


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
        keys: Sequence[SigningKey],
        *,
        lifetime_s: int,
        now: Callable[[], float] = wall_clock,
    ) -> None:
        """Use the first key to sign and every key to verify."""
        self._signing = keys[0]
        self._secrets = {key.kid: key.secret.get_secret_value() for key in keys}
        self.lifetime_s = lifetime_s
        self._now = now

    def issue(self, user_id: str, session_id: str) -> str:
        """Return a new signed token of the user."""
        issued_at = int(self._now())
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
            self._secrets[self._signing.kid],
            algorithm=ALGORITHM,
            headers={"kid": self._signing.kid},
        )

    def verify(self, token: str) -> Claims:
        """Return what the token says.

        Raises:
            TokenError: It is malformed, signed by an unknown key, or expired.
        """
        if len(token) > MAX_TOKEN_CHARS:
            message = f"The access token is longer than {MAX_TOKEN_CHARS} characters."
            raise TokenError("oversized", message)
        try:
            claims = jwt.decode(
                token,
                self._secret_of(token),
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
            message = "The access token is not valid. Log in again."
            raise TokenError(_reason(exc), message) from exc
        expires_at = int(claims["exp"])
        if expires_at <= self._now():
            message = "The access token has expired. Refresh it at /auth/refresh."
            raise TokenError("expired", message)
        return Claims(str(claims["sub"]), str(claims["sid"]), expires_at)

    def _secret_of(self, token: str) -> str:
        # Only the first segment: the library would check and parse all three, twice.
        segment = token.partition(".")[0]
        header = json.loads(base64url_decode(segment))
        kid = header.get("kid") if isinstance(header, dict) else None
        if not isinstance(kid, str) or kid not in self._secrets:
            message = "no such key"
            raise jwt.InvalidKeyError(message)
        return self._secrets[kid]


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
