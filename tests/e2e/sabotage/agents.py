"""Twins of the agents: shared run state, one tracker for all runs, a hasty registry."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fastapi import FastAPI

from app.agents import (
    EngineRegistry,
    ExecutionEngine,
    Workshop,
    create_engine,
)
from app.context import UserExecutionContext
from app.llm import ChatMessage, LocalModel, ModelError, Reply, ToolSpec
from app.main import Parts, create_app
from app.storage import Run

THINKING_S = 0.005


@dataclass(slots=True)
class _AgentState:
    """The old ``DeepAgentState``: a bag that everybody writes to."""

    user_request: str = ""
    messages: list[ChatMessage] = field(default_factory=list)


class _StatefulModel(LocalModel):
    """Keeps the conversation on itself, to spare an argument."""

    def __init__(self) -> None:
        self._state = _AgentState()

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> Reply:
        self._state.messages = list(messages)
        await asyncio.sleep(THINKING_S)
        return await super().complete(self._state.messages, tools=tools)


def create_shared_agent_state() -> FastAPI:
    """One agent state for all runs: who thinks last is answered to everybody.

    Catalogue L02 and L01 (langchain#11650, Chainlit#333): the agent is made once and
    its state set per run.
    """

    def sabotage(parts: Parts) -> Parts:
        return replace(parts, model=_StatefulModel())

    return create_app(replace=sabotage)


class _ExecutionTracker:
    """Knows how the execution is going; there is only one."""

    def __init__(self) -> None:
        self.status = "idle"


class _TrackedEngine(ExecutionEngine):
    def __init__(
        self, user_id: str, workshop: Workshop, tracker: _ExecutionTracker
    ) -> None:
        super().__init__(user_id, workshop)
        self._tracker = tracker

    async def _converse(self, context: UserExecutionContext, run: Run) -> str:
        self._tracker.status = "running"
        result = await super()._converse(context, run)
        if self._tracker.status != "running":
            message = f"The execution is {self._tracker.status} already."
            raise ModelError(message)
        self._tracker.status = "completed"
        return result


def create_shared_tracker() -> FastAPI:
    """One status for all executions: the first run that ends fails the others.

    Catalogue P01 and L14: a tracker from the time of one run at a time, shared by
    concurrent ones.
    """
    tracker = _ExecutionTracker()

    async def make(
        context: UserExecutionContext, workshop: Workshop
    ) -> ExecutionEngine:
        return _TrackedEngine(context.user_id, workshop, tracker)

    def sabotage(parts: Parts) -> Parts:
        return replace(parts, engines=EngineRegistry(make))

    return create_app(replace=sabotage)


class _HastyRegistry(EngineRegistry):
    """Gets or creates in two steps, with the user kept beside the engines."""

    def __init__(self) -> None:
        super().__init__(create_engine)
        self._by_user: dict[str, ExecutionEngine] = {}
        self._current = ""

    async def engine_for(
        self, context: UserExecutionContext, workshop: Workshop
    ) -> ExecutionEngine:
        self._current = context.user_id
        if self._current not in self._by_user:
            engine = await create_engine(context.detached(), workshop)
            # Two first requests of one user shall end with one engine.
            return self._by_user.setdefault(self._current, engine)
        return self._by_user[self._current]

    async def close(self) -> None:
        await asyncio.gather(*(engine.close() for engine in self._by_user.values()))
        await super().close()


def create_hasty_registry() -> FastAPI:
    """Registers a new engine under whoever asked last while it was made.

    Catalogue P07 and P01: get-or-create with an await in between. The engine itself
    refuses the wrong user, so what users see is runs that are refused.
    """

    def sabotage(parts: Parts) -> Parts:
        return replace(parts, engines=_HastyRegistry())

    return create_app(replace=sabotage)
