"""The loop as a whole: one run from its first step to its clean-up."""

import sys
import threading
from asyncio import events
from collections.abc import Callable, Coroutine
from typing import Any

from test_framework.explore.decisions import Choose, Hook
from test_framework.explore.endings import EndlessError, StalledError
from test_framework.explore.jobs import Landings, Workers
from test_framework.explore.loop.cleanup import CleanUp
from test_framework.explore.loop.limits import MAX_STEPS, PATIENCE
from test_framework.explore.loop.steps import StepDriver
from test_framework.explore.loop.turns import TurnDriver
from test_framework.explore.names import LOOPS
from test_framework.explore.schedule import Fidelity
from test_framework.explore.waits import own_frame, place, waits_of


class ExplorationLoop(StepDriver, TurnDriver, CleanUp):
    """Runs one scenario after the other under schedulers.

    Args:
        fidelity: Which orders are possible.
        max_steps: Steps of a run before it counts as endless.

    What others may read of a run is told where it is kept: by ``NamedTasks``, ``Face``,
    ``Limits``, ``Queues`` and ``CleanUp``.
    """

    def __init__(
        self, fidelity: Fidelity = Fidelity.AWAIT, *, max_steps: int = MAX_STEPS
    ) -> None:
        self.patience = PATIENCE
        self.fidelity = fidelity
        self.max_steps = max_steps
        self._is_fifo = fidelity is Fidelity.FIFO
        self._is_any = fidelity is Fidelity.ANY
        self._thread = threading.get_ident()
        self._is_running = False
        self._handler: Callable[[Any, dict[str, Any]], object] | None = None
        self._task_factory: Any = None
        self._landings = Landings()
        self._workers = Workers()
        self._reset()

    def is_running(self) -> bool:
        """Tell whether a run is going on."""
        return self._is_running

    def run(
        self,
        main: Coroutine[Any, Any, Any],
        begin: Callable[["ExplorationLoop"], Choose],
        *,
        before: Hook | None = None,
        after: Hook | None = None,
    ) -> Any:
        """Run a coroutine to its end and clean up after it.

        Args:
            main: The scenario; becomes task 0.
            begin: Makes the function that is called at every decision with more than
                one option.
            before: Called with the number of a task before each of its steps.
            after: Called with the number of a task after each of its steps.

        Returns:
            What ``main`` returned.

        Raises:
            StalledError: Nothing can go and main is not done.
            EndlessError: The run exceeded ``max_steps``.
        """
        self._reset()
        choose = begin(self)
        running = events._get_running_loop()
        events._set_running_loop(self)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(self._first_iteration, self._finalise)
        self._is_running = True
        LOOPS.append(self)
        try:
            task = self.create_task(main)
            drive = self._drive_turns if self._is_fifo else self._drive_steps
            while not drive(task, choose, before, after):
                pass
            return task.result()
        except StalledError as exc:
            exc.waits = exc.waits or waits_of(self)
            raise
        except EndlessError as exc:
            exc.where = place(own_frame(self.tasks[max(self.current, 0)].get_coro()))
            raise
        finally:
            try:
                self._clean_up()
            finally:
                # Also when a task that is cancelled there ends the process.
                self._is_running = False
                LOOPS.pop()
                sys.set_asyncgen_hooks(*hooks)
                events._set_running_loop(running)
