"""Agent execution state: concurrent runs keep their goal, tools, events and end apart.

The engines, the planner and the statements are the service's own; only Postgres is
replaced, by SQLite in memory. All runs of a test are held at one point until the
last has come there, so that each test really has that many runs under way. Beside
each sound test stands a twin with the mistake, which the same checking function
finds.
"""

import asyncio
import gc
import re
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from app.agents import ExecutionEngine, Tool, Workshop
from app.agents.deep_agent_state import DeepAgentState
from app.agents.engine import CreateRun
from app.context import UserExecutionContext
from app.llm import ChatMessage, LocalModel, Reply, StreamingModel, ToolSpec
from app.storage import Run
from tests.unit.app.fakes.sessions import MemorySessions
from tests.unit.app.parts import MemoryEmitter, context_of

RUNS = 100
_SECRET = re.compile(r"secret-\d{3}-\d{3}")
_ENDS = {"run.completed", "run.failed", "run.cancelled"}
_COMPLETE = [
    "run.started",
    "agent.thinking",
    *["tool.executing", "tool.completed"] * 2,
    "agent.thinking",
    *["tool.executing", "tool.completed"],
    "agent.thinking",
    "run.completed",
]
"""Events of the planner's three turns: two look-ups, one note, the answer."""


class Meeting:
    """Holds everybody until the expected number has come.

    Attributes:
        came: Who has come so far (count).
        is_almost_full: Set when only one is missing: the test, if it counts itself.
    """

    def __init__(self, expected: int) -> None:
        """Open when ``expected`` have come."""
        self._expected = expected
        self._open = asyncio.Event()
        self.came = 0
        self.is_almost_full = asyncio.Event()

    async def attend(self) -> None:
        """Wait for the others."""
        self.came += 1
        if self.came >= self._expected - 1:
            self.is_almost_full.set()
        if self.came >= self._expected:
            self._open.set()
        await self._open.wait()


class MeetingModel(LocalModel):
    """The local planner, whose first answers come when all runs have asked."""

    def __init__(self, meeting: Meeting) -> None:
        """Hold first questions at ``meeting``."""
        self._meeting = meeting

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> Reply:
        """Answer after the meeting."""
        if len(messages) == 2:
            await self._meeting.attend()
        await asyncio.sleep(0)
        return await super().complete(messages, tools=tools)


async def _look_up(context: UserExecutionContext, _: Mapping[str, str]) -> str:
    await asyncio.sleep(0)
    return (await context.keyspace.get("secret") or b"").decode()


async def _write(context: UserExecutionContext, arguments: Mapping[str, str]) -> str:
    await asyncio.sleep(0)
    await context.keyspace.set(
        f"note of {context.run_id}", arguments["text"].encode(), ttl_s=1
    )
    return "noted"


TOOLS = (
    Tool(ToolSpec("search_documents", "Search."), _look_up),
    Tool(ToolSpec("read_thread", "Read."), _look_up),
    Tool(ToolSpec("write_note", "Write."), _write),
)


@dataclass(frozen=True)
class Ran:
    """One run of one user, and what is known of it when everything has ended."""

    run: Run
    secret: str
    status: str
    result: str
    note: str
    events: list[tuple[str, str]] = field(repr=False)

    @property
    def kinds(self) -> list[str]:
        """What its events are called, in order."""
        return [kind for kind, _ in self.events]


@dataclass(frozen=True)
class Work:
    """Runs under way: what a test starts, disturbs and waits for."""

    sessions: MemorySessions
    engines: dict[str, ExecutionEngine]
    started: list[tuple[UserExecutionContext, Run, str]]

    async def settle(self) -> list[Ran]:
        """Wait for every run and return what became of it."""
        tasks = [t for t in asyncio.all_tasks() if t.get_name().startswith("run ")]
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # for their callbacks
        assert all(engine.is_idle for engine in self.engines.values())
        return [await self._look_at(*one) for one in self.started]

    async def _look_at(
        self, context: UserExecutionContext, run: Run, secret: str
    ) -> Ran:
        status, result = self.sessions.outcome(run)
        assert isinstance(context.emitter, MemoryEmitter)
        note = await context.keyspace.get(f"note of {run.run_id}")
        events = [
            (kind, str(data))
            for kind, data in context.emitter.sent
            if data["run_id"] == run.run_id
        ]
        return Ran(run, secret, status, result or "", (note or b"").decode(), events)


