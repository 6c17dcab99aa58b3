"""Who may come in, who may do what, and who did: passwords, tokens, roles, chains."""

from app.security.audit import (
    Anchor,
    AnchorKey,
    Entry,
    Flaw,
    FlawKind,
    Head,
    find_flaw,
    hash_entry,
)
from app.security.certificates import CertificateError, Certificates
from app.security.keypool import KeyPool, KeysRestError, Lease, NoKeyLeftError
from app.security.keyring import KeyRing, StaleKeysError
from app.security.passwords import PasswordHasher
from app.security.refusals import Refusal, Refusals
from app.security.resumption import ResumingContext
from app.security.roles import (
    DEFAULT_POLICY,
    Authority,
    Permission,
    PermissionDeniedError,
    Policy,
    Role,
)
from app.security.rotating import Secret, Secrets, SecretVersion
from app.security.signing import (
    KeyPair,
    KeySealer,
    KeySet,
    KeyState,
    SealedKey,
    SealError,
)
from app.security.tokens import (
    AccessTokens,
    Claims,
    TokenError,
    UnknownKeyError,
    hash_refresh_token,
    new_refresh_token,
)

__all__ = [
    "DEFAULT_POLICY",
    "AccessTokens",
    "Anchor",
    "AnchorKey",
    "Authority",
    "CertificateError",
    "Certificates",
    "Claims",
    "Entry",
    "Flaw",
    "FlawKind",
    "Head",
    "KeyPair",
    "KeyPool",
    "KeyRing",
    "KeySealer",
    "KeySet",
    "KeyState",
    "KeysRestError",
    "Lease",
    "NoKeyLeftError",
    "PasswordHasher",
    "Permission",
    "PermissionDeniedError",
    "Policy",
    "Refusal",
    "Refusals",
    "ResumingContext",
    "Role",
    "SealError",
    "SealedKey",
    "Secret",
    "SecretVersion",
    "Secrets",
    "StaleKeysError",
    "TokenError",
    "UnknownKeyError",
    "find_flaw",
    "hash_entry",
    "hash_refresh_token",
    "new_refresh_token",
]
