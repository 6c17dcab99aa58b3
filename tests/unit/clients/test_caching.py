"""The shared cache keeps what RFC 9111 allows, and nothing else."""

import pytest

from test_framework.clients.caching import CachingRoute, shared_lifetime_s
from test_framework.clients.passage import Passage, WireRequest
from test_framework.clients.wire import Exchange

DATE = ("date", "Tue, 24 Nov 2026 12:00:00 GMT")


class Origin:
    """Answers each request at once with a numbered body."""

    def __init__(self, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        self.headers = list(headers)
        self.status = status
        self.asked = 0
        self.returned = 0

    async def start(self, request: WireRequest) -> Passage:
        """Answer, whatever was asked."""
        self.asked += 1
        exchange = Exchange(None, is_head_request=False)
        exchange.status = self.status
        exchange.headers = self.headers
        exchange.has_head = True
        exchange.parts = [b"answer %d to %s" % (self.asked, request.method.encode())]
        exchange.completed_ns = 1
        return Passage(exchange, self._give_back)

    def _give_back(self, _: Exchange) -> None:
        self.returned += 1

    def close(self) -> None:
        """Hold nothing."""


def ask(
    *headers: tuple[str, str], method: str = "GET", target: str = "/a"
) -> WireRequest:
    """Return a request with these headers."""
    return WireRequest(method, target, b"", b"", headers)


async def _body(cache: CachingRoute, request: WireRequest) -> bytes:
    passage = await cache.start(request)
    body = await passage.exchange.body()
    passage.done()
    passage.done()
    return body


async def _is_kept(origin: Origin, first: WireRequest, second: WireRequest) -> bool:
    cache = CachingRoute(origin)
    before = await _body(cache, first)
    return await _body(cache, second) == before


@pytest.mark.parametrize(
    ("headers", "lifetime_s"),
    [
        ([("cache-control", "max-age=60")], 60),
        ([("cache-control", "max-age=60, s-maxage=5")], 5),
        ([("cache-control", 'max-age="60"')], 60),
        ([("cache-control", "public")], 0),
        ([("cache-control", "private, max-age=60")], 0),
        ([("cache-control", "no-store, max-age=60")], 0),
        ([("cache-control", "no-cache, max-age=60")], 0),
        ([("cache-control", 'private="x-a, x-b", max-age=60')], 0),
        ([("cache-control", "max-age=60"), ("cache-control", "private")], 0),
        ([("cache-control", "private"), ("cache-control", "max-age=60")], 0),
        ([("cache-control", "max-age=soon"), ("last-modified", DATE[1])], 0),
        ([DATE, ("expires", "Tue, 24 Nov 2026 12:01:00 GMT")], 60),
        ([DATE, ("expires", "0")], 0),
        ([DATE, ("last-modified", "Tue, 24 Nov 2026 11:00:00 GMT")], 360),
        ([], 0),
    ],
)
def test_lifetime_follows_the_headers(
    headers: list[tuple[str, str]], lifetime_s: float
) -> None:
    """The strictest of all header lines decides; no word of freshness means none."""
    found = shared_lifetime_s(200, headers, has_authorization=False)

    assert found == lifetime_s


@pytest.mark.parametrize("status", [206, 304])
def test_part_of_an_answer_is_never_kept(status: int) -> None:
    """A partial answer and a confirmation are not handed to who asks for the whole."""
    headers = [("cache-control", "max-age=60")]

    assert shared_lifetime_s(status, headers, has_authorization=False) == 0


@pytest.mark.parametrize(
    ("directives", "lifetime_s"),
    [
        ("max-age=60", 0),
        ("public, max-age=60", 60),
        ("s-maxage=60", 60),
        ("must-revalidate, max-age=60", 60),
    ],
)
def test_authorized_answer_needs_permission(directives: str, lifetime_s: float) -> None:
    """What was asked with Authorization is shared only if the service says so."""
    headers = [("cache-control", directives)]

    assert shared_lifetime_s(200, headers, has_authorization=True) == lifetime_s


async def test_kept_answer_reaches_a_stranger() -> None:
    """A fresh answer is handed to whoever asks the same, marked with its age."""
    origin = Origin((b"cache-control", b"max-age=60"), (b"age", b"10"))
    cache = CachingRoute(origin)
    await _body(cache, ask())

    passage = await cache.start(ask(("cookie", "other")))

    assert passage.is_cached
    assert (b"age", b"10") in passage.exchange.headers
    assert (cache.hits, cache.stores, origin.asked, origin.returned) == (1, 1, 1, 1)


async def test_answer_older_than_its_lifetime_is_not_kept() -> None:
    """The age that an answer arrives with is part of its lifetime."""
    origin = Origin((b"cache-control", b"max-age=60"), (b"age", b"60"))

    assert not await _is_kept(origin, ask(), ask())


@pytest.mark.parametrize(
    ("vary", "is_kept"),
    [
        ([b"accept-language"], True),
        ([b"Cookie"], False),
        ([b"accept-language, cookie"], False),
        ([b"cookie", b"accept-encoding"], False),
        ([b"*"], False),
        ([b"accept, *"], False),
    ],
)
async def test_vary_parts_the_users(vary: list[bytes], *, is_kept: bool) -> None:
    """Every line of Vary counts: a header it names keeps two users apart."""
    origin = Origin(
        (b"cache-control", b"max-age=60"), *((b"vary", value) for value in vary)
    )

    kept = await _is_kept(origin, ask(("cookie", "a")), ask(("cookie", "b")))

    assert kept == is_kept


@pytest.mark.parametrize(("method", "is_kept"), [("PUT", False), ("OPTIONS", True)])
async def test_unsafe_request_empties_its_place(method: str, *, is_kept: bool) -> None:
    """After an accepted write the old answer is gone; after a question it stays."""
    cache = CachingRoute(Origin((b"cache-control", b"max-age=60")))
    before = await _body(cache, ask())

    await _body(cache, ask(method=method))

    assert (await _body(cache, ask()) == before) == is_kept


async def test_refused_write_empties_nothing() -> None:
    """A write that the service refused changes nothing in the cache."""
    origin = Origin((b"cache-control", b"max-age=60"))
    cache = CachingRoute(origin)
    before = await _body(cache, ask())
    origin.status = 403

    await _body(cache, ask(method="PUT"))

    assert await _body(cache, ask()) == before


@pytest.mark.parametrize(
    "header",
    [
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=0"),
        ("range", "bytes=0-1"),
        ("if-none-match", '"1"'),
    ],
)
async def test_particular_request_passes_the_cache(header: tuple[str, str]) -> None:
    """Who asks for a part, a change or a new answer is answered by the service."""
    origin = Origin((b"cache-control", b"max-age=60"))

    assert not await _is_kept(origin, ask(), ask(header))
    assert not await _is_kept(origin, ask(header), ask())


async def test_incomplete_answer_is_not_kept() -> None:
    """An answer that was cut is not handed to the next."""
    origin = Origin((b"cache-control", b"max-age=60"))
    cache = CachingRoute(origin)
    passage = await cache.start(ask())
    passage.exchange.completed_ns = 0
    passage.done()

    assert (cache.stores, origin.returned) == (0, 1)
