"""What a user asks for that another user had asked for: whose is it, to the service?

A service that looks at who is logged in, and not at whose the thing is, serves it to
whoever names its id. Nobody's own requests show that: each user must send the requests
of others, with its own credentials. Only reads are borrowed, as nothing of another user
may change, and no request that would bring the other's credentials along.

Source: OWASP API Security Top 10, API1:2023, broken object-level authorization.
"""

import random
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, unquote_plus

from test_framework.clients.routes import WireRequest

LENDERS = 2
"""Other users of whom one user borrows."""

MOST_BORROWED = 6
"""Requests that one user borrows, each of another endpoint: users take turns."""

_SECRET_NAMES = (
    "auth",
    "authorization",
    "code",
    "credential",
    "jwt",
    "key",
    "password",
    "secret",
    "session",
    "sessionid",
    "sid",
    "sig",
    "signature",
    "ticket",
    "token",
)
"""Ends of names of parameters that are credentials, without separators."""

_OF_ONE_REQUEST = frozenset(
    {
        "content-length",
        "idempotency-key",
        "traceparent",
        "tracestate",
        "x-correlation-id",
        "x-request-id",
    }
)
"""Headers that differ from request to request, and say nothing of who asks."""

_SHORTEST_SECRET = 8
"""Shorter values turn up in paths by chance (characters)."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A user as one who asks, or of whom is borrowed.

    Attributes:
        user: Its number.
        reads: Latest GET of each endpoint that gave the user an own canary.
        identities: What names the user and is no secret.
        secrets: What only the user may send, beside what its headers hold.
    """

    user: int
    reads: Mapping[str, WireRequest]
    identities: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()


def borrow(
    asker: Holder,
    holders: Sequence[Holder],
    *,
    public: Collection[str],
    holds_canary: Callable[[str], bool],
    rng: random.Random,
) -> list[tuple[int, WireRequest, str]]:
    """Choose what a user asks for of what others had asked for.

    Args:
        asker: Who asks.
        holders: All users, the asker as well.
        public: Endpoints whose answers all users may share.
        holds_canary: Whether a target holds anybody's canary. Sent by the asker, it
            would rightly stand in rows and log lines that name the asker.
        rng: Chooses.

    Returns:
        Triples of the other's number, a request of the asker's own whose headers are
        to be sent, and the path and query that the other had asked for.
    """
    if not asker.reads:
        return []
    others = [one for one in holders if one.user != asker.user and one.reads]
    lent: dict[str, list[tuple[int, WireRequest, str]]] = {}
    for other in rng.sample(others, min(LENDERS, len(others))):
        for endpoint, own, target in _lendable(asker, other):
            if endpoint not in public and not holds_canary(target):
                lent.setdefault(endpoint, []).append((other.user, own, target))
    endpoints = sorted(lent)
    # In turn, so that few users together still ask for everything.
    first = asker.user * MOST_BORROWED % len(endpoints) if endpoints else 0
    turn = (endpoints[first:] + endpoints[:first])[:MOST_BORROWED]
    return [rng.choice(lent[endpoint]) for endpoint in turn]


def _lendable(asker: Holder, other: Holder) -> Iterator[tuple[str, WireRequest, str]]:
    """Yield the endpoint, an own request and the target of what may be borrowed."""
    own_targets = {request.target for request in asker.reads.values()}
    first = min(asker.reads)
    secrets = _secrets(other, asker)
    for endpoint, request in sorted(other.reads.items()):
        own = asker.reads.get(endpoint, asker.reads[first])
        if request.method != "GET" or request.target in own_targets:
            continue
        if _telling(own) == _telling(request):
            # The target alone says who asks: sending it would be being the other.
            continue
        if not _tells_secret(request.target, secrets):
            yield endpoint, own, request.target


def _telling(request: WireRequest) -> set[tuple[str, str]]:
    """Return the headers that may say who asks."""
    return {pair for pair in request.headers if pair[0] not in _OF_ONE_REQUEST}


def _secrets(holder: Holder, asker: Holder) -> set[str]:
    """Return what is sent by ``holder`` alone and is no name of it."""
    values = _values(holder.reads.values()) - _values(asker.reads.values())
    return (values - holder.identities) | holder.secrets


def _values(requests: Iterable[WireRequest]) -> set[str]:
    """Return the values in headers: of ``Bearer x`` and ``sid=x; a=b``, each part."""
    return {
        unquote(part)
        for request in requests
        for _, value in _telling(request)
        for part in re.split(r"[\s;,=\"]+", value)
        if len(part) >= _SHORTEST_SECRET
    }


def _tells_secret(target: str, secrets: set[str]) -> bool:
    query = target.partition("?")[2]
    names = (
        re.sub(r"[^a-z]", "", name.lower())
        for name, _ in parse_qsl(query, keep_blank_values=True)
    )
    if any(name.endswith(_SECRET_NAMES) for name in names):
        return True
    readings = (target, unquote(target), unquote_plus(target))
    return any(secret in reading for secret in secrets for reading in readings)
