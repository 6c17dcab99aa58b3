"""The cookies of one browser: kept by name and path, sent where the path fits.

After RFC 6265, without what one host needs no rule for: domains and public suffixes.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from test_framework.explore.asgi.messages import RawHeaders


@dataclass(frozen=True, slots=True)
class _Cookie:
    name: str
    value: str
    path: str
    secure: bool
    deadline: float | None


class CookieJar:
    """Cookies that a service set, and those that a test gives it."""

    def __init__(self) -> None:
        self._cookies: dict[tuple[str, str], _Cookie] = {}

    def __bool__(self) -> bool:
        return bool(self._cookies)

    def set(self, name: str, value: str, *, path: str = "/") -> None:
        """Keep a cookie as if the service had set it."""
        self._cookies[name, path] = _Cookie(
            name, value, path, secure=False, deadline=None
        )

    def get(self, name: str) -> str | None:
        """Return the value of a cookie, of the longest path; None when there is none."""
        found = [cookie for cookie in self._cookies.values() if cookie.name == name]
        return max(found, key=lambda one: len(one.path)).value if found else None

    def clear(self) -> None:
        """Forget all cookies."""
        self._cookies.clear()

    def header(self, path: str, *, is_secure: bool, now: float) -> bytes:
        """Return the value of the Cookie header for a path; empty for no cookies.

        Args:
            path: Path of the request.
            is_secure: Whether the scheme is https or wss.
            now: Time of the loop, seconds.
        """
        fitting = [
            cookie
            for cookie in self._cookies.values()
            if _is_below(path, cookie.path)
            and (is_secure or not cookie.secure)
            and (cookie.deadline is None or now < cookie.deadline)
        ]
        fitting.sort(key=lambda one: -len(one.path))
        return "; ".join(f"{one.name}={one.value}" for one in fitting).encode("latin-1")

    def take(self, headers: RawHeaders, *, path: str, now: float) -> None:
        """Do what the Set-Cookie headers of a reply say.

        Args:
            headers: Of the reply.
            path: Path of the request.
            now: Time of the loop, seconds; ``Max-Age`` counts from it.
        """
        for name, value in headers:
            if name.lower() == b"set-cookie":
                self._take(value.decode("latin-1"), path, now)

    def _take(self, text: str, path: str, now: float) -> None:
        pair, *attributes = text.split(";")
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            return
        given = {}
        for attribute in attributes:
            key, _, word = attribute.partition("=")
            given[key.strip().lower()] = word.strip()
        scope = given.get("path", "")
        if not scope.startswith("/"):
            scope = path.rpartition("/")[0] or "/"
        lifetime = _lifetime(given)
        if lifetime is not None and lifetime <= 0:
            self._cookies.pop((name.strip(), scope), None)
            return
        self._cookies[name.strip(), scope] = _Cookie(
            name.strip(),
            value.strip(),
            scope,
            secure="secure" in given,
            deadline=None if lifetime is None else now + lifetime,
        )


def _lifetime(given: dict[str, str]) -> float | None:
    """Return seconds to live, None for as long as the browser does."""
    try:
        if "max-age" in given:
            return int(given["max-age"])
        if "expires" in given:
            expires = parsedate_to_datetime(given["expires"])
            if expires.tzinfo is None:
                expires = expires.replace(tzinfo=UTC)
            # Only whether it has passed: the clock of a run is no wall clock.
            return None if expires > datetime.now(UTC) else 0
    except ValueError:
        return None
    return None


def _is_below(path: str, scope: str) -> bool:
    return path == scope or path.startswith(scope if scope[-1] == "/" else scope + "/")
