"""The registry: one engine per user, made once, gone when idle.

The registry maps a user to the task that makes the engine. Whoever asks first starts
that task and all others wait for the same one, so concurrent first requests of a user
cannot end with two engines; a caller that is cancelled does not take it away from
the others, and one that waited for a making that failed tries once more.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from app.agents.engine import ClosedError, ExecutionEngine, Workshop
from app.agents.sweeper import tell_the_end
from app.context import UserExecutionContext
from app.monitoring import log_event
from app.storage import sweep_abandoned

IDLE_S = 300.0
_log = logging.getLogger("app.agents")

EngineFactory = Callable[[UserExecutionContext, Workshop], Awaitable[ExecutionEngine]]


async def create_engine(
    context: UserExecutionContext, workshop: Workshop
) -> ExecutionEngine:
    """Make the engine of the context's user, and end runs that died with a process."""
    async with workshop.sessions.for_user(context.user_id) as session:
        abandoned = await sweep_abandoned(context.child(session=session))
    for run in abandoned:
        await tell_the_end(context, run)
    return ExecutionEngine(context.user_id, workshop)


class EngineRegistry:
    """The engines of this process, by user."""

    def __init__(self, factory: EngineFactory, *, idle_s: float = IDLE_S) -> None:
        """Make engines with ``factory``; drop one after ``idle_s`` without work."""
        self._factory = factory
        self._idle_s = idle_s
        self._engines: dict[str, asyncio.Task[ExecutionEngine]] = {}
        self._used_at: dict[str, float] = {}
        self._janitor: asyncio.Task[None] | None = None
        self._is_closed = False

    def __len__(self) -> int:
        """Count the users that have an engine, or one in the making."""
        return len(self._engines)

    async def start(self) -> None:
        """Begin to drop idle engines.

        Raises:
            ClosedError: The registry was closed.
        """
        self._refuse_if_closed()
        self._janitor = asyncio.create_task(self._drop_forever(), name="engine janitor")

    async def close(self) -> None:
        """Interrupt all runs of all engines and forget the engines, for good."""
        self._is_closed = True
        if self._janitor is not None:
            self._janitor.cancel()
            await asyncio.gather(self._janitor, return_exceptions=True)
        makings = list(self._engines.values())
        if makings:
            await asyncio.wait(makings)
        made = [making.result() for making in makings if _is_made(making)]
        await asyncio.gather(*(engine.close() for engine in made))
        # Last: a closing that was cancelled before can be called again.
        self._engines.clear()
        self._used_at.clear()

    async def engine_for(
        self, context: UserExecutionContext, workshop: Workshop
    ) -> ExecutionEngine:
        """Return the engine of the context's user, made on first use.

        It is in the registry when this returns, and stays there at least until the
        caller awaits something.

        Raises:
            ClosedError: The registry was closed.
            Exception: What the factory raised.
        """
        user_id = context.user_id
        is_last_try = False
        while True:
            self._refuse_if_closed()
            making = self._engines.get(user_id)
            if making is None:
                making = self._begin_making(context, workshop)
                is_last_try = True
            self._touch(user_id)
            # Neither is cancelled with the other, as it would be by awaiting it.
            await asyncio.wait({making})
            if _is_made(making):
                if self._engines.get(user_id) is making:
                    self._touch(user_id)
                    return making.result()
                continue  # it was dropped before our turn came
            if is_last_try:
                if making.cancelled():
                    message = f"The engine of {user_id} was cancelled in the making."
                    raise ClosedError(message)
                return making.result()
            # It began before we came, so what failed may work by now.
            is_last_try = True

    def cancel_run(self, run_id: str) -> bool:
        """Stop a run if it is worked on in this process."""
        return any(
            making.result().cancel(run_id)
            for making in self._engines.values()
            if _is_made(making)
        )

    def drop_idle(self) -> int:
        """Forget engines without work for ``idle_s``, and return how many."""
        now = asyncio.get_running_loop().time()
        idle = [
            user_id
            for user_id, making in self._engines.items()
            if now - self._used_at[user_id] >= self._idle_s
            and _is_made(making)
            and making.result().is_idle
        ]
        for user_id in idle:
            del self._engines[user_id], self._used_at[user_id]
        return len(idle)

    def _begin_making(
        self, context: UserExecutionContext, workshop: Workshop
    ) -> asyncio.Task[ExecutionEngine]:
        user_id = context.user_id
        making = asyncio.create_task(
            self._make(context.detached(), workshop), name=f"engine of {user_id}"
        )
        making.add_done_callback(lambda made: self._forget_failed(user_id, made))
        self._engines[user_id] = making
        return making

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            message = "The registry was closed: the service stops."
            raise ClosedError(message)

    def _touch(self, user_id: str) -> None:
        self._used_at[user_id] = asyncio.get_running_loop().time()

    def _forget_failed(
        self, user_id: str, making: asyncio.Task[ExecutionEngine]
    ) -> None:
        # So that the next request tries again, also when all who waited have left.
        if not _is_made(making) and self._engines.get(user_id) is making:
            del self._engines[user_id], self._used_at[user_id]

    async def _make(
        self, context: UserExecutionContext, workshop: Workshop
    ) -> ExecutionEngine:
        return await self._factory(context, workshop)

    async def _drop_forever(self) -> None:
        while True:
            await asyncio.sleep(self._idle_s / 2)
            if dropped := self.drop_idle():
                log_event(_log, "engines.dropped", count=dropped)


def _is_made(making: asyncio.Task[ExecutionEngine]) -> bool:
    return making.done() and not making.cancelled() and making.exception() is None