MakeEngine = Callable[[str, Workshop], ExecutionEngine]


def _committed(run: Run) -> CreateRun:
    async def create(_: UserExecutionContext) -> Run:
        return run

    return create


@asynccontextmanager
async def working(
    *,
    users: int,
    runs_each: int = 1,
    model: StreamingModel | None = None,
    engine: MakeEngine = ExecutionEngine,
) -> AsyncIterator[Work]:
    """Start runs of users; each goal and each user's data hold a secret."""
    sessions = MemorySessions()
    meeting = Meeting(users * runs_each)
    workshop = Workshop(
        sessions, model or MeetingModel(meeting), TOOLS, run_timeout_s=30
    )
    work = Work(sessions, {}, [])
    starting = []
    for user in range(users):
        user_id = f"user-{user:03d}"
        own = work.engines[user_id] = engine(user_id, workshop)
        context = context_of(user_id)
        await context.keyspace.set("secret", b"secret-%03d-999" % user, ttl_s=1)
        for number in range(runs_each):
            secret = f"secret-{user:03d}-{number:03d}"
            run = sessions.add_run(context, goal=f"Look for {secret}")
            child = context.child(thread_id=run.thread_id, run_id=run.run_id)
            starting.append(own.start(child, _committed(run)))
            work.started.append((child, run, secret))
    await asyncio.gather(*starting)
    try:
        yield work
    finally:
        await asyncio.gather(*(own.close() for own in work.engines.values()))
        sessions.close()


def assert_runs_are_apart(ran: Iterable[Ran]) -> None:
    """Check that each run completed with its own goal and its own user's data."""
    for one in ran:
        name = f"run of {one.secret}"
        own = {one.secret, f"{one.secret[:10]}-999"}
        seen = set(_SECRET.findall(f"{one.result} {one.note} {one.events}"))
        assert seen <= own, f"{name} holds {sorted(seen - own)} of others"
        assert one.status == "completed", f"{name} ended as {one.status}"
        assert one.kinds == _COMPLETE, f"{name} has the events {one.kinds}"
        assert seen == own, f"{name} lacks {sorted(own - seen)}"


def assert_ended_once(ran: Iterable[Ran]) -> None:
    """Check that each run has one end, last, and the same as its row says."""
    for one in ran:
        ends = [kind for kind in one.kinds if kind in _ENDS]
        assert ends == [f"run.{one.status}"], f"{one.secret}: {one.status}, {ends}"
        assert one.kinds[-1] in _ENDS, f"{one.secret} goes on after its end"


def assert_cancelled_are(ran: Iterable[Ran], wanted: set[str]) -> None:
    """Check that the wanted runs were cancelled and nobody else's."""
    cancelled = {one.run.run_id for one in ran if one.status == "cancelled"}
    assert cancelled == wanted, (
        f"{len(cancelled - wanted)} runs were cancelled that nobody cancelled, "
        f"{len(wanted - cancelled)} went on"
    )


def count_contexts() -> int:
    """Return how many contexts are alive; they take no weak reference."""
    gc.collect()
    return sum(isinstance(thing, UserExecutionContext) for thing in gc.get_objects())


@pytest.mark.parametrize(
    ("users", "runs_each"), [(RUNS, 1), (10, 10)], ids=["users", "runs of users"]
)
async def test_concurrent_runs_stay_apart(users: int, runs_each: int) -> None:
    """A hundred runs that think at one time each end with their own data only."""
    meeting = Meeting(RUNS)
    async with working(
        users=users, runs_each=runs_each, model=MeetingModel(meeting)
    ) as work:
        ran = await work.settle()

    assert meeting.came == len(ran) == RUNS
    assert_runs_are_apart(ran)
    assert_ended_once(ran)


class _RememberingModel(MeetingModel):
    """Keeps the conversation in the client that all runs share."""

    def __init__(self, meeting: Meeting) -> None:
        super().__init__(meeting)
        self._messages: Sequence[ChatMessage] = ()

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> Reply:
        self._messages = messages
        await asyncio.sleep(0)
        return await super().complete(self._messages, tools=tools)


