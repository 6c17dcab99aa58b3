"""WebSockets under every order: own events only, in order, and nothing left behind.

The endpoint, the hub and the event log are the service's own. Requests are cancelled at
any instant; one client leaves at any instant, the other stays until its token expires.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, cast

import pytest
from starlette.types import Message
from starlette.websockets import WebSocket

from app.api import websocket as endpoint
from app.api.dependencies import parts_of
from app.api.frontier import RECORD, RequestRecord
from app.api.websocket import watch_events
from app.realtime import Event, EventLog, Hub
from app.realtime.hub import RUN_CONTROL
from app.security import AccessTokens, Refusals
from test_framework.explore import Report, Scenario, explore, external
from tests.unit.app.exploring import USERS_ALONE, assert_found
from tests.unit.app.fakes.redis import MemoryRedis
from tests.unit.app.parts import NoDatabase, OpenLogins, many_sockets, ring_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

_USERS = ("ada", "bob")


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


_TOKENS = AccessTokens(ring_of("k"), lifetime_s=600, now=_loop_time)


@pytest.fixture(autouse=True)
def _one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the wall clock go with the loop's, so that nobody need look in between."""
    monkeypatch.setattr(endpoint, "_now", _loop_time)
    monkeypatch.setattr(endpoint, "LOOK_EVERY_S", 1_000.0)


Watch = Callable[[WebSocket, int | None], Awaitable[None]]


class _Client:
    """The other end of a socket: it connects, is sent frames, and may leave.

    Args:
        leaves: Whether it does before its token expires.
    """

    def __init__(self, *, leaves: bool) -> None:
        self._leaves = leaves
        self.frames: list[dict[str, Any]] = []
        self._has_connected = False

    async def receive(self) -> Message:
        """Give the service what the client does."""
        if not self._has_connected:
            self._has_connected = True
            return {"type": "websocket.connect"}
        if not self._leaves:
            await asyncio.Event().wait()
        await external("the client leaves")
        return {"type": "websocket.disconnect", "code": 1001}

    async def send(self, message: Message) -> None:
        """Take what the service sends."""
        await external("send")
        if message["type"] == "websocket.send":
            self.frames.append(json.loads(message["text"]))


class _Office:
    """The realtime half of a process, and a client for each user."""

    def __init__(self, watch: Watch, log: type[EventLog]) -> None:
        self._watch = watch
        self._redis = MemoryRedis()
        redis = cast("Redis", self._redis)
        self._hub, self._log = Hub(redis, beat_s=None), log(redis)
        self._counted = many_sockets()
        self._clients = {
            "ada": _Client(leaves=True),
            "bob": _Client(leaves=False),
        }

    async def __aenter__(self) -> Self:
        await self._hub.start(lambda _: None)
        await self._append()  # so that there is something to read from the start
        self._before = asyncio.all_tasks()
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:
            if settling := [t for t in asyncio.all_tasks() if "_settle" in repr(t)]:
                await asyncio.wait(settling)
            self._check()
        await self._hub.close()

    async def serve_or_append(self, number: int) -> None:
        """Serve the socket of a user; the last one appends events of all."""
        if number == len(_USERS):
            await self._append()
            return
        user_id = _USERS[number]
        client = self._clients[user_id]
        parts = SimpleNamespace(
            access_tokens=_TOKENS,
            refusals=Refusals(),  # time may pass until a token has expired
            sessions=NoDatabase(),
            refresh_tokens=OpenLogins(),
            events=self._log,
            hub=self._hub,
            sockets=self._counted,
        )
        token = _TOKENS.issue(user_id, "login")
        scope = {
            "type": "websocket",
            "app": SimpleNamespace(state=SimpleNamespace(parts=parts)),
            "query_string": b"",
            "headers": [(b"authorization", f"Bearer {token}".encode())],
            RECORD: RequestRecord("r"),
        }
        await self._watch(WebSocket(scope, client.receive, client.send), 0)

    async def _append(self) -> None:
        for user_id in _USERS:
            await self._log.append(user_id, "x", run_id=user_id, thread_id="t", data={})

    def _check(self) -> None:
        for user_id, client in self._clients.items():
            events = [frame for frame in client.frames if "seq" in frame]
            foreign = {frame["run_id"] for frame in events} - {user_id}
            assert not foreign, f"{user_id} was sent events of {foreign}"
            numbers = [frame["seq"] for frame in events]
            assert numbers == list(range(1, len(numbers) + 1)), f"{user_id}: {numbers}"
        assert self._hub.channels == {RUN_CONTROL}, f"left: {self._hub.channels}"
        left = asyncio.all_tasks() - self._before
        assert not left, f"tasks are left: {[task.get_name() for task in left]}"


def _explored(
    watch: Watch = watch_events,
    log: type[EventLog] = EventLog,
    *,
    schedules: int = 10_000,
    cancel: str = USERS_ALONE,
) -> Report:
    return explore(
        Scenario(
            lambda: _Office(watch, log), _Office.serve_or_append, users=len(_USERS) + 1
        ),
        fidelity="await",
        cancel=cancel,
        schedules=schedules,
        budget="90s",
        seed=1,
    )


@pytest.mark.slow
def test_sockets_get_own_events_and_leave_nothing() -> None:
    """Whoever leaves or is cancelled, each user is sent own events, once, in order."""
    report = _explored(schedules=300)

    assert report.witness is None, report.text()


async def _watch_without_finally(websocket: WebSocket, after: int | None) -> None:
    """Stop sending when the client leaves, and not when the request is cancelled."""
    parts = parts_of(websocket)
    await websocket.accept()
    claims = await endpoint._authenticate(parts, websocket)
    assert claims is not None
    sender = asyncio.create_task(
        endpoint._send_events(parts, websocket, claims.user_id, after)
    )
    receiver = asyncio.create_task(
        endpoint._hear(parts, websocket, endpoint._Watch(claims))
    )
    await asyncio.wait(
        {sender, receiver},
        timeout=claims.expires_at - endpoint._now(),
        return_when=asyncio.FIRST_COMPLETED,
    )
    for task in (sender, receiver):
        task.cancel()
    await asyncio.gather(sender, receiver, return_exceptions=True)


@pytest.mark.power
def test_sender_left_by_cancelled_request_is_found() -> None:
    """A request that is cancelled and leaves its sender following is found."""
    assert_found(_explored(_watch_without_finally), "assertion", "left")


class _LastUserLog(EventLog):
    """Keeps the user it works for in itself across an await."""

    _user_id = ""

    async def read(self, user_id: str, *, after: int, limit: int = 200) -> list[Event]:
        self._user_id = user_id
        await external("look up the shard")
        return await super().read(self._user_id, after=after, limit=limit)


@pytest.mark.power
def test_events_of_the_last_user_are_found() -> None:
    """A log that remembers whom it reads for sends one user's events to another."""
    assert_found(
        _explored(log=_LastUserLog, cancel=""), "assertion", "was sent events of"
    )
