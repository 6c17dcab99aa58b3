"""Requests as bytes and records of them, without any connection."""

from collections.abc import AsyncIterator

import httpx
import pytest

from test_framework.canary import Mint
from test_framework.clients.endpoints import Endpoints
from test_framework.clients.http import (
    Caller,
    RecordingTransport,
    encode_request,
    renumbered,
    send_again,
)
from test_framework.clients.passage import Passage, WireRequest
from test_framework.clients.recorder import HEADERS, Part, Recorder
from test_framework.clients.wire import Exchange
from test_framework.core import History, MonotonicClock, Operation, TargetError

SEED = 7


class Ready:
    """A service that has answered before it was asked."""

    def __init__(
        self, body: bytes = b"{}", *headers: tuple[bytes, bytes], status: int = 200
    ) -> None:
        self.sent: list[WireRequest] = []
        self.body = body
        self.headers = list(headers)
        self.status = status
        self.given_back = 0

    async def start(self, request: WireRequest) -> Passage:
        """Answer at once."""
        self.sent.append(request)
        exchange = Exchange(None, is_head_request=False)
        exchange.status = self.status
        exchange.headers = self.headers
        exchange.has_head = True
        exchange.parts = [self.body]
        exchange.received_bytes = len(self.body)
        exchange.sent_ns = exchange.first_byte_ns = exchange.completed_ns = 1
        return Passage(exchange, self._give_back)

    def _give_back(self, _: Exchange) -> None:
        self.given_back += 1

    def close(self) -> None:
        """Hold nothing."""


class Down(Ready):
    """A service that is not there."""

    async def start(self, request: WireRequest) -> Passage:
        """Refuse."""
        self.sent.append(request)
        message = "nobody listens"
        raise TargetError(message)


class Burst:
    """A gate that lets everything through and counts."""

    name = "GET /notes/{id} é#3"

    def __init__(self) -> None:
        self.passed: list[int] = []
        self.excused = 0

    async def pass_through(self, exchange: Exchange, operation: int) -> None:
        """Release at once."""
        exchange.release()
        self.passed.append(operation)

    def excuse(self) -> None:
        """Count who does not come."""
        self.excused += 1


@pytest.fixture
def recorder() -> Recorder:
    """A recorder in memory that numbers requests on the wire."""
    return Recorder(History(), seed=SEED, clock=MonotonicClock(), is_tagging=True)


def _client(recorder: Recorder, caller: Caller) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url="http://service", transport=RecordingTransport(recorder, caller)
    )


def _recorded(recorder: Recorder) -> list[Operation]:
    return recorder.history.of(Operation)


def _plain(recorder: Recorder) -> WireRequest:
    return encode_request(
        recorder,
        index=1,
        method="GET",
        target="/notes/1",
        headers=[(b"Host", b"h")],
        body=b"",
        hold=False,
    )


def test_request_carries_its_number(recorder: Recorder) -> None:
    """The bytes are those of HTTP/1.1 with the number of the operation last."""
    request = _plain(recorder)

    assert request.head == (
        b"GET /notes/1 HTTP/1.1\r\nHost: h\r\nx-isolation-op: 1\r\n\r\n"
    )
    assert request.headers == (("host", "h"),)


def test_request_carries_its_user_when_it_is_sent_again(recorder: Recorder) -> None:
    """The number of the operation is another one then, and the user is the same."""
    request = encode_request(
        recorder,
        index=1,
        method="GET",
        target="/notes/1",
        headers=[(b"Host", b"h")],
        body=b"",
        hold=False,
        user=7,
    )

    again = renumbered(recorder, request, 2)

    assert request.head.endswith(
        b"\r\nx-isolation-user: 7\r\nx-isolation-op: 1\r\n\r\n"
    )
    assert again.head.endswith(b"\r\nx-isolation-user: 7\r\nx-isolation-op: 2\r\n\r\n")


