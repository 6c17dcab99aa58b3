"""The execution engine of one user: each run is a task with its own child context.

A run holds a database connection only while it reads or writes, never while a model
thinks. Its state is local to its task and its rows; two runs of one user share
nothing but the user.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args
from uuid import uuid4

from app.agents.leases import Leases, NoLeases
from app.agents.patience import patiently
from app.agents.tools import Tool, ToolError
from app.agents.writing import read_telling
from app.context import UserExecutionContext
from app.llm import (
    ChatMessage,
    ModelError,
    ModelGuards,
    Reply,
    StreamingModel,
    ToolCall,
)
from app.monitoring import RunWatch, log_event
from app.storage import (
    FinalStatus,
    Run,
    SessionFactory,
    find_run,
    finish_run,
    transaction,
)

MAX_TURNS = 8
_PREVIEW_CHARS = 500
_log = logging.getLogger("app.agents")
_ENDS = frozenset(f"run.{status}" for status in get_args(FinalStatus))
_SYSTEM = ChatMessage(
    "system",
    "You work for one user. Use the tools to look things up, then answer in text.",
)


@dataclass(frozen=True, slots=True)
class Workshop:
    """What engines work with; shared by all users, holds no user's state."""

    sessions: SessionFactory
    model: StreamingModel
    tools: tuple[Tool, ...]
    run_timeout_s: float
    watch: RunWatch = field(default_factory=RunWatch)
    model_guards: ModelGuards = field(default_factory=ModelGuards)
    leases: Leases = field(default_factory=NoLeases)


CreateRun = Callable[[UserExecutionContext], Awaitable[Run]]
"""Writes the row of a run and commits it; the context has no session."""


class ClosedError(RuntimeError):
    """Raised when work comes to an engine or a registry that was closed."""


@dataclass(slots=True)
class _Job:
    """A run that is worked on here.

    Attributes:
        task: Works on it; None for the moment before it is created.
        is_cancelled: The user asked to stop it, and its task was cancelled for that.
        is_ending: Its outcome is decided and being written: too late to cancel.
        is_begun: Its row is committed and its task works on it.
        is_stopped: It was stopped before that. Its task was not cancelled: it would
            leave a row behind of which nobody knows whether it was committed.
    """

    task: asyncio.Task[None] | None = None
    is_cancelled: bool = False
    is_ending: bool = False
    is_begun: bool = False
    is_stopped: bool = False

    def stop(self) -> bool:
        """Cancel the task unless it is ending already."""
        if self.task is None or self.is_ending or self.task.cancelling():
            return False
        if not self.is_begun:
            was_stopped, self.is_stopped = self.is_stopped, True
            return not was_stopped
        return self.task.cancel()