@pytest.mark.power
async def test_state_shared_between_runs_is_caught() -> None:
    """A model client that keeps the conversation in itself mixes users, and is seen."""
    model = _RememberingModel(Meeting(RUNS))
    async with working(users=RUNS, model=model) as work:
        ran = await work.settle()

    with pytest.raises(AssertionError, match="holds"):
        assert_runs_are_apart(ran)


class _CurrentRunEngine(ExecutionEngine):
    """Tracks "the" current run, as if a user had one at a time."""

    _current: Run

    async def _converse(self, context: UserExecutionContext, run: Run) -> str:
        self._current = run
        return await super()._converse(context, run)

    async def _emit(
        self,
        context: UserExecutionContext,
        run: Run,
        kind: str,
        data: Mapping[str, object],
    ) -> None:
        await super()._emit(context, self._current, kind, {**data, "of": run.goal})


@pytest.mark.power
async def test_tracking_one_current_run_is_caught() -> None:
    """An engine that tracks one current run corrupts the others' events, seen so."""
    async with working(users=10, runs_each=10, engine=_CurrentRunEngine) as work:
        ran = await work.settle()

    with pytest.raises(AssertionError, match="has the events"):
        assert_runs_are_apart(ran)
    with pytest.raises(AssertionError):
        assert_ended_once(ran)


async def _cancel_every_third(engine: MakeEngine) -> tuple[list[Ran], set[str]]:
    """Cancel runs while all think; return what became of all, and who was named."""
    meeting = Meeting(RUNS + 1)
    model = MeetingModel(meeting)
    async with working(users=10, runs_each=10, model=model, engine=engine) as work:
        await meeting.is_almost_full.wait()
        named = work.started[::3]
        for context, run, _ in named:
            work.engines[context.user_id].cancel(run.run_id)
        await meeting.attend()
        return await work.settle(), {run.run_id for _, run, _ in named}


async def test_cancelling_spares_other_runs() -> None:
    """Of ten runs of each of ten users exactly those are cancelled that were named."""
    ran, named = await _cancel_every_third(ExecutionEngine)

    assert len(ran) == RUNS
    assert_cancelled_are(ran, named)
    assert_ended_once(ran)
    assert_runs_are_apart(one for one in ran if one.run.run_id not in named)


class _CancelAllEngine(ExecutionEngine):
    """Cancels what the user is doing, whichever run was named."""

    def cancel(self, run_id: str) -> bool:
        stopped = [ExecutionEngine.cancel(self, each) for each in self._jobs]
        return bool(run_id) and any(stopped)


@pytest.mark.power
async def test_cancelling_too_much_is_caught() -> None:
    """An engine that cancels all runs of the user is seen by the spared ones."""
    ran, named = await _cancel_every_third(_CancelAllEngine)

    with pytest.raises(AssertionError, match="nobody cancelled"):
        assert_cancelled_are(ran, named)


async def _cancel_after(turns: int, engine: MakeEngine) -> Ran:
    async with working(users=1, engine=engine) as work:
        ((context, run, _),) = work.started
        for _ in range(turns):
            await asyncio.sleep(0)
        work.engines[context.user_id].cancel(run.run_id)
        (ran,) = await work.settle()
    return ran


LONGEST_RUN_TURNS = 60
"""More turns of the loop than a run takes: the last cancellations come too late."""


async def test_cancelling_at_each_turn_ends_once() -> None:
    """Whenever a cancellation comes, the run has one end and its row says the same."""
    ran = [
        await _cancel_after(turns, ExecutionEngine)
        for turns in range(LONGEST_RUN_TURNS)
    ]

    assert_ended_once(ran)
    assert {one.status for one in ran} == {"cancelled", "completed"}


class _HastyEngine(ExecutionEngine):
    """Announces the end before asking whether it is this one."""

    async def _finish(
        self, context: UserExecutionContext, run: Run, outcome: object
    ) -> None:
        await self._emit(context, run, "run.completed", {})
        await super()._finish(context, run, outcome)  # type: ignore[arg-type]  # the outcome's type is private