def test_burst_member_carries_its_name(recorder: Recorder) -> None:
    """A member of a burst names it in letters that a header may hold; later it not."""
    burst = Burst()

    member = renumbered(recorder, _plain(recorder), 2, burst)
    later = renumbered(recorder, member, 3)

    assert member.head.endswith(
        b"\r\nx-isolation-op: 2\r\nx-isolation-burst: GET--notes--id---#3\r\n\r\n"
    )
    assert member.hold
    assert later.head == _plain(recorder).head.replace(b"op: 1", b"op: 3")
    assert not later.hold


def test_untagged_request_stays_as_it_is() -> None:
    """A service we did not start sees none of our headers."""
    recorder = Recorder(History(), seed=SEED, clock=MonotonicClock(), is_tagging=False)

    request = renumbered(recorder, _plain(recorder), 2, Burst())

    assert b"x-isolation" not in request.head


async def test_request_joins_the_burst_of_its_caller(recorder: Recorder) -> None:
    """The next request takes the gate, holds its last byte and names the burst."""
    caller, burst = Caller(0, Ready()), Burst()
    caller.gate = burst

    async with _client(recorder, caller) as http:
        await http.get("/a")
        await http.get("/a")

    route = caller.route
    assert isinstance(route, Ready)
    assert [request.hold for request in route.sent] == [True, False]
    assert b"x-isolation-burst" in route.sent[0].head
    assert [op.burst for op in _recorded(recorder)] == [burst.name, None]


async def test_lost_member_is_excused(recorder: Recorder) -> None:
    """The others need not wait for a member whose request never left."""
    caller, burst = Caller(0, Down()), Burst()
    caller.gate = burst

    async with _client(recorder, caller) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get("/a")

    assert burst.excused == 1


async def test_call_is_recorded_once(recorder: Recorder) -> None:
    """Reading, closing and closing again write one operation and free one slot."""
    route = Ready(b"hello")

    async with _client(recorder, Caller(0, route)) as http:
        async with http.stream("GET", "/a") as response:
            await response.aread()
            await response.aclose()
        await http.get("/b")

    assert [(op.path, op.outcome) for op in _recorded(recorder)] == [
        ("/a", "ok"),
        ("/b", "ok"),
    ]
    assert route.given_back == 2


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "ok"), (302, "ok"), (404, "fail"), (500, "info")]
)
async def test_outcome_follows_the_status(
    recorder: Recorder, status: int, outcome: str
) -> None:
    """A refusal did not happen; after a server error nobody knows."""
    caller = Caller(0, Ready(status=status))

    operation = await send_again(recorder, caller, _plain(recorder))

    assert (operation.outcome, operation.status) == (outcome, status)
    assert operation.error is None


async def test_refused_connection_is_unknown(recorder: Recorder) -> None:
    """A request that met nobody is ``info``, through either door."""
    caller = Caller(0, Down())

    raw = await send_again(recorder, caller, _plain(recorder))
    async with _client(recorder, caller) as http:
        with pytest.raises(httpx.ConnectError, match="nobody listens"):
            await http.get("/a")

    assert raw.outcome == "info"
    assert [op.error for op in _recorded(recorder)] == ["refused", "refused"]


async def test_generated_body_has_its_length(recorder: Recorder) -> None:
    """A body from a generator is sent whole, with a length and without chunks."""
    route = Ready()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"cd"

    async with _client(recorder, Caller(0, route)) as http:
        await http.post("/a", content=pieces())

    assert route.sent[0].body == b"abcd"
    assert b"\r\ncontent-length: 4" in route.sent[0].head.lower()
    assert b"transfer-encoding" not in route.sent[0].head.lower()


async def test_cookies_stay_with_their_user(recorder: Recorder) -> None:
    """A cookie that was set for one user is sent by that user only."""
    first, second = Ready(b"", (b"set-cookie", b"sid=1; Path=/")), Ready()

    async with (
        _client(recorder, Caller(0, first)) as one,
        _client(recorder, Caller(1, second)) as other,
    ):
        await one.get("/login")
        await one.get("/a")
        await other.get("/a")

    assert ("cookie", "sid=1") in first.sent[1].headers
    assert not [pair for pair in second.sent[0].headers if pair[0] == "cookie"]


