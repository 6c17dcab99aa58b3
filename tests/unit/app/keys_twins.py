"""Twins of signing keys: each lacks one protection, and its test catches it."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace

import jwt
from jwt.utils import base64url_decode

from app.security import KeyPair, KeyRing
from app.security.keyring import Load
from app.security.tokens import AUDIENCE, ISSUER


class AlgorithmOfToken:
    """Takes the algorithm from the token's header, as hand-written verifiers do.

    What pyjwt itself refuses, since it tells public keys from secrets; so the branch for
    HMAC is written out.
    """

    def __init__(self, keys: KeyRing, *, now: Callable[[], float]) -> None:
        """Verify with any of ``keys``."""
        self._keys = keys
        self._now = now

    def verify(self, token: str) -> str:
        """Return whose token it is."""
        header = jwt.get_unverified_header(token)
        public = self._keys.current.verifying[header["kid"]]
        if header["alg"] == "HS256":
            signed, _, given = token.rpartition(".")
            secret = public.public_bytes_raw()
            expected = hmac.digest(secret, signed.encode(), hashlib.sha256)
            if not hmac.compare_digest(base64url_decode(given), expected):
                raise jwt.InvalidSignatureError
            claims = json.loads(base64url_decode(signed.partition(".")[2]))
        else:
            claims = jwt.decode(
                token,
                public,
                algorithms=[header["alg"]],
                issuer=ISSUER,
                audience=AUDIENCE,
                options={"verify_exp": False, "verify_iat": False},
            )
        if claims["exp"] <= self._now():
            raise jwt.ExpiredSignatureError
        return str(claims["sub"])


class HastyRing(KeyRing):
    """Joins the read that is under way, though it may have looked before we asked."""

    async def refresh(self) -> None:
        if self._flights:
            await asyncio.shield(next(iter(self._flights)))
        else:
            await super().refresh()


class TwoFieldsRing(KeyRing):
    """Exchanges the name of the signing key first, and the key when it has come."""

    async def _read(self, load: Load) -> None:
        async with self._one_at_a_time:
            self._next = None
            keys = await load(0.0)
            torn = KeyPair(keys.signing.kid, self._keys.signing.private)
            self._keys = replace(keys, signing=torn)
            await asyncio.sleep(0)
            self._keys = keys
