"""Access tokens: signed by a named key, short, and only for this service."""

import base64
import hmac
import json
from typing import Any

import jwt
import pytest

from app.security import (
    AccessTokens,
    TokenError,
    UnknownKeyError,
    hash_refresh_token,
    new_refresh_token,
)
from app.security.tokens import AUDIENCE, ISSUER
from tests.unit.app.keys_twins import AlgorithmOfToken
from tests.unit.app.parts import key_of, ring_of

NOW = 1_000_000


def tokens(*names: str, now: float = NOW) -> AccessTokens:
    """Return tokens that live 900 seconds, at a fixed instant; the first key signs."""
    return AccessTokens(ring_of(*(names or ("old",))), lifetime_s=900, now=lambda: now)


def signed(payload: dict[str, Any], headers: dict[str, str], *, by: str = "old") -> str:
    """Return a token of any content, signed by any key."""
    return jwt.encode(payload, key_of(by).private, algorithm="EdDSA", headers=headers)


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


def part(value: object) -> str:
    """Return a part of a token, unsigned."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_token_names_user_and_session() -> None:
    """What goes into a token comes out of it."""
    found = tokens().verify(tokens().issue("ada", "s-1"))

    assert (found.user_id, found.session_id) == ("ada", "s-1")
    assert found.expires_at == NOW + 900


def test_token_carries_key_name_and_own_id() -> None:
    """A token names its key, and two tokens of one session differ."""
    first, second = tokens().issue("ada", "s-1"), tokens().issue("ada", "s-1")

    assert jwt.get_unverified_header(first)["kid"] == key_of("old").kid
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
    rotated = tokens("new", "old")

    assert rotated.verify(old).user_id == "ada"
    newest = jwt.get_unverified_header(rotated.issue("ada", "s"))["kid"]
    assert newest == key_of("new").kid
    with pytest.raises(UnknownKeyError):
        tokens("new").verify(old)


KID = {"kid": key_of("old").kid}


@pytest.mark.parametrize(
    ("payload", "headers", "by"),
    [
        (claims(), KID, "new"),
        (claims(), {"kid": "unknown"}, "old"),
        (claims(), {}, "old"),
        (claims(iss="somebody"), KID, "old"),
        (claims(aud="another-api"), KID, "old"),
        *(
            ({k: v for k, v in claims().items() if k != name}, KID, "old")
            for name in claims()
        ),
    ],
)
def test_wrong_token_is_refused(
    payload: dict[str, Any], headers: dict[str, str], by: str
) -> None:
    """A token with a wrong key, issuer or audience, or without a claim, is refused."""
    with pytest.raises(TokenError, match="not valid"):
        tokens().verify(signed(payload, headers, by=by))


def test_good_token_of_the_same_making_is_accepted() -> None:
    """What the wrong tokens are made from is right."""
    assert tokens().verify(signed(claims(), KID)).user_id == "ada"


def test_unsigned_token_is_refused() -> None:
    """The algorithm is ours to choose: a token that says "none" is refused."""
    token = f"{part({'alg': 'none', **KID})}.{part(claims())}."

    with pytest.raises(TokenError):
        tokens().verify(token)


@pytest.mark.parametrize("twin", [False, True], ids=["sound", "alg of the token"])
def test_public_key_is_no_secret(*, twin: bool) -> None:
    """A token signed by HMAC with our public key is refused; the twin believes it.

    Key confusion (CVE-2015-9235): the header names an algorithm for which what everybody
    knows is the secret.
    """
    public = key_of("old").public.public_bytes_raw()
    signing_input = f"{part({'alg': 'HS256', **KID})}.{part(claims())}"
    digest = hmac.digest(public, signing_input.encode(), "sha256")
    token = f"{signing_input}.{part(digest)}"

    if twin:
        assert AlgorithmOfToken(ring_of("old"), now=lambda: NOW).verify(token) == "ada"
    else:
        with pytest.raises(TokenError, match="not valid"):
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
