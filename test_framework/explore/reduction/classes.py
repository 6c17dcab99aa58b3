"""A proof by classes: runs of a scenario of which no two differ in order alone.

Not for faults (what they strike depends on where tasks wait, which classes leave open)
nor for scenarios with timers: there every order is run.
"""

import contextlib
from collections.abc import Iterator

from test_framework.core import InternalError
from test_framework.explore.execution import Runner
from test_framework.explore.failures import Failure
from test_framework.explore.reduction.optimal import Optimal
from test_framework.explore.reduction.tracked import Recorder, RedundantError
from test_framework.explore.reduction.tracked_asyncio import instrumented
from test_framework.explore.reduction.tracked_loop import TrackedLoop
from test_framework.explore.scenario import CoroutineFunction
from test_framework.explore.schedule import Fidelity, Schedule
from test_framework.explore.schedulers import segments_of


class Reduction:
    """Runs one order of each class, as far as a budget goes.

    Args:
        main: Makes the coroutine of task 0.
        usual_left: Names of the tasks that may be left over.
        max_steps: Steps after which a run counts as endless.
        watches: Whether there are invariants to look at.

    Attributes:
        refusal: Why there is no proof by classes; empty while there may be.
        is_done: Every class was run.
        is_whole: The last run was of a class of its own, from beginning to end.
    """

    def __init__(
        self,
        main: CoroutineFunction,
        *,
        usual_left: frozenset[str],
        max_steps: int,
        watches: bool,
    ) -> None:
        self._recorder = Recorder()
        self.loop = TrackedLoop(self._recorder, max_steps=max_steps)
        self._runner = Runner(main, self.loop)
        self._runner.usual_left = usual_left
        self._runner.watches = watches
        self._optimal = Optimal(self._recorder)
        self._was_cut = False
        self.refusal = ""
        self.is_done = False
        self.is_whole = False

    @property
    def classes(self) -> int:
        """Classes run so far."""
        return len(self._optimal.classes)

    @property
    def cut(self) -> int:
        """Runs that were ended early, since they could only repeat others."""
        return self._optimal.cut

    @property
    def tracked(self) -> tuple[str, ...]:
        """Names of what was registered or reported."""
        return tuple(self._recorder.names)

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Let asyncio report its use; runs are made inside only."""
        with instrumented():
            yield

    def run(self) -> Failure | None:
        """Run the next class, or find that there is none or no proof.

        Returns:
            What went wrong in it.

        Raises:
            InternalError: Runs do not come to an end as they must.
        """
        self.is_whole = False
        if not self._optimal.advance(was_cut=self._was_cut):
            self.is_done = True
            return None
        self._was_cut = False
        try:
            failure = self._runner.run(self._optimal)
        except RedundantError:
            failure = None
        recorder = self._recorder
        self._was_cut = recorder.is_redundant
        self._require_progress()
        if recorder.needs_strict and not recorder.is_strict:
            recorder.is_strict = True
            self._optimal = Optimal(recorder)
            self._was_cut = False
            return None
        if self._was_cut:
            return None
        self.is_whole = True
        if not recorder.names:
            self.refusal = "nothing was registered with shared() or access()"
        elif recorder.refusal:
            self.refusal = recorder.refusal
        elif failure is not None and failure.kind == "endless":
            self.refusal = "a run was cut off for its length"
        return failure

    def schedule(self) -> Schedule:
        """Return the last run as a schedule for a loop that tracks nothing."""
        order = [event.number for event in self._recorder.events]
        return Schedule(Fidelity.AWAIT, segments_of(self.loop, order))

    def _require_progress(self) -> None:
        optimal = self._optimal
        if optimal.repeated:
            raise InternalError(
                f"A class of orders was run twice, after {self.classes:,} classes."
            )
        if optimal.has_strayed:
            self.refusal = "a run did not repeat the steps of the one before"
