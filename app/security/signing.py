"""Signing keys: Ed25519 pairs, how they are kept in a database, one snapshot of them.

The private half of a key leaves a process only sealed (AES-256-GCM) under a root secret
from the settings, and the database says of no public half that it is ours: each row is
tagged under the same root. So whoever can write to the table can add no key that tokens
verify with, and whoever can read it can sign nothing.

A key is called by the thumbprint of its public half (RFC 7638), so a name cannot be
given to another key. Every key is for one algorithm, and tokens have no say in it
(RFC 8725, section 3.1).
"""

import base64
import enum
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.settings import SigningKey

ALGORITHM = "EdDSA"
_NONCE_BYTES = 12


class KeyState(enum.StrEnum):
    """What a key is used for; a key goes through all three in this order.

    Attributes:
        NEXT: It is published and verifies; nothing is signed with it yet.
        ACTIVE: It signs.
        RETIRED: It verifies what it signed, until the last of that has expired. Its
            private half is gone.
    """

    NEXT = "next"
    ACTIVE = "active"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key that signs, and what tokens call it by."""

    kid: str
    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """Return a new random key."""
        return cls.from_seed(secrets.token_bytes(32))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Return the key that 32 bytes stand for."""
        private = Ed25519PrivateKey.from_private_bytes(seed)
        return cls(thumbprint(private.public_key().public_bytes_raw()), private)

    @property
    def public(self) -> Ed25519PublicKey:
        """What verifies its signatures."""
        return self.private.public_key()


@dataclass(frozen=True, slots=True)
class KeySet:
    """All keys at one moment, as one object that is exchanged as a whole.

    Whoever works with one has the name of a key and the key from the same moment,
    however often the keys are rotated meanwhile.

    Attributes:
        signing: The key that signs.
        verifying: The public keys that verify, by name; the signing one is among them.
        read_at_s: Before it was read (seconds of the ring's clock).
    """

    signing: KeyPair
    verifying: Mapping[str, Ed25519PublicKey]
    read_at_s: float = 0.0

    @classmethod
    def of(
        cls,
        signing: KeyPair,
        others: Iterable[Ed25519PublicKey] = (),
        *,
        read_at_s: float = 0.0,
    ) -> Self:
        """Return a set in which ``signing`` signs and ``others`` verify too."""
        keys = {thumbprint(key.public_bytes_raw()): key for key in others}
        keys[signing.kid] = signing.public
        return cls(signing, MappingProxyType(keys), read_at_s)

    @property
    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public keys as a JSON Web Key Set (RFC 7517, RFC 8037)."""
        return {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "x": _base64url(key.public_bytes_raw()),
                    "kid": kid,
                    "use": "sig",
                    "alg": ALGORITHM,
                }
                for kid, key in sorted(self.verifying.items())
            ]
        }


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A key as the database keeps it.

    Attributes:
        root: The root secret that it is sealed and tagged under, by name.
        public: The raw public half, 32 bytes.
        tag: Proof that who stored the public half had the root secret.
        sealed: The private half: a nonce of 12 bytes and the ciphertext; None when it
            was erased.
    """

    kid: str
    root: str
    public: bytes
    tag: bytes
    sealed: bytes | None = field(repr=False)


class SealError(Exception):
    """Raised when a stored key is not what we have stored: it was tampered with."""


class KeySealer:
    """Seals keys under the first of the root secrets, and opens under any of them."""

    def __init__(self, roots: Sequence[SigningKey]) -> None:
        """Derive one secret for each purpose from each root (HKDF, RFC 5869)."""
        self.roots = tuple(root.kid for root in roots)
        self._ciphers = {
            root.kid: AESGCM(_derive(root, "seal private keys")) for root in roots
        }
        self._tag_keys = {root.kid: _derive(root, "tag public keys") for root in roots}

    def seal(self, pair: KeyPair) -> SealedKey:
        """Return a key in the form in which it may be stored."""
        root = self.roots[0]
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._ciphers[root].encrypt(
            nonce, pair.private.private_bytes_raw(), pair.kid.encode()
        )
        return SealedKey(
            pair.kid,
            root,
            pair.public.public_bytes_raw(),
            self._tag(root, pair.kid),
            nonce + sealed,
        )

    def open_public(self, key: SealedKey) -> Ed25519PublicKey:
        """Return the public half of a key that we have stored.

        Raises:
            SealError: It is not ours, or was changed.
        """
        is_ours = key.root in self._tag_keys and hmac.compare_digest(
            key.tag, self._tag(key.root, key.kid)
        )
        if not is_ours or thumbprint(key.public) != key.kid:
            raise _tampered(key)
        return Ed25519PublicKey.from_public_bytes(key.public)

    def open_pair(self, key: SealedKey) -> KeyPair:
        """Return a key that can sign.

        Raises:
            SealError: It is not ours, was changed, or has no private half.
        """
        self.open_public(key)
        sealed = key.sealed or b""
        try:
            seed = self._ciphers[key.root].decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], key.kid.encode()
            )
        except (InvalidTag, ValueError) as exc:
            raise _tampered(key) from exc
        pair = KeyPair.from_seed(seed)
        if pair.kid != key.kid:
            raise _tampered(key)
        return pair

    def _tag(self, root: str, kid: str) -> bytes:
        # The name is a hash of the public half, so it stands for that as well.
        return hmac.digest(self._tag_keys[root], kid.encode(), "sha256")


def thumbprint(public: bytes) -> str:
    """Return the name of a public key: its thumbprint (RFC 7638, RFC 8037)."""
    text = f'{{"crv":"Ed25519","kty":"OKP","x":"{_base64url(public)}"}}'
    return _base64url(hashlib.sha256(text.encode()).digest())


def _derive(root: SigningKey, purpose: str) -> bytes:
    info = f"isolation-audit signing keys: {purpose}".encode()
    hkdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=info)
    return hkdf.derive(root.secret.get_secret_value().encode())


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _tampered(key: SealedKey) -> SealError:
    message = (
        f"Signing key {key.kid!r} in the database was not stored by this service, or "
        "was changed since. Find out who writes to signing_keys, then delete the row."
    )
    return SealError(message)
