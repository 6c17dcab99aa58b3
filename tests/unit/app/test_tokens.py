"""Access tokens: signed by a named key, short, and only for this service."""

import base64
import json
from typing import Any

import jwt
import pytest

from app.security import (
    AccessTokens,
    TokenError,
    hash_refresh_token,
    new_refresh_token,
)
from app.security.tokens import AUDIENCE, ISSUER
from app.settings import SigningKey, parse_signing_keys

OLD, NEW = "o" * 40, "n" * 40
NOW = 1_000_000


def tokens(keys: str = f"old:{OLD}", *, now: float = NOW) -> AccessTokens:
    """Return tokens that live 900 seconds, at a fixed instant."""
    return AccessTokens(parse_signing_keys(keys), lifetime_s=900, now=lambda: now)


def claims(**changes: object) -> dict[str, Any]:
    """Return the claims of a good token, with changes."""
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "sid": "s-1",
        "jti": "j-1",
        "iat": NOW,
        "exp": NOW + 900,
    }
    return {**good, **changes}


def test_token_names_user_and_session() -> None:
    """What goes into a token comes out of it."""
    found = tokens().verify(tokens().issue("ada", "s-1"))

    assert (found.user_id, found.session_id) == ("ada", "s-1")
    assert found.expires_at == NOW + 900


def test_token_carries_key_name_and_own_id() -> None:
    """A token names its key, and two tokens of one session differ."""
    first, second = tokens().issue("ada", "s-1"), tokens().issue("ada", "s-1")

    assert jwt.get_unverified_header(first)["kid"] == "old"
    assert first != second


def test_token_expires_at_its_second() -> None:
    """A token is good until its last second and not after."""
    token = tokens().issue("ada", "s-1")

    assert tokens(now=NOW + 899.9).verify(token).user_id == "ada"
    with pytest.raises(TokenError, match="expired"):
        tokens(now=NOW + 900).verify(token)


def test_rotated_key_verifies_and_new_key_signs() -> None:
    """After a rotation old tokens still work and new ones carry the new key."""
    old = tokens().issue("ada", "s-1")
    rotated = tokens(f"new:{NEW},old:{OLD}")

    assert rotated.verify(old).user_id == "ada"
    assert jwt.get_unverified_header(rotated.issue("ada", "s"))["kid"] == "new"
    with pytest.raises(TokenError):
        tokens(f"new:{NEW}").verify(old)


@pytest.mark.parametrize(
    ("payload", "headers", "secret"),
    [
        (claims(), {"kid": "old"}, NEW),
        (claims(), {"kid": "unknown"}, OLD),
        (claims(), {}, OLD),
        (claims(iss="somebody"), {"kid": "old"}, OLD),
        (claims(aud="another-api"), {"kid": "old"}, OLD),
        *(
            ({k: v for k, v in claims().items() if k != name}, {"kid": "old"}, OLD)
            for name in claims()
        ),
    ],
)
def test_wrong_token_is_refused(
    payload: dict[str, Any], headers: dict[str, str], secret: str
) -> None:
    """A token with a wrong key, issuer or audience, or without a claim, is refused."""
    token = jwt.encode(payload, secret, algorithm="HS256", headers=headers)

    with pytest.raises(TokenError, match="not valid"):
        tokens().verify(token)


def test_unsigned_token_is_refused() -> None:
    """The algorithm is ours to choose: a token that says "none" is refused."""

    def part(value: object) -> str:
        raw = json.dumps(value).encode()
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    token = f"{part({'alg': 'none', 'kid': 'old'})}.{part(claims())}."

    with pytest.raises(TokenError):
        tokens().verify(token)


@pytest.mark.parametrize(
    "token", ["", "x", "a.b.c", "\udcff", "é.é.é", "W10.W10.x", "eyJraWQiOltdfQ.e30.x"]
)
def test_garbage_is_no_token(token: str) -> None:
    """Text that is no token is refused like a forged one."""
    with pytest.raises(TokenError):
        tokens().verify(token)


def test_refresh_token_is_kept_as_hash() -> None:
    """Refresh tokens are random, and their hash does not contain them."""
    first, second = new_refresh_token(), new_refresh_token()

    assert first != second
    assert len(first) >= 43
    assert first.encode() not in hash_refresh_token(first)
    assert hash_refresh_token(first) == hash_refresh_token(first)


def test_key_repr_hides_secret() -> None:
    """A key that ends up in a log does not show its secret."""
    (key,) = parse_signing_keys(OLD)

    assert isinstance(key, SigningKey)
    assert OLD not in repr(key)
