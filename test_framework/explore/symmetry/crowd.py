"""Identical users of one run, told apart only by numbers that say nothing.

What :mod:`test_framework.explore.scenario` does for plain users, with the same steps in
the same order; but numbers and names of users carry labels drawn for the run, and the
state of the scenario is known to who reads the run.
"""

import asyncio
import contextvars
import inspect
import random
from typing import TYPE_CHECKING, Any

from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.scenario import Scenario, arrive, conclude, is_entered
from test_framework.explore.symmetry.labels import Labels

if TYPE_CHECKING:
    from collections.abc import Callable


class CrowdLoop(ExplorationLoop):
    """A loop that calls users by their position, whatever their tasks are named."""

    users: range = range(0)
    """Numbers of the users' tasks."""

    def _make_name(self, number: int) -> str:
        if number in self.users:
            return f"user[{number - self.users.start}]"
        return super()._make_name(number)

    def _release(self, number: int, task: Any) -> None:
        """Keep it: what it held is part of a fingerprint."""


class Crowd:
    """Makes the main coroutine of each run.

    Args:
        scenario: What the users do.
        count: How many users.
        loop: Where they run.
        rng: Draws their labels.

    Attributes:
        held: What the users have in common: the context that they are started in, the
            state that the scenario made, and what they get of it.
        is_there: Whether the users were started and main only waits for them.
        departed: The callback of every user's task.
        at_end: Called when all users have left, before the check.
    """

    def __init__(
        self,
        scenario: Scenario[Any],
        count: int,
        loop: CrowdLoop,
        rng: random.Random,
    ) -> None:
        self.scenario = scenario
        self.count = count
        self.loop = loop
        self.labels = Labels(rng)
        self.held: tuple[Any, ...] = ()
        self.is_there = False
        self._left = count
        self.departed = self._departed
        self.at_end: Callable[[], None] | None = None

    async def main(self) -> None:
        """Set up, let the users do what they do, check."""
        self.is_there = False
        self.loop.users = range(0)
        state = self.scenario.setup()
        if inspect.isawaitable(state):
            state = await state
        if is_entered(state):
            async with state as entered:
                self.held = (contextvars.copy_context(), state, entered)
                await self._run_users(state if entered is None else entered)
        else:
            self.held = (contextvars.copy_context(), state)
            await self._run_users(state)

    async def _run_users(self, state: Any) -> None:
        loop, user = self.loop, self.scenario.user
        loop.users = range(len(loop.tasks), len(loop.tasks) + self.count)
        self._left = self.count
        everybody_left: asyncio.Future[None] = loop.create_future()
        self._everybody_left = everybody_left
        users = []
        for token in self.labels.draw(self.count):
            task = loop.create_task(
                arrive(user, state, token), name=f"user[{token.label}]"
            )
            task.add_done_callback(self.departed)
            users.append(task)
        self.is_there = True
        await everybody_left
        if self.at_end is not None:
            self.at_end()
        self.is_there = False
        results = [
            asyncio.CancelledError() if task.cancelled() else task.exception()
            for task in users
        ]
        await conclude(self.scenario, state, results)

    def _departed(self, _: asyncio.Task[None]) -> None:
        # As gather does it: a callback for each, and the last one wakes main.
        self._left -= 1
        if not self._left and not self._everybody_left.done():
            self._everybody_left.set_result(None)
