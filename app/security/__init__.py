"""Who may come in and who may do what: passwords, tokens, roles."""

from app.security.passwords import PasswordHasher
from app.security.roles import (
    DEFAULT_POLICY,
    Authority,
    Permission,
    PermissionDeniedError,
    Policy,
    PolicyError,
    Role,
)
from app.security.tokens import (
    AccessTokens,
    Claims,
    TokenError,
    hash_refresh_token,
    new_refresh_token,
)

__all__ = [
    "DEFAULT_POLICY",
    "AccessTokens",
    "Authority",
    "Claims",
    "PasswordHasher",
    "Permission",
    "PermissionDeniedError",
    "Policy",
    "PolicyError",
    "Role",
    "TokenError",
    "hash_refresh_token",
    "new_refresh_token",
]
