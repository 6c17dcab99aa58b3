"""A shared HTTP cache in front of the service, as RFC 9111 allows one to be.

It keeps what it may and hands it to whoever asks the same, so an answer that should
have said ``private`` or ``Vary`` reaches the wrong user, as it would behind a CDN.
Where the RFC leaves a choice the cache is the plainer one: it never revalidates,
never serves stale answers, does not combine ranges and takes a field-qualified
``private`` or ``no-cache`` for an unqualified one.

Source: RFC 9111, sections 3 (storing), 4 (reusing) and 4.4 (invalidating).
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from test_framework.clients.passage import Passage, Route, WireRequest
from test_framework.clients.wire import Exchange
from test_framework.core import NS_PER_S

_HEURISTIC_STATUS = frozenset({200, 203, 300, 301, 308, 404, 405, 410, 414, 501})
_HEURISTIC_FRACTION = 0.1
# Parts and confirmations of an answer are not the answer.
_NEVER_STORED = frozenset({206, 304})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_CONDITIONAL = (
    "range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
)
_FORBIDS_STORING = frozenset({"no-store", "no-cache", "private"})
_ALLOWS_AUTHORIZED = frozenset({"public", "s-maxage", "must-revalidate"})


@dataclass(frozen=True, slots=True)
class _Stored:
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    vary: tuple[tuple[str, str], ...]
    stored_ns: int
    fresh_until_ns: int
    age_s: int


class CachingRoute:
    """Answers GET requests from what it was allowed to keep.

    Stores answers that are fresh by ``s-maxage``, ``max-age``, ``Expires`` or, by
    heuristic, ``Last-Modified``; never ``no-store`` or ``private`` ones, nor answers
    to requests with Authorization unless they say ``public``, ``s-maxage`` or
    ``must-revalidate``. The key is the target and the headers named by ``Vary``.

    Attributes:
        hits: Requests answered from the store (count).
        stores: Answers kept (count).
    """

    def __init__(self, upstream: Route) -> None:
        self._upstream = upstream
        self._stored: dict[str, list[_Stored]] = {}
        self.hits = 0
        self.stores = 0

    async def start(self, request: WireRequest) -> Passage:
        """Answer from the store when allowed, else ask the service."""
        if _may_be_cached(request):
            entry = self._lookup(request)
            if entry is not None:
                self.hits += 1
                return Passage(_replay(entry), is_cached=True)
        elif request.method in _SAFE_METHODS:
            return await self._upstream.start(request)
        passage = await self._upstream.start(request)

        def give_back(exchange: Exchange) -> None:
            if exchange.is_complete:
                self._learn(request, exchange)
            passage.done()

        return Passage(passage.exchange, give_back)

    def close(self) -> None:
        """Close the upstream connections and forget what was stored."""
        self._stored.clear()
        self._upstream.close()

    def _lookup(self, request: WireRequest) -> _Stored | None:
        now_ns = time.monotonic_ns()
        for entry in reversed(self._stored.get(request.target, ())):
            if entry.fresh_until_ns > now_ns and all(
                _header(request.headers, name) == value for name, value in entry.vary
            ):
                return entry
        return None

    def _learn(self, request: WireRequest, exchange: Exchange) -> None:
        """Keep a complete answer if allowed; forget what an unsafe request changed."""
        if request.method in _SAFE_METHODS:
            self._store(request, exchange)
        elif 200 <= exchange.status < 400:  # it was not refused
            self._stored.pop(request.target, None)

    def _store(self, request: WireRequest, exchange: Exchange) -> None:
        headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in exchange.headers
        ]
        lifetime_s = shared_lifetime_s(
            exchange.status,
            headers,
            has_authorization=bool(_header(request.headers, "authorization")),
        )
        age = _header(headers, "age")
        age_s = int(age) if age.isdecimal() else 0
        names = {
            name.strip().lower() for name in _header(headers, "vary").split(",")
        } - {""}
        if lifetime_s <= age_s or "*" in names:
            return
        now_ns = time.monotonic_ns()
        vary = tuple((name, _header(request.headers, name)) for name in sorted(names))
        self.stores += 1
        self._stored[request.target] = [
            entry
            for entry in self._stored.get(request.target, ())
            if entry.vary != vary and entry.fresh_until_ns > now_ns
        ] + [
            _Stored(
                status=exchange.status,
                headers=tuple(exchange.headers),
                body=b"".join(exchange.parts),
                vary=vary,
                stored_ns=now_ns,
                fresh_until_ns=now_ns + int((lifetime_s - age_s) * NS_PER_S),
                age_s=age_s,
            )
        ]


def _may_be_cached(request: WireRequest) -> bool:
    """Whether a request may be answered from the store and its answer kept."""
    if request.method != "GET" or request.hold:
        return False
    asks_anew = {"no-cache", "no-store", "max-age"} & _directives(
        _header(request.headers, "cache-control")
    ).keys()
    return not asks_anew and not any(
        _header(request.headers, name) for name in _CONDITIONAL
    )


def shared_lifetime_s(
    status: int, headers: Iterable[tuple[str, str]], *, has_authorization: bool
) -> float:
    """Return for how long a shared cache may reuse an answer, 0 for not at all.

    Args:
        status: HTTP status of the answer.
        headers: Its header pairs, names in lower case.
        has_authorization: Whether the request carried Authorization.
    """
    pairs = list(headers)
    directives = _directives(_header(pairs, "cache-control"))
    if status in _NEVER_STORED or _FORBIDS_STORING & directives.keys():
        return 0
    if has_authorization and not _ALLOWS_AUTHORIZED & directives.keys():
        return 0
    for name in ("s-maxage", "max-age"):
        if name in directives:
            age = directives[name]
            # A lifetime that cannot be read counts as over.
            return float(age) if age.isdecimal() else 0
    if status not in _HEURISTIC_STATUS:
        return 0
    try:
        date = _instant(_header(pairs, "date")) or datetime.now(UTC)
        expires = _header(pairs, "expires")
        if expires:
            return (parsedate_to_datetime(expires) - date).total_seconds()
        modified = _instant(_header(pairs, "last-modified"))
    except (TypeError, ValueError):
        return 0
    if modified is None:
        return 0
    return _HEURISTIC_FRACTION * (date - modified).total_seconds()


def _instant(value: str) -> datetime | None:
    return parsedate_to_datetime(value) if value else None


def _directives(value: str) -> dict[str, str]:
    directives: dict[str, str] = {}
    for part in value.lower().split(","):
        name, _, argument = part.strip().partition("=")
        directives[name.strip()] = argument.strip().strip('"')
    return directives


def _header(headers: Iterable[tuple[str, str]], name: str) -> str:
    """Return the value of a header; lines of one name are joined by commas."""
    return ", ".join(value for key, value in headers if key == name)


def _replay(entry: _Stored) -> Exchange:
    exchange = Exchange(None, is_head_request=False)
    now_ns = time.monotonic_ns()
    age_s = entry.age_s + (now_ns - entry.stored_ns) // NS_PER_S
    exchange.sent_ns = exchange.first_byte_ns = exchange.completed_ns = now_ns
    exchange.status = entry.status
    exchange.headers = [
        (name, value) for name, value in entry.headers if name.lower() != b"age"
    ]
    exchange.headers.append((b"age", b"%d" % age_s))
    exchange.has_head = True
    exchange.parts = [entry.body]
    exchange.received_bytes = len(entry.body)
    return exchange
