"""User contexts: a hundred made at one time, each with its own user's parts only.

Requests go through the service's own ``authenticate`` and ``open_work`` with real
signed tokens; keyspaces, emitters, trails and sessions live in memory. All requests
of a test are held inside their work until the last has come there, so a hundred
contexts are alive at one time. Beside each sound test stands a twin with the
mistake, which the same checking function finds.
"""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from app.api.dependencies import authenticate, open_work
from app.api.frontier import RECORD, RequestRecord
from app.context import UserExecutionContext
from app.monitoring import IsolationGuard
from app.security import AccessTokens
from app.storage import SessionFactory
from tests.unit.app.parts import (
    MemoryEmitter,
    MemoryKeyspace,
    MemoryTrail,
    OpenLogins,
    context_of,
    ring_of,
)

USERS = 100


class _OwnSession:
    """A session that knows whose it is; it is not asked anything else here."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id


class _Sessions(SessionFactory):
    """Opens sessions and counts those that are open."""

    def __init__(self) -> None:
        self.open_now = 0
        self.most_open = 0

    @contextlib.asynccontextmanager
    async def for_user(self, user_id: str) -> AsyncIterator[AsyncSession]:
        """Open a session after a turn of the loop, as a round trip would."""
        await asyncio.sleep(0)
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            yield cast("AsyncSession", _OwnSession(user_id))
        finally:
            self.open_now -= 1


@dataclass(frozen=True)
class Office:
    """What the dependencies are given in place of the whole service."""

    tokens: AccessTokens
    sessions: _Sessions
    app: SimpleNamespace

    @classmethod
    def opened(cls) -> "Office":
        """Return one with parts in memory."""
        tokens = AccessTokens(ring_of("k"), lifetime_s=60)
        sessions = _Sessions()
        keyspaces: dict[str, MemoryKeyspace] = {}
        parts = SimpleNamespace(
            guard=IsolationGuard(),
            access_tokens=tokens,
            sessions=sessions,
            refresh_tokens=OpenLogins(),
            redis=None,
            events=None,
            # A user's keys outlive a request, as they do in Redis.
            keyspaces=lambda _, user: keyspaces.setdefault(user, MemoryKeyspace(user)),
            emitters=lambda _, user: MemoryEmitter(user),
            trails=lambda user, _: MemoryTrail(user),
        )
        app = SimpleNamespace(state=SimpleNamespace(parts=parts))
        return cls(tokens, sessions, app)

    def request(self, user_id: str, request_id: str) -> Request:
        """Return a request of a user with a real token."""
        token = self.tokens.issue(user_id, f"login of {user_id}")
        return Request(
            {
                "type": "http",
                "app": self.app,
                "headers": [(b"authorization", f"Bearer {token}".encode())],
                RECORD: RequestRecord(request_id),
            }
        )


Open = Callable[[Request], contextlib.AbstractAsyncContextManager[Any]]


@contextlib.asynccontextmanager
async def sound(request: Request) -> AsyncIterator[UserExecutionContext]:
    """Open a context as the service's endpoints get theirs."""
    work = open_work(request, await authenticate(request))
    async with contextlib.aclosing(cast("Any", work)):
        async for context in work:
            yield context


@dataclass(frozen=True)
class Served:
    """One request and the context that it worked in."""

    user_id: str
    request_id: str
    context: UserExecutionContext
    read_back: bytes | None


async def serve_all(
    office: Office, open_context: Open, *, request_id: str | None = None
) -> list[Served]:
    """Serve a request of each user at one time, each held until all have a context."""
    waiting = 0
    is_full = asyncio.Event()

    async def serve(number: int) -> Served:
        nonlocal waiting
        user_id = f"user-{number:03d}"
        own_id = request_id or f"request-{number:03d}"
        async with open_context(office.request(user_id, own_id)) as context:
            waiting += 1
            if waiting == USERS:
                is_full.set()
            await is_full.wait()
            await context.keyspace.set("note", user_id.encode(), ttl_s=1)
            await context.emitter.emit("noted", run_id="r", thread_id="t", data={})
            await context.audit.record("noted", user_id)
            await asyncio.sleep(0)
            return Served(user_id, own_id, context, await context.keyspace.get("note"))

    return list(await asyncio.gather(*map(serve, range(USERS))))


