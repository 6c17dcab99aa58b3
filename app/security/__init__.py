"""Who may come in: password hashes and signed tokens."""

from app.security.passwords import PasswordHasher
from app.security.tokens import (
    AccessTokens,
    Claims,
    TokenError,
    hash_refresh_token,
    new_refresh_token,
)

__all__ = [
    "AccessTokens",
    "Claims",
    "PasswordHasher",
    "TokenError",
    "hash_refresh_token",
    "new_refresh_token",
]
