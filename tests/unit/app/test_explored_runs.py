"""Agent runs under every order: each run has one end, whoever leaves, stops or closes.

The endpoint, the registry and the engines are the service's own. Postgres is SQLite in
memory; the model and the event log answer when the scheduler says.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, cast
from uuid import UUID

import pytest
from fastapi import Response

from app.agents import ClosedError, EngineRegistry, ExecutionEngine, Workshop
from app.api.runs import post_run
from app.api.schemas import NewRun
from app.context import UserExecutionContext
from app.llm import ChatMessage, LocalModel, Reply, ToolSpec
from app.storage import Run, create_run
from test_framework.explore import Report, Scenario, explore, external
from tests.unit.app.exploring import USERS_ALONE, assert_found, left
from tests.unit.app.fakes.sessions import MemorySessions
from tests.unit.app.parts import MemoryKeyspace, MemoryTrail

if TYPE_CHECKING:
    from app.api.parts import Parts

Post = Callable[
    [UUID, NewRun, UserExecutionContext, "Parts", Response],
    Coroutine[Any, Any, Run],
]
_TRIES = 5
_ENOUGH = 5_000
"""Runs in which a twin is found; three seeds took 300 at most."""
_ENDS = {"run.completed": "completed", "run.failed": "failed"} | {
    "run.cancelled": "cancelled"
}


class _BreakingModel(LocalModel):
    """Answers after a while; its connection breaks when the caller is cancelled."""

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> Reply:
        """Answer in one turn."""
        del messages, tools
        try:
            await external("model")
        except asyncio.CancelledError as exc:
            message = "the connection broke while it was closed"
            raise ConnectionError(message) from exc
        return Reply("an answer")


@dataclass(frozen=True)
class _Emitter:
    """Keeps how runs ended, by user and run."""

    user_id: str
    ends: defaultdict[tuple[str, str], list[str]]

    async def emit(
        self,
        kind: str,
        *,
        run_id: str,
        thread_id: str,
        data: Mapping[str, object],
        event_id: str | None = None,
    ) -> int:
        """Send an event."""
        del thread_id, data, event_id
        await external(kind)
        if kind in _ENDS:
            self.ends[self.user_id, run_id].append(_ENDS[kind])
        return 0


class _Service:
    """What users post runs to, one each.

    Attributes:
        engines: The registry.
        stopped: Runs whose user was told that they stop.
    """

    def __init__(
        self, sessions: MemorySessions, post: Post, engine: type[ExecutionEngine]
    ) -> None:
        sessions.forget()
        self._sessions = sessions
        self._post = post
        self._ends: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        self.stopped: set[str] = set()

        async def make(
            context: UserExecutionContext, workshop: Workshop
        ) -> ExecutionEngine:
            return engine(context.user_id, workshop)

        async def end(_: str) -> int:
            return 0

        self.engines = EngineRegistry(make)
        workshop = Workshop(self._sessions, _BreakingModel(), (), run_timeout_s=30)
        self._parts = SimpleNamespace(
            engines=self.engines,
            events=SimpleNamespace(end=end),
            sessions=self._sessions,
            settings=SimpleNamespace(run_timeout_s=30),
            workshop=workshop,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:
            await self.engines.close()
            self._check()

    async def post(self, number: int) -> None:
        """Post the run of a user; a service that stops takes none."""
        user_id, run_id = _user(number), _run(number)
        context = UserExecutionContext(
            user_id=user_id,
            request_id="r",
            keyspace=MemoryKeyspace(user_id),
            emitter=_Emitter(user_id, self._ends),
            audit=MemoryTrail(user_id),
        )
        parts = SimpleNamespace(**vars(self._parts), new_id=lambda: UUID(run_id))
        thread_id = self._sessions.add_thread(user_id)
        try:
            run = await self._post(
                UUID(thread_id),
                NewRun(goal="g"),
                context,
                cast("Parts", parts),
                Response(),
            )
        except ClosedError:
            return
        assert run.run_id == run_id

    def stop(self, number: int) -> None:
        """Stop the run of a user."""
        if self.engines.cancel_run(_run(number)):
            self.stopped.add(_run(number))

    def _check(self) -> None:
        statuses = self._sessions.statuses()
        left = [run for run, status in statuses.items() if status == "running"]
        assert not left, "a run is left running, and nobody works on it"
        for run_id, status in statuses.items():
            owner = _user(int(run_id[-1]))
            told = self._ends.pop((owner, run_id), [])
            assert told == [status], f"the run {status}, its user was told {told}"
            if run_id in self.stopped:
                assert status == "cancelled", f"a run that was stopped {status}"
        assert not self._ends, f"told of {set(self._ends)}, which are not there"


def _user(number: int) -> str:
    return f"00000000-0000-4000-8000-00000000000{number}"


def _run(number: int) -> str:
    return f"11111111-0000-4000-8000-00000000000{number}"


def _explored(
    user: Callable[[_Service, int], Coroutine[Any, Any, None]],
    *,
    post: Post = post_run,
    engine: type[ExecutionEngine] = ExecutionEngine,
    cancel: str = "",
    schedules: int = 150,
) -> Report:
    sessions = MemorySessions()
    report = explore(
        Scenario(lambda: _Service(sessions, post, engine), user),
        fidelity="await",
        cancel=cancel,
        schedules=schedules,
        budget="90s",
        seed=1,
    )
    sessions.close()
    return report


# -- users who leave ------------------------------------------------------------------


@pytest.mark.slow
def test_users_who_leave_leave_no_run_unattended() -> None:
    """Wherever a request is cancelled, its run is worked on to its end, or is none."""
    report = _explored(_Service.post, cancel=USERS_ALONE)

    assert report.witness is None, report.text()


async def _post_and_then_start(
    thread_id: UUID,
    new: NewRun,
    context: UserExecutionContext,
    parts: "Parts",
    _: Response,
) -> Run:
    """Commit the run in the request, and then start it."""
    work = context.child(thread_id=str(thread_id), run_id=str(parts.new_id()))
    engine = await parts.engines.engine_for(work, parts.workshop)
    async with parts.sessions.for_user(context.user_id) as session:
        writing = work.child(session=session)
        run = await create_run(writing, goal=new.goal, events_after=0, timeout_s=30)

    async def committed(_: UserExecutionContext) -> Run:
        return run

    return await engine.start(work, committed)


@pytest.mark.power
def test_run_committed_before_its_start_is_found() -> None:
    """A request that is cancelled in between leaves a run that nobody works on."""
    report = _explored(
        _Service.post,
        post=_post_and_then_start,
        cancel=USERS_ALONE,
        schedules=_ENOUGH,
    )

    assert_found(report, "assertion", "left running")


# -- runs that are stopped ------------------------------------------------------------


async def _post_or_stop(service: _Service, number: int) -> None:
    if number:
        for _ in range(_TRIES):
            await external("second thoughts")
            service.stop(0)
    else:
        await service.post(0)


@pytest.mark.slow
def test_stopped_run_ends_as_cancelled() -> None:
    """Whenever it is stopped, a run whose user was told so ends as cancelled."""
    report = _explored(_post_or_stop)

    assert report.witness is None, report.text()


@pytest.mark.power
def test_swallowed_cancellation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that takes an error for the outcome of a stopped run is found."""
    monkeypatch.setattr("app.agents.engine._raise_lost_cancellation", lambda: None)

    report = _explored(_post_or_stop, schedules=_ENOUGH)

    assert_found(report, "assertion", "that was stopped failed")


# -- the shutdown ---------------------------------------------------------------------


async def _post_or_close(service: _Service, number: int) -> None:
    if number:
        await external("signal to stop")
        await left(service.engines.close(), times=1)
    else:
        await service.post(0)


@pytest.mark.slow
def test_closing_ends_every_run() -> None:
    """Whenever the service stops, and if that is cancelled, no run is left running."""
    report = _explored(_post_or_close)

    assert report.witness is None, report.text()


class _GatheringEngine(ExecutionEngine):
    """Hands a cancellation of the closing on to the runs that are being ended."""

    async def close(self) -> None:
        self._is_closed = True
        for job in self._jobs.values():
            job.stop()
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.power
def test_careless_closing_is_found() -> None:
    """An engine that disturbs the ends of its runs is found."""
    report = _explored(_post_or_close, engine=_GatheringEngine, schedules=_ENOUGH)

    # The cancelled run takes the request along that waits for it.
    assert_found(report, "exception", "cancelled from inside")