def assert_contexts_are_apart(served: Iterable[Served]) -> None:
    """Check that each request had a context of its own, with its user's parts only."""
    all_served = list(served)
    for one in all_served:
        context = one.context
        owners = {
            "context": context.user_id,
            "keyspace": context.keyspace.user_id,
            "emitter": context.emitter.user_id,
            "audit": context.audit.user_id,
            "session": cast("_OwnSession", context.session).user_id,
            "note": (one.read_back or b"").decode(),
        }
        wrong = {part: who for part, who in owners.items() if who != one.user_id}
        assert not wrong, f"{one.user_id} was served with {wrong}"
        assert context.request_id == one.request_id
        assert isinstance(context.emitter, MemoryEmitter)
        assert isinstance(context.audit, MemoryTrail)
        assert len(context.emitter.sent) == 1, f"{one.user_id} was sent others' events"
        assert context.audit.entries == [("noted", one.user_id)]
    for part in ("context", "session", "emitter"):
        different = {
            id(one.context if part == "context" else getattr(one.context, part))
            for one in all_served
        }
        assert len(different) == len(all_served), f"two requests share one {part}"


@pytest.mark.parametrize("request_id", [None, "same-for-all"])
async def test_concurrent_contexts_stay_apart(request_id: str | None) -> None:
    """A hundred contexts made at one time are their users', also with equal ids."""
    office = Office.opened()

    served = await serve_all(office, sound, request_id=request_id)

    assert len(served) == office.sessions.most_open == USERS
    assert_contexts_are_apart(served)


class _CurrentUser:
    """Keeps "the" current user in one place for all requests."""

    def __init__(self) -> None:
        self.caller: Any = None

    @contextlib.asynccontextmanager
    async def __call__(self, request: Request) -> AsyncIterator[UserExecutionContext]:
        self.caller = await authenticate(request)
        await asyncio.sleep(0)  # some other dependency that awaits
        async for context in open_work(request, self.caller):
            yield context


class _CacheByRequest:
    """Keeps contexts by request id, which callers choose."""

    def __init__(self) -> None:
        self.made: dict[str, UserExecutionContext] = {}

    @contextlib.asynccontextmanager
    async def __call__(self, request: Request) -> AsyncIterator[UserExecutionContext]:
        async with sound(request) as context:
            yield self.made.setdefault(context.request_id, context)


class _OneSession:
    """Opens a session when there is none, and lets later requests use it too."""

    def __init__(self) -> None:
        self.session: AsyncSession | None = None

    @contextlib.asynccontextmanager
    async def __call__(self, request: Request) -> AsyncIterator[UserExecutionContext]:
        async with sound(request) as context:
            self.session = self.session or context.session
            yield replace(context, session=self.session)


@pytest.mark.power
@pytest.mark.parametrize(
    "twin", [_CurrentUser, _CacheByRequest, _OneSession], ids=lambda twin: twin.__name__
)
async def test_shared_context_state_is_caught(twin: type[Any]) -> None:
    """State of one request that others can reach is seen as another user's."""
    served = await serve_all(Office.opened(), twin(), request_id="same-for-all")

    with pytest.raises(AssertionError, match="was served with"):
        assert_contexts_are_apart(served)


Descend = Callable[[UserExecutionContext, str], Awaitable[UserExecutionContext]]


async def _grow_families(descend: Descend) -> list[list[UserExecutionContext]]:
    """Let each of the users start ten sub-tasks at one time, each in a child."""
    roots = [context_of(f"user-{number:03d}") for number in range(USERS)]

    async def family(root: UserExecutionContext) -> list[UserExecutionContext]:
        runs = (f"{root.user_id}/run-{number}" for number in range(10))
        return list(await asyncio.gather(*(descend(root, run) for run in runs)))

    return list(await asyncio.gather(*map(family, roots)))


def assert_families_are_apart(families: Iterable[list[UserExecutionContext]]) -> None:
    """Check that each child is of its own parent and kept its own run."""
    for number, children in enumerate(families):
        user_id = f"user-{number:03d}"
        for index, child in enumerate(children):
            known = (child.user_id, child.run_id, child.parent and child.parent.user_id)
            own = (user_id, f"{user_id}/run-{index}", user_id)
            assert known == own, f"child {own} is {known}"


async def test_children_stay_in_family() -> None:
    """A thousand children of a hundred contexts are their parent's, with own runs."""

    async def descend(root: UserExecutionContext, run_id: str) -> UserExecutionContext:
        child = root.child(run_id=run_id)
        await asyncio.sleep(0)
        return child

    assert_families_are_apart(await _grow_families(descend))


@pytest.mark.power
async def test_mutated_parent_is_caught() -> None:
    """Writing the run into the user's one context instead of a child is seen."""

    async def descend(root: UserExecutionContext, run_id: str) -> UserExecutionContext:
        # Frozen contexts refuse this; old code had none to stop it.
        object.__setattr__(root, "run_id", run_id)
        object.__setattr__(root, "parent", root)
        await asyncio.sleep(0)
        return root

    with pytest.raises(AssertionError, match="child"):
        assert_families_are_apart(await _grow_families(descend))


