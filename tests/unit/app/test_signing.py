"""Stored signing keys: what the database gives away, and what it cannot make up."""

from dataclasses import replace

import jwt
import pytest
from pydantic import SecretStr

from app.security import KeyPair, KeySealer, KeySet, SealError
from app.settings import SigningKey
from tests.unit.app.parts import key_of

OLD, NEW = (SigningKey(name, SecretStr(name * 20)) for name in ("old", "new"))
PAIR = key_of("pair")


def test_sealed_key_opens_under_its_root() -> None:
    """What was sealed opens to the same key, and does not hold it in the clear."""
    stored = KeySealer([OLD]).seal(PAIR)

    opened = KeySealer([NEW, OLD]).open_pair(stored)

    assert opened.private.private_bytes_raw() == PAIR.private.private_bytes_raw()
    assert PAIR.private.private_bytes_raw() not in (stored.sealed or b"")


def test_first_root_seals() -> None:
    """A new first root seals what comes, so that the old one can be taken away."""
    stored = KeySealer([NEW, OLD]).seal(PAIR)

    assert stored.root == "new"
    assert KeySealer([NEW]).open_pair(stored).kid == PAIR.kid


OTHER = KeySealer([NEW]).seal(key_of("other"))
OTHER_OURS = KeySealer([OLD]).seal(key_of("other"))
STORED = KeySealer([OLD]).seal(PAIR)
SEALED = STORED.sealed or b""
PUBLIC_CHANGED = {
    "unknown root": replace(STORED, root="elsewhere"),
    "other root, same name": KeySealer([SigningKey("old", SecretStr("x" * 40))]).seal(
        PAIR
    ),
    "other public half": replace(STORED, public=OTHER.public),
    "other key": replace(STORED, public=OTHER.public, kid=OTHER.kid),
    "tag of another key": replace(STORED, tag=OTHER_OURS.tag),
}
PRIVATE_CHANGED = {
    "private half of another key": replace(STORED, sealed=OTHER_OURS.sealed),
    "one bit": replace(STORED, sealed=SEALED[:-1] + bytes([SEALED[-1] ^ 1])),
    "cut off": replace(STORED, sealed=SEALED[:7]),
    "erased": replace(STORED, sealed=None),
}


@pytest.mark.parametrize("change", [*PUBLIC_CHANGED, *PRIVATE_CHANGED])
def test_changed_row_signs_nothing(change: str) -> None:
    """Whoever writes to the table cannot make the service sign with another key."""
    with pytest.raises(SealError, match="signing_keys"):
        KeySealer([OLD]).open_pair((PUBLIC_CHANGED | PRIVATE_CHANGED)[change])


@pytest.mark.parametrize("change", PUBLIC_CHANGED)
def test_changed_row_verifies_nothing(change: str) -> None:
    """Whoever writes to the table cannot add a key that tokens verify with."""
    with pytest.raises(SealError):
        KeySealer([OLD]).open_public(PUBLIC_CHANGED[change])


def test_retired_key_verifies_without_private_half() -> None:
    """A key whose private half was erased still verifies what it signed."""
    public = KeySealer([OLD]).open_public(PRIVATE_CHANGED["erased"])

    assert public == PAIR.public


def test_jwks_verifies_tokens_elsewhere() -> None:
    """Another service can verify with what is published, and with nothing private."""
    keys = KeySet.of(PAIR, [key_of("next").public])
    token = jwt.encode({"sub": "ada"}, PAIR.private, "EdDSA", {"kid": PAIR.kid})

    published = jwt.PyJWKSet.from_dict(keys.jwks)

    assert jwt.decode(token, published[PAIR.kid], ["EdDSA"]) == {"sub": "ada"}
    assert len(published.keys) == 2
    assert all("d" not in key for key in keys.jwks["keys"])


def test_key_is_named_by_what_it_is() -> None:
    """The name is the thumbprint, the same as in RFC 8037, appendix A.3."""
    seed = bytes.fromhex(
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    )

    pair = KeyPair.from_seed(seed)

    assert pair.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert "private" not in repr(pair)