@pytest.mark.power
async def test_two_ends_of_a_run_are_caught() -> None:
    """An engine that tells of an end it has not won is seen to end runs twice."""
    ran = [await _cancel_after(turns, _HastyEngine) for turns in (5, 20)]

    with pytest.raises(AssertionError):
        assert_ended_once(ran)


async def test_closing_at_first_turn_ends_runs() -> None:
    """An engine closed as its runs begin marks each of them as interrupted."""
    async with working(users=1, runs_each=RUNS) as work:
        (engine,) = work.engines.values()
        await engine.close()
        ran = await work.settle()

    assert {one.status for one in ran} == {"failed"}
    assert_ended_once(ran)


async def test_closing_interrupts_and_leaves_nothing() -> None:
    """Engines closed under a hundred thinking runs leave no task, session or context."""
    contexts_before = count_contexts()
    tasks_before = asyncio.all_tasks()
    meeting = Meeting(RUNS + 1)
    async with working(users=RUNS, model=MeetingModel(meeting)) as work:
        await meeting.is_almost_full.wait()
        await asyncio.gather(*(own.close() for own in work.engines.values()))
        ran = await work.settle()

    assert {one.status for one in ran} == {"failed"}
    assert_ended_once(ran)
    assert work.sessions.open_now == 0
    assert asyncio.all_tasks() == tasks_before
    del work, ran, meeting
    await assert_no_context_since(contexts_before)


async def assert_no_context_since(before: int) -> None:
    """Check that no context outlived the work."""
    await asyncio.sleep(0)  # the loop itself still holds what it has just delivered
    assert (left := count_contexts()) <= before, f"{left - before} contexts are left"


class _HoardingEngine(ExecutionEngine):
    """Remembers every context it worked for, in the class."""

    seen: list[UserExecutionContext] = []  # noqa: RUF012  # the mistake

    async def start(self, context: UserExecutionContext, create: CreateRun) -> Run:
        self.seen.append(context)
        return await super().start(context, create)


@pytest.mark.power
async def test_hoarded_contexts_are_caught() -> None:
    """An engine that keeps contexts after their runs is seen to leak them."""
    before = count_contexts()
    async with working(users=RUNS, engine=_HoardingEngine) as work:
        await work.settle()
    del work

    try:
        with pytest.raises(AssertionError, match="contexts are left"):
            await assert_no_context_since(before)
    finally:
        _HoardingEngine.seen.clear()


class _LegacyState:
    """The original ``DeepAgentState``: its default list is one for everybody."""

    def __init__(
        self,
        context: UserExecutionContext,
        messages: list[object] = [],  # noqa: B006  # the mistake
    ) -> None:
        self.context = context
        self.messages = messages


async def _fill_states(
    make: Callable[[UserExecutionContext], "DeepAgentState | _LegacyState"],
) -> list["DeepAgentState | _LegacyState"]:
    async def agent(number: int) -> "DeepAgentState | _LegacyState":
        state = make(context_of(f"user-{number:03d}"))
        for step in range(5):
            state.messages.append(f"secret-{number:03d}-{step:03d}")
            await asyncio.sleep(0)
        return state

    return list(await asyncio.gather(*map(agent, range(RUNS))))


def assert_states_are_apart(states: "list[DeepAgentState | _LegacyState]") -> None:
    """Check that each state holds what its own agent wrote, in order."""
    for number, state in enumerate(states):
        own = [f"secret-{number:03d}-{step:03d}" for step in range(5)]
        assert state.messages == own, f"{state.context.user_id}: {state.messages[:9]}"


async def test_deep_agent_states_stay_apart() -> None:
    """A hundred agents that fill old states at one time see only their own."""

    def make(context: UserExecutionContext) -> DeepAgentState:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return DeepAgentState(context)

    assert_states_are_apart(await _fill_states(make))


@pytest.mark.power
async def test_shared_deep_agent_state_is_caught() -> None:
    """The original state, whose default list all users share, is caught."""
    states = await _fill_states(_LegacyState)

    with pytest.raises(AssertionError, match="user-000"):
        assert_states_are_apart(states)
