"""Accounts that the sentinel uses again, and what must never be told of them.

An audit file with ``REUSE_ACCOUNTS = True`` can log in to an account that it has
registered before. Name and password of each are derived from one key, so nothing needs
to be stored: with ``ISOLATION_SENTINEL_KEY`` in the environment they are the same after
a restart, without it each process has its own.
"""

import base64
import hmac
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from test_framework.swarm import User

KEY_VARIABLE = "ISOLATION_SENTINEL_KEY"
HIDDEN = "[hidden]"
_SECRET_HEADERS = ("authorization", "cookie", "x-api-key")
_SHORTEST_SECRET = 8


class Accounts:
    """Names and passwords by the number of a user.

    Args:
        key: Decides all of them; keep it secret.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._label = self._derive("label").hex()[:8]

    def _derive(self, purpose: str) -> bytes:
        return hmac.digest(
            self._key, b"isolation-sentinel 1\0" + purpose.encode(), "sha256"
        )

    def lend(self, user: "User") -> None:
        """Give a user the account of its number, before it logs in."""
        user.identities.discard(user.name)
        user.name = f"isosentinel-{self._label}-u{user.index:02d}"
        user.identities.add(user.name)
        password = self._derive(f"password {user.name}")[:18]
        user.password = base64.urlsafe_b64encode(password).decode()


def secrets_of(users: "Iterable[User]") -> set[str]:
    """Return passwords, tokens and cookies that the users have."""
    found: set[str] = set()
    for user in users:
        found.add(user.password)
        for name in _SECRET_HEADERS:
            # "Bearer TOKEN": the word before the token is no secret.
            found.update(user.http.headers.get(name, "").replace(";", " ").split())
        found.update(cookie.value or "" for cookie in user.http.cookies.jar)
    return {secret for secret in found if len(secret) >= _SHORTEST_SECRET}


def without(secrets: Iterable[str], text: str) -> str:
    """Return a text that may be told: no secret, and nothing that cannot be printed.

    What a service answers reaches terminals and receivers of JSON; an escape sequence
    or half a surrogate pair in it would do harm there.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in text
    )


def bare_url(url: str) -> str:
    """Return a URL without user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()