class _CancelledByUserError(Exception):
    """Raised between two steps of a run that its user asked to stop."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    status: FinalStatus
    result: str | None = None
    error: str | None = None

    @property
    def data(self) -> dict[str, object]:
        return {
            name: value
            for name, value in (("result", self.result), ("error", self.error))
            if value is not None
        }


class ExecutionEngine:
    """Works on the runs of one user."""

    def __init__(self, user_id: str, workshop: Workshop) -> None:
        """Make an engine for ``user_id``; it starts nothing yet."""
        self.user_id = user_id
        self._workshop = workshop
        self._jobs: dict[str, _Job] = {}
        self._is_closed = False

    @property
    def is_idle(self) -> bool:
        """Whether no run is being worked on."""
        return not self._jobs

    async def start(self, context: UserExecutionContext, create: CreateRun) -> Run:
        """Create a run of the engine's user and work on it, in a task of its own.

        That task does both, so a caller that is cancelled meanwhile leaves no run that
        nobody works on; it does not stop the run either.

        Args:
            context: Whose run it is, with thread and run id.
            create: Writes the run's row.

        Returns:
            The run, once its row is committed.

        Raises:
            ValueError: The context belongs to another user, or names no run.
            ClosedError: The engine was closed.
        """
        if context.user_id != self.user_id:
            message = (
                f"A run of user {context.user_id!r} came to the engine of user "
                f"{self.user_id!r}. Get the engine from the registry by user."
            )
            self._workshop.watch.misdirected(self.user_id, user_id=context.user_id)
            raise ValueError(message)
        if context.run_id is None:
            message = "The context names no run. Pass context.child(run_id=...)."
            raise ValueError(message)
        if self._is_closed:
            message = "The service stops and takes no new runs. Try again elsewhere."
            raise ClosedError(message)
        run_id = context.run_id
        created: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
        job = self._jobs[run_id] = _Job()
        job.task = asyncio.create_task(
            self._watched(context.detached(), create, created, job),
            name=f"run {run_id}",
        )
        job.task.add_done_callback(lambda _: self._jobs.pop(run_id, None))
        return await asyncio.shield(created)

    def cancel(self, run_id: str) -> bool:
        """Stop a run at its next step; False when it is not worked on here."""
        job = self._jobs.get(run_id)
        if job is None or not job.stop():
            return False
        job.is_cancelled = True
        return True

    async def close(self) -> None:
        """Interrupt all runs, take no new ones, and return when each is marked so."""
        self._is_closed = True
        jobs = list(self._jobs.values())
        for job in jobs:
            job.stop()
        if tasks := [job.task for job in jobs if job.task is not None]:
            # Not gathered: whoever cancels the closing would cancel each run again,
            # in the middle of marking it.
            await asyncio.wait(tasks)

    async def _watched(
        self,
        context: UserExecutionContext,
        create: CreateRun,
        created: asyncio.Future[Run],
        job: _Job,
    ) -> None:
        run_id = str(context.run_id)
        try:
            with self._workshop.watch.run(context) as run_context:
                await self._create_and_work(run_context, create, created, job)
        finally:
            # Not given back by now: somebody else has to see to the run's end.
            self._workshop.leases.let_go(context.user_id, run_id)

    async def _create_and_work(
        self,
        context: UserExecutionContext,
        create: CreateRun,
        created: asyncio.Future[Run],
        job: _Job,
    ) -> None:
        try:
            # Before the row: were we killed in between, nobody would miss the run.
            await self._workshop.leases.hold(context.user_id, str(context.run_id))
            run = await create(context)
        except Exception as exc:  # noqa: BLE001  # told to whoever asked for the run
            created.set_exception(exc)
        except BaseException:
            created.cancel()
            raise
        else:
            created.set_result(run)
            await self._work(context, run, job)

    async def _work(self, context: UserExecutionContext, run: Run, job: _Job) -> None:
        job.is_begun = True
        try:
            if job.is_stopped:
                raise asyncio.CancelledError  # noqa: TRY301  # as if it came right now
            outcome = await self._outcome(context, run)
            _raise_lost_cancellation()
        except asyncio.CancelledError:
            job.is_ending = True
            outcome = (
                _Outcome("cancelled")
                if job.is_cancelled
                else _Outcome("failed", error="interrupted")
            )
            await self._finish(context, run, outcome)
            raise
        job.is_ending = True
        await self._finish(context, run, outcome)

    async def _outcome(self, context: UserExecutionContext, run: Run) -> _Outcome:
        try:
            async with asyncio.timeout(self._workshop.run_timeout_s):
                return _Outcome("completed", result=await self._converse(context, run))
        except _CancelledByUserError:
            return _Outcome("cancelled")
        except TimeoutError:
            return _Outcome("failed", error="timeout")
        except ModelError as exc:
            return _Outcome("failed", error=str(exc))
        except Exception as exc:  # noqa: BLE001  # a run's failure is the run's result
            log_event(
                _log,
                "run.crashed",
                level=logging.ERROR,
                error=exc,
                user_id=context.user_id,
                run_id=run.run_id,
            )
            self._workshop.watch.crashed(exc, user_id=context.user_id)
            return _Outcome("failed", error="internal error")

    async def _converse(self, context: UserExecutionContext, run: Run) -> str:
        await self._emit(context, run, "run.started", {"goal": run.goal})
        conversation = [_SYSTEM, ChatMessage("user", run.goal)]
        for turn in range(1, MAX_TURNS + 1):
            _raise_lost_cancellation()
            reply = await self._think(context, run, conversation, turn)
            if not reply.tool_calls:
                return reply.content
            conversation.append(
                ChatMessage("assistant", reply.content, reply.tool_calls)
            )
            for call in reply.tool_calls:
                answer = await self._use(context, run, call)
                conversation.append(ChatMessage("tool", answer, call_id=call.call_id))
        message = f"The model wanted more than {MAX_TURNS} turns."
        raise ModelError(message)

    async def _think(
        self,
        context: UserExecutionContext,
        run: Run,
        conversation: Sequence[ChatMessage],
        turn: int,
    ) -> Reply:
        await self._emit(context, run, "agent.thinking", {"turn": turn})
        specs = [tool.spec for tool in self._workshop.tools]

        async def tell(text: str) -> None:
            shown = {"turn": turn, "text": text}
            await self._emit(context, run, "agent.writing", shown)

        with self._workshop.watch.step(context, "model.call", {"turn": str(turn)}):
            stream = self._workshop.model_guards.stream(
                self._workshop.model, context, conversation, tools=specs
            )
            async with contextlib.aclosing(stream):
                return await read_telling(stream, tell)

    async def _use(
        self, context: UserExecutionContext, run: Run, call: ToolCall
    ) -> str:
        shown: dict[str, object] = {
            "tool": call.name,
            "arguments": dict(call.arguments),
        }
        await self._emit(context, run, "tool.executing", shown)
        try:
            tool = self._tool(call.name)
            watch = self._workshop.watch
            with watch.step(context, "tool.use", {"tool": call.name}) as using:
                answer = await self._use_in_transaction(using, run, tool, call)
        except ToolError as exc:
            answer = str(exc)
        await self._emit(
            context,
            run,
            "tool.completed",
            {"tool": call.name, "output": answer[:_PREVIEW_CHARS]},
        )
        return answer

    async def _use_in_transaction(
        self, context: UserExecutionContext, run: Run, tool: Tool, call: ToolCall
    ) -> str:
        async with transaction(self._workshop.sessions, context) as step:
            await _stop_if_cancelled(step, run)
            if not tool.opens_sessions:
                return await tool.use(step, call.arguments)
        return await tool.use(context, call.arguments)

    def _tool(self, name: str) -> Tool:
        for tool in self._workshop.tools:
            if tool.spec.name == name:
                return tool
        problem = f"There is no tool {name!r}."
        raise ToolError(problem)

    async def _finish(
        self, context: UserExecutionContext, run: Run, outcome: _Outcome
    ) -> None:
        async def end() -> bool:
            async with transaction(self._workshop.sessions, context) as step:
                if await finish_run(
                    step,
                    status=outcome.status,
                    result=outcome.result,
                    error=outcome.error,
                ):
                    return True
                # Ended already: maybe by us, in an attempt whose answer was lost.
                found = await find_run(step, run.run_id)
                return found is not None and found.status == outcome.status

        try:
            ended = await patiently(end, is_ending=lambda: self._is_closed)
            if ended:
                self._workshop.watch.ended(outcome.status)
                await self._emit(context, run, f"run.{outcome.status}", outcome.data)
                await self._workshop.leases.give_back(context.user_id, run.run_id)
        except Exception as exc:  # noqa: BLE001  # nobody awaits a run; it is swept later
            log_event(
                _log,
                "run.not_finished",
                level=logging.ERROR,
                error=exc,
                user_id=context.user_id,
                run_id=run.run_id,
            )

    async def _emit(
        self,
        context: UserExecutionContext,
        run: Run,
        kind: str,
        data: Mapping[str, object],
    ) -> None:
        event_id = end_id(run.run_id) if kind in _ENDS else uuid4().hex
        await patiently(
            lambda: context.emitter.emit(
                kind,
                run_id=run.run_id,
                thread_id=run.thread_id,
                data=data,
                event_id=event_id,
            ),
            is_ending=lambda: self._is_closed,
        )


def end_id(run_id: str) -> str:
    """Return the id of a run's last event: whoever ends a run, it is told once."""
    return f"{run_id}:end"


def _raise_lost_cancellation() -> None:
    """Raise the cancellation of this task that something it awaited has swallowed.

    ``asyncio.wait_for`` did so until Python 3.12 (gh-86296), and an error while a
    connection is given back takes the place of the cancellation that caused it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _stop_if_cancelled(step: UserExecutionContext, run: Run) -> None:
    # Another worker may have taken the request to cancel, and its message may be lost;
    # or it took us for dead, and ended the run.
    current = await find_run(step, run.run_id)
    if current is None or current.cancel_requested or current.status != "running":
        raise _CancelledByUserError
