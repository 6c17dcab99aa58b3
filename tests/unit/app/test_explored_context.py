"""Contexts under every order: whatever a request touches belongs to its own user.

Requests pass the service's own authentication and dependency, work in children of their
context, and leave some work to be done after them. Each part that a context carries
answers when the scheduler says, and notes whose it is.
"""

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest
from starlette.requests import Request

from app.agents.deep_agent_state import DeepAgentState
from app.api.dependencies import Caller, authenticate, open_work
from app.api.frontier import RECORD, RequestRecord
from app.context import UserExecutionContext
from app.monitoring import IsolationGuard
from app.security import AccessTokens
from test_framework.explore import Report, Scenario, explore, external
from tests.unit.app.exploring import USERS_ALONE, assert_found
from tests.unit.app.parts import MemoryKeyspace, OpenLogins, ring_of

Opening = Callable[[Request, Caller], AsyncIterator[UserExecutionContext]]

_TOKENS = AccessTokens(ring_of("k"), lifetime_s=600)


@dataclass(frozen=True)
class _Session:
    """A database session: it knows whose it is."""

    user_id: str


@dataclass
class _House:
    """The parts of a service, and what was done through them.

    Attributes:
        done: Who did what, as told by the part and by the worker.
        open_now: Sessions that are open (count).
        later: Work that goes on without its request.
    """

    done: list[tuple[str, str]] = field(default_factory=list)
    open_now: int = 0
    later: "list[asyncio.Task[None]]" = field(default_factory=list)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self.later)
        foreign = [(who, what) for who, what in self.done if not what.endswith(who)]
        assert not foreign, f"done for another user: {foreign}"
        assert self.open_now == 0, "a session is left open"

    @contextlib.asynccontextmanager
    async def for_user(self, user_id: str) -> AsyncIterator[_Session]:
        """Open a session."""
        self.open_now += 1
        try:
            await external("BEGIN")
            yield _Session(user_id)
            await external("COMMIT")
        finally:
            self.open_now -= 1

    def request(self, user_id: str) -> Request:
        """Return a request with the user's token."""
        parts = SimpleNamespace(
            guard=IsolationGuard(),
            access_tokens=_TOKENS,
            sessions=self,
            refresh_tokens=OpenLogins(),
            redis=None,
            events=self,
            keyspaces=lambda _, user_id: MemoryKeyspace(user_id),
            emitters=lambda house, user_id: _Emitter(user_id, house),
            trails=lambda user_id, _: _Trail(user_id, self),
        )
        token = _TOKENS.issue(user_id, "login")
        return Request(
            {
                "type": "http",
                "app": SimpleNamespace(state=SimpleNamespace(parts=parts)),
                "headers": [(b"authorization", f"Bearer {token}".encode())],
                RECORD: RequestRecord("r"),
            }
        )


@dataclass(frozen=True)
class _Emitter:
    user_id: str
    house: _House

    async def emit(
        self,
        kind: str,
        *,
        run_id: str,
        thread_id: str,
        data: Mapping[str, object],
        event_id: str | None = None,
    ) -> int:
        del run_id, thread_id, data, event_id
        await external("XADD")
        self.house.done.append((self.user_id, kind))
        return 0


@dataclass(frozen=True)
class _Trail:
    user_id: str
    house: _House
    session: Any = None

    def bound_to(self, session: Any) -> "_Trail":  # noqa: ANN401  # a session of this file
        return _Trail(self.user_id, self.house, session)

    async def record(self, action: str, subject: str) -> None:
        await external("INSERT")
        owner = self.session.user_id
        assert owner == self.user_id, f"{self.user_id}'s trail in {owner}'s session"
        self.house.done.append((owner, f"{action} {subject}"))


async def _work(house: _House, user_id: str, opening: Opening) -> None:
    """Do what a request does: read, write, tell, and leave something for later."""
    caller = await authenticate(house.request(user_id))
    working = contextlib.asynccontextmanager(opening)
    async with working(house.request(user_id), caller) as context:
        await context.keyspace.set("name", user_id.encode(), ttl_s=1)
        await context.audit.record("began", user_id)
        part = context.child(run_id=f"run of {user_id}")
        await part.audit.record("worked", user_id)
        house.later.append(asyncio.create_task(_report(context.detached(), user_id)))
        await context.emitter.emit(user_id, run_id="r", thread_id="t", data={})
        assert await context.keyspace.get("name") == user_id.encode()
        assert cast("_Session", part.database).user_id == user_id


async def _report(context: UserExecutionContext, user_id: str) -> None:
    """Go on without the request."""
    assert context.session is None, "kept the session of a request that is over"
    await context.emitter.emit(f"later {user_id}", run_id="r", thread_id="t", data={})


def _explored(opening: Opening = open_work) -> Report:
    async def work(house: _House, number: int) -> None:
        await _work(house, ("ada", "bob")[number], opening)

    return explore(
        Scenario(_House, work),
        fidelity="await",
        cancel=USERS_ALONE,
        schedules=300,
        budget="90s",
        seed=1,
    )


@pytest.mark.slow
def test_request_touches_what_is_its_users() -> None:
    """Two requests at one time, each cancelled anywhere, touch only their own user's."""
    report = _explored()

    assert report.witness is None, report.text()


@pytest.mark.power
def test_ambient_context_is_found() -> None:
    """A dependency that keeps the current context in one place hands on another's."""
    ambient: list[UserExecutionContext] = []

    async def open_ambient(
        request: Request, caller: Caller
    ) -> AsyncIterator[UserExecutionContext]:
        async with contextlib.asynccontextmanager(open_work)(request, caller) as own:
            ambient[:] = [own]
            await external("middleware")
            yield ambient[0]

    assert_found(_explored(open_ambient), "assertion")


# -- the migration of old code --------------------------------------------------------


@pytest.mark.explore(fidelity="await", budget="1s", schedules=500)
async def test_states_of_two_agents_stay_apart() -> None:
    """Agents that write into their states at one time find only their own entries."""
    states = [_state(user_id) for user_id in ("ada", "bob")]

    await asyncio.gather(*map(_fill, states))

    for state in states:
        assert state.messages == [state.user_id] * 3


def _state(user_id: str) -> DeepAgentState:
    house = _House()
    context = UserExecutionContext(
        user_id=user_id,
        request_id="r",
        keyspace=MemoryKeyspace(user_id),
        emitter=_Emitter(user_id, house),
        audit=_Trail(user_id, house),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return DeepAgentState(context)


async def _fill(state: DeepAgentState) -> None:
    for _ in range(3):
        await external("model")
        state.messages.append(state.user_id)


@pytest.mark.power
def test_states_with_one_list_are_found() -> None:
    """The original's default list, one for all states, is found."""

    async def two_agents() -> None:
        states = [_state(user_id) for user_id in ("ada", "bob")]
        states[1].messages = states[0].messages
        await asyncio.gather(*map(_fill, states))
        assert states[0].messages == ["ada"] * 3

    assert_found(explore(two_agents, fidelity="await", seed=1), "assertion")