Migrate = Callable[[dict[str, str], str], Awaitable[str]]


async def _migrate_all(migrate: Migrate) -> list[str]:
    """Migrate a hundred requests from the one mutable context of old code."""
    legacy: dict[str, str] = {}

    async def request(number: int) -> str:
        user_id = legacy["user_id"] = f"user-{number:03d}"
        return await migrate(legacy, user_id)

    return list(await asyncio.gather(*map(request, range(USERS))))


def assert_migrated_are_own(users: list[str]) -> None:
    """Check that each migrated request still works for its own user."""
    wrong = [user for n, user in enumerate(users) if user != f"user-{n:03d}"]
    assert not wrong, f"{len(wrong)} requests now work for another user"


async def test_migrated_contexts_keep_their_user() -> None:
    """A context built from old code's shared object does not change with it."""

    async def migrate(legacy: dict[str, str], user_id: str) -> str:
        context = UserExecutionContext.from_agent_execution_context(
            legacy,
            keyspace=MemoryKeyspace(user_id),
            emitter=MemoryEmitter(user_id),
            audit=MemoryTrail(user_id),
        )
        await asyncio.sleep(0)
        return context.user_id

    assert_migrated_are_own(await _migrate_all(migrate))


@pytest.mark.power
async def test_reading_legacy_context_late_is_caught() -> None:
    """Going back to the shared old object after an await is seen."""

    async def migrate(legacy: dict[str, str], _: str) -> str:
        await asyncio.sleep(0)
        return legacy["user_id"]

    with pytest.raises(AssertionError, match="99 requests now work for another user"):
        assert_migrated_are_own(await _migrate_all(migrate))


def count_contexts() -> int:
    """Return how many contexts are alive; they take no weak reference."""
    gc.collect()
    return sum(isinstance(thing, UserExecutionContext) for thing in gc.get_objects())


async def _disturb(office: Office, open_context: Open) -> None:
    """Cancel a hundred requests, each some turns later than the one before."""

    async def work(number: int) -> None:
        request = office.request(f"user-{number:03d}", "r")
        async with open_context(request) as context:
            for _ in range(10):
                await context.audit.record("step", "s")
                await asyncio.sleep(0)

    tasks = [asyncio.create_task(work(number)) for number in range(USERS)]
    for number, task in enumerate(tasks):
        if number % 8 == 0:
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(task.cancelled() for task in tasks) > USERS // 2


async def assert_nothing_is_left(office: Office, *, contexts_before: int) -> None:
    """Check that no session is open and no context outlived its request."""
    await asyncio.sleep(0)  # the loop itself still holds what it has just delivered
    assert office.sessions.open_now == 0, f"{office.sessions.open_now} sessions open"
    left = count_contexts() - contexts_before
    assert left <= 0, f"{left} contexts are left"


async def test_ended_requests_leave_nothing() -> None:
    """After a hundred served and a hundred cancelled requests nothing is kept."""
    office, before = Office.opened(), count_contexts()

    await serve_all(office, sound)
    await _disturb(office, sound)

    await assert_nothing_is_left(office, contexts_before=before)


class _Unclosed:
    """Opens a session without a block that closes it."""

    def __init__(self) -> None:
        self.opened: list[Any] = []

    @contextlib.asynccontextmanager
    async def __call__(self, request: Request) -> AsyncIterator[UserExecutionContext]:
        caller = await authenticate(request)
        work = open_work(request, caller)
        self.opened.append(work)
        yield await anext(cast("Any", work))
        with contextlib.suppress(StopAsyncIteration):  # not reached when cancelled
            await anext(cast("Any", work))


@pytest.mark.power
async def test_requests_that_leave_sessions_are_caught() -> None:
    """Closing only at the end of the happy path is seen after cancelled requests."""
    office, before, twin = Office.opened(), count_contexts(), _Unclosed()

    await _disturb(office, twin)

    with pytest.raises(AssertionError, match="sessions open"):
        await assert_nothing_is_left(office, contexts_before=before)
    for work in twin.opened:
        await work.aclose()


@pytest.mark.power
async def test_kept_contexts_are_caught() -> None:
    """A cache that nobody empties is seen to keep contexts alive."""
    office, before, twin = Office.opened(), count_contexts(), _CacheByRequest()

    await serve_all(office, twin)

    with pytest.raises(AssertionError, match="contexts are left"):
        await assert_nothing_is_left(office, contexts_before=before)
    twin.made.clear()
