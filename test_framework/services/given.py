"""Servers that the caller names: are they well named, and does anybody answer?

Wrong here means minutes of puzzling later, so each is looked at before anything
starts: the form of the URL, then one TCP connection. Credentials are not tried;
passwords are never shown.
"""

import socket
from urllib.parse import SplitResult, parse_qs, urlsplit

from test_framework.core import TargetError, UsageError

POSTGRES = "postgres"
REDIS = "redis"

VARIABLES = {POSTGRES: "DATABASE_URL", REDIS: "REDIS_URL"}
NAMES = {POSTGRES: "Postgres", REDIS: "Redis"}

_SCHEMES = {POSTGRES: ("postgresql", "postgres"), REDIS: ("redis", "rediss")}
_PORTS = {POSTGRES: 5432, REDIS: 6379}
_EXAMPLES = {
    POSTGRES: "postgresql://user:password@host:5432/database",
    REDIS: "redis://:password@host:6379/0",
}

_CONNECT_TIMEOUT_S = 5.0


def check_given(name: str, url: str) -> str:
    """Return a given URL as our clients take it, once its server was reached.

    Args:
        name: ``postgres`` or ``redis``.
        url: What the environment says.

    Raises:
        TargetError: Nobody answers there; the message leaves the password out.
        UsageError: It is no URL of such a server.
    """
    parts = _parsed(name, url)
    address = (parts.hostname or "", parts.port or _PORTS[name])
    if parts.hostname:
        try:
            socket.create_connection(address, timeout=_CONNECT_TIMEOUT_S).close()
        except OSError as exc:
            message = (
                f"{VARIABLES[name]} names {_without_password(parts)!r}, where nobody "
                f"answers ({exc.strerror or exc}). Start that server, correct "
                f"{VARIABLES[name]}, or unset it to have one started."
            )
            raise TargetError(message) from exc
    return parts.geturl()


def _parsed(name: str, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        # Not chained: the parser quotes what it stumbled over, which may be a
        # password with a stray # or / in it.
        wrong = "its host or port cannot be read; a password is percent-encoded"
        raise UsageError(_malformed(name, wrong)) from None
    # SQLAlchemy writes its driver into the scheme; other clients refuse that.
    parts = parts._replace(scheme=parts.scheme.partition("+")[0])
    if parts.scheme not in _SCHEMES[name]:
        wrong = f"the scheme is {parts.scheme!r}"
        raise UsageError(_malformed(name, wrong))
    if not parts.hostname and "host" not in parse_qs(parts.query):
        raise UsageError(_malformed(name, "no host is named"))
    return parts


def _malformed(name: str, wrong: str) -> str:
    # The value is not quoted: a URL that cannot be parsed may hold a password anywhere.
    return (
        f"{VARIABLES[name]} is not a URL of {NAMES[name]}: {wrong}. Write it as "
        f"{_EXAMPLES[name]}, or unset it to have a server started."
    )


def _without_password(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    user = f"{parts.username}@" if parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{user}{host}{port}{parts.path}"
