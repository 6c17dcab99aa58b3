"""Clients that leave: what a handler had begun and does not end."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator

from test_framework.catalogue.pattern import CANCELLED_USERS, Pattern
from test_framework.catalogue.world import NAMES, Store, visits
from test_framework.explore import external


class _Streams:
    """Streams tokens of a model to a client, and bills them at the end."""

    def __init__(self) -> None:
        self.running: set[str] = set()

    async def tokens(self, user: str) -> AsyncGenerator[str, None]:
        self.running.add(user)
        for token in ("a", "b"):
            await external("next token")
            yield token
        self.running.discard(user)

    async def respond(self, user: str) -> None:
        async for _ in self.tokens(user):
            await external("write to the socket")


class _ClosingStreams(_Streams):
    async def tokens(self, user: str) -> AsyncGenerator[str, None]:
        self.running.add(user)
        try:
            for token in ("a", "b"):
                await external("next token")
                yield token
        finally:
            self.running.discard(user)

    async def respond(self, user: str) -> None:
        async with contextlib.aclosing(self.tokens(user)) as tokens:
            async for _ in tokens:
                await external("write to the socket")


async def _stream(streams: _Streams, user: int) -> None:
    await streams.respond(NAMES[user])


def _nothing_runs(streams: _Streams) -> None:
    assert not streams.running, "the model goes on, at the cost of a user who left"


DISCONNECTED_STREAM = Pattern(
    id="X11",
    title="client leaves in the middle of a stream",
    summary=(
        "The generator of tokens is left where it stands when the response is "
        "cancelled. Clean up in finally, and close it with aclosing."
    ),
    source="https://github.com/Arize-ai/openinference/issues/1769",
    vulnerable=visits(_Streams, _stream, _nothing_runs),
    safe=visits(_ClosingStreams, _stream, _nothing_runs),
    needs=CANCELLED_USERS,
)


class _Grants:
    """Commits a grant, then tells the other services."""

    def __init__(self) -> None:
        self.table: list[str] = []
        self.published: list[str] = []
        self.outbox: list[str] = []

    async def grant(self, user: str) -> None:
        await external("COMMIT")
        self.table.append(user)
        await external("PUBLISH")
        self.published.append(user)

    def relay(self) -> None:
        """Publish what is in the outbox, as a relay does every second."""
        self.published += self.outbox


class _OutboxGrants(_Grants):
    async def grant(self, user: str) -> None:
        await external("COMMIT")
        self.table.append(user)
        self.outbox.append(user)


async def _grant(grants: _Grants, user: int) -> None:
    await grants.grant(NAMES[user])


def _all_told(grants: _Grants) -> None:
    grants.relay()
    assert set(grants.table) == set(grants.published), "granted, and nobody knows"


COMMIT_THEN_PUBLISH = Pattern(
    id="X13",
    title="cancelled between commit and publish",
    summary=(
        "The row is committed, the request is cancelled, and the event is never sent. "
        "Write the event in the same transaction and let a relay send it."
    ),
    source="https://microservices.io/patterns/data/transactional-outbox.html",
    vulnerable=visits(_Grants, _grant, _all_told),
    safe=visits(_OutboxGrants, _grant, _all_told),
    needs=CANCELLED_USERS,
)


class _Support:
    """A support worker looks at accounts with the rights of their owners."""

    def __init__(self) -> None:
        self.acting_as = "worker"

    @contextlib.contextmanager
    def impersonate(self, user: str) -> Iterator[None]:
        self.acting_as = user
        yield
        self.acting_as = "worker"

    async def look(self, user: str) -> None:
        with self.impersonate(user):
            await external("SELECT account")


class _RestoringSupport(_Support):
    @contextlib.contextmanager
    def impersonate(self, user: str) -> Iterator[None]:
        self.acting_as = user
        try:
            yield
        finally:
            self.acting_as = "worker"


async def _look(support: _Support, user: int) -> None:
    if not user:
        await support.look("alice")


def _is_worker_again(support: _Support) -> None:
    assert support.acting_as == "worker", "acts as alice from now on"


IMPERSONATION_STAYS = Pattern(
    id="A10",
    title="impersonation not taken back",
    summary=(
        "A cancellation skips the line that switches back to the worker's own rights. "
        "Switch back in finally."
    ),
    source="https://cwe.mitre.org/data/definitions/271.html",
    vulnerable=visits(_Support, _look, _is_worker_again),
    safe=visits(_RestoringSupport, _look, _is_worker_again),
    needs=CANCELLED_USERS,
)


class _Admission:
    """Admits one request of a tenant at a time, by a gauge."""

    def __init__(self) -> None:
        self.in_flight = 0

    async def handle(self) -> bool:
        if self.in_flight:
            return False
        self.in_flight += 1
        await external("call the model")
        self.in_flight -= 1
        return True


class _ExactAdmission(_Admission):
    async def handle(self) -> bool:
        if self.in_flight:
            return False
        self.in_flight += 1
        try:
            await external("call the model")
        finally:
            self.in_flight -= 1
        return True


async def _handle(admission: _Admission, user: int) -> None:  # noqa: ARG001  # any user
    await admission.handle()


def _nothing_in_flight(admission: _Admission) -> None:
    assert admission.in_flight == 0, "the tenant is never admitted again"


GAUGE_DRIFT = Pattern(
    id="O02",
    title="gauge drifts",
    summary=(
        "A gauge of requests in flight goes up and, when the request is cancelled, "
        "never down. Decrease it in finally."
    ),
    source="https://prometheus.github.io/client_python/instrumenting/gauge/",
    vulnerable=visits(_Admission, _handle, _nothing_in_flight),
    safe=visits(_ExactAdmission, _handle, _nothing_in_flight),
    needs=CANCELLED_USERS,
)


class _Connections:
    """Sends a heartbeat to each socket while it is open."""

    def __init__(self) -> None:
        self.store = Store()

    async def heartbeat(self, user: str) -> None:
        while True:
            await asyncio.sleep(30)
            self.store.data[user] = "online"

    async def serve(self, user: str) -> None:
        beat = asyncio.create_task(self.heartbeat(user))
        await external("the client says good-bye")
        beat.cancel()


class _OwningConnections(_Connections):
    async def serve(self, user: str) -> None:
        beat = asyncio.create_task(self.heartbeat(user))
        try:
            await external("the client says good-bye")
        finally:
            beat.cancel()


async def _serve(connections: _Connections, user: int) -> None:
    await connections.serve(NAMES[user])


TASK_OUTLIVES = Pattern(
    id="O08",
    title="task outlives its connection",
    summary=(
        "The handler of a socket is cancelled before it cancels its heartbeat, which "
        "says for ever that the user is online. Cancel it in finally."
    ),
    source="https://github.com/deepankarm/pyleak",
    vulnerable=visits(_Connections, _serve),
    safe=visits(_OwningConnections, _serve),
    needs=CANCELLED_USERS,
    kind="task-left",
)


class _RateLimit:
    """Counts requests in a key that must expire."""

    def __init__(self) -> None:
        self.redis = Store()
        self.expires: set[str] = set()

    async def hit(self, user: str) -> None:
        if await self.redis.add(user, 1) == 1:
            await external("EXPIRE")
            self.expires.add(user)


class _AtomicRateLimit(_RateLimit):
    async def hit(self, user: str) -> None:
        await external("EVAL: INCR and EXPIRE")
        self.redis.data[user] = self.redis.data.get(user, 0) + 1
        self.expires.add(user)


async def _hit(limit: _RateLimit, user: int) -> None:
    await limit.hit(NAMES[user])


def _all_counters_expire(limit: _RateLimit) -> None:
    assert set(limit.redis.data) <= limit.expires, "locked out for ever"


INCR_EXPIRE = Pattern(
    id="R04",
    title="INCR, then EXPIRE",
    summary=(
        "A request is cancelled between the two commands, the counter never expires, "
        "and the user is locked out. Do both in one script."
    ),
    source="https://redis.io/docs/latest/commands/incr/",
    vulnerable=visits(_RateLimit, _hit, _all_counters_expire),
    safe=visits(_AtomicRateLimit, _hit, _all_counters_expire),
    needs=CANCELLED_USERS,
)


PATTERNS = (
    DISCONNECTED_STREAM,
    COMMIT_THEN_PUBLISH,
    IMPERSONATION_STAYS,
    GAUGE_DRIFT,
    TASK_OUTLIVES,
    INCR_EXPIRE,
)