async def test_canaries_are_recorded_both_ways(recorder: Recorder) -> None:
    """A canary sent is planted; one received is seen where it stood, in a trailer too."""
    planted, foreign = Mint(SEED).mint(0, 4), Mint(SEED).mint(31, 2)
    route = Ready(b"{}", (b"x-note", b"a " + foreign.encode()))

    async with _client(recorder, Caller(0, route)) as http:
        await http.post("/a", json={"title": planted})

    (operation,) = _recorded(recorder)
    assert operation.planted == ("u0/4",)
    assert [(s.owner, s.canary, s.where) for s in operation.seen] == [
        (31, "u31/2", "header x-note")
    ]


@pytest.mark.parametrize(
    ("part", "where"),
    [
        (Part("body", b"{%s}"), "body"),
        (Part(HEADERS, b"a: 1\r\nX-Note: %s\r\nb: 2"), "header x-note"),
        (Part(HEADERS, b"Set-Cookie: sid=%s"), "cookie"),
    ],
)
def test_canary_is_placed(recorder: Recorder, part: Part, where: str) -> None:
    """Of several parts the one that holds the canary is named, with the offset in it."""
    canary = Mint(SEED).mint(3, 1).encode()
    filled = Part(part.where, part.data.replace(b"%s", canary))

    seen = recorder.seen((Part("first", b"x" * 50), filled, Part("last", b"y")))

    assert [(s.where, s.offset) for s in seen] == [(where, part.data.index(b"%s"))]


@pytest.mark.parametrize(
    ("path", "body", "created"),
    [
        ("/notes", b'{"user_id":"u","id":"n7"}', "n7"),
        ("/notes", b'{"id":7}', "7"),
        ("/notes", b'{"tenant_id":"t1"}', None),
        ("/notes", b'{"tenant_id":"t1","note_id":"n7"}', "n7"),
        ("/notes", b'{"id":true}', None),
        ("/notes", b"[1]", None),
        ("/notes", b"<html>", None),
    ],
)
async def test_new_identifier_is_its_own(
    recorder: Recorder, path: str, body: bytes, created: str | None
) -> None:
    """What was created is told apart from what it belongs to."""
    caller = Caller(0, Ready(body, status=201))

    async with _client(recorder, caller) as http:
        await http.post(path)

    assert _recorded(recorder)[0].created_id == created


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/threads/7", "GET /threads/{id}"),
        ("/threads/mine", "GET /threads/mine"),
        ("/threads/7/notes/8", "GET /threads/{a}/notes/{b}"),
        ("/threads/new/notes/8", "GET /threads/new/notes/{b}"),
        ("/other/8f14e45f-ceea-467f-a8b5-0123456789ab", "GET /other/{id}"),
        ("/other/12", "GET /other/{id}"),
        ("/other/a%2Fb", "GET /other/{id}"),
        ("/other/health", "GET /other/health"),
        ("/", "GET /"),
    ],
)
def test_endpoint_is_named_by_its_template(path: str, name: str) -> None:
    """The most literal template wins; without one, identifiers are blanked."""
    endpoints = Endpoints.of_openapi(
        {
            "paths": {
                "/threads/{a}/notes/{b}": {"get": {}},
                "/threads/new/notes/{b}": {"get": {}},
                "/threads/{id}": {"get": {}, "parameters": []},
                "/threads/mine": {"get": {}},
            }
        }
    )

    assert endpoints.name("GET", path) == name


@pytest.mark.parametrize("document", [{}, {"paths": []}, {"paths": {"/a": None}}])
def test_nonsense_declares_no_endpoint(document: dict[str, object]) -> None:
    """An OpenAPI document that is none leaves naming to the look of the path."""
    assert Endpoints.of_openapi(document).name("GET", "/a/1") == "GET /a/{id}"
