"""The search itself: which runs are made, in which order, and when it is enough."""

import contextlib
import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass

from test_framework.core import InternalError, stream
from test_framework.explore.endings import RunAgainError
from test_framework.explore.execution import EVERYTHING, Runner
from test_framework.explore.failures import Failure
from test_framework.explore.faults import FaultPoints
from test_framework.explore.loops import make_loop
from test_framework.explore.ordered import is_iterated, order_more
from test_framework.explore.reduction import Reduction
from test_framework.explore.refusals import (
    SettledError,
    require_end,
    require_inside,
    require_own_thread,
    require_same,
    require_same_end,
    require_setup,
    require_struck,
)
from test_framework.explore.report import (
    Conclusion,
    Listener,
    Progress,
)
from test_framework.explore.scenario import CoroutineFunction
from test_framework.explore.schedule import (
    Backwards,
    Fault,
    Fidelity,
    Schedule,
)
from test_framework.explore.schedulers import (
    Pct,
    Pos,
    Profile,
    Replay,
    Reverse,
    Scheduler,
    Stay,
    Stock,
    Uniform,
    Urw,
    segments_of,
)
from test_framework.explore.story import traced
from test_framework.explore.systematic import Systematic
from test_framework.explore.tally import Tally

# Draws before the first enumeration: a race that one draw in twenty shows is found by
# then; with a third as many, every fifth such search enumerated a hundred orders first.
_FIRST_SAMPLES = 100
_ROUND = 100
_CLASSES_A_ROUND = 400
_LEARN_EVERY = 16
_COLLECT_EVERY = 512
# The generations that hold what runs have left; older objects are not theirs.
_YOUNG = 1
_PROGRESS_EVERY_S = 0.5
_SLACK = 20


@dataclass(frozen=True, slots=True)
class Options:
    """What an exploration was asked for; see :func:`explore`."""

    budget_s: float
    schedules: int | None
    fidelity: Fidelity
    cancel: str
    errors: tuple[str, ...]
    seed: int
    max_steps: int
    progress: Listener | None
    io: str = "sim"
    track: bool = False


class FoundError(Exception):
    """Ends a search with a failure and the faults that were struck."""

    def __init__(self, failure: Failure, schedule: Schedule) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.schedule = schedule


class Search:
    """One exploration: the runner, what was seen, and the clock.

    Args:
        main: Makes the coroutine of task 0.
        options: What was asked for.
    """

    def __init__(self, main: CoroutineFunction, options: Options) -> None:
        self.main = main
        self.seed = options.seed
        self._options = options
        self.loop = make_loop(options.io, options.fidelity, max_steps=options.max_steps)
        self.runner = Runner(main, self.loop)
        self.started = time.monotonic()
        self._deadline = self.started + options.budget_s
        self._rng = stream(options.seed, "explore")
        self._profile = Profile()
        self._is_exhausted = False
        points = FaultPoints(options.cancel, options.errors)
        if options.cancel or options.errors:
            self.runner.points = points
        self._points = points.found
        self.tally = Tally(_scope(options), self._points)
        self._swept = 0
        self._last_new = self.started
        self._last_told = self.started
        self.runs = 0
        self.endless = 0
        self.jobs = 0
        self._reduction: Reduction | None = None
        self.notes: list[str] = []

    # -- one run -----------------------------------------------------------------

    def is_over(self) -> bool:
        """Whether the budget of time or runs is spent."""
        limit = self._options.schedules
        return (limit is not None and self.runs >= limit) or (
            time.monotonic() >= self._deadline
        )

    def run(self, scheduler: Scheduler, faults: tuple[Fault, ...] = ()) -> None:
        """Make one run and count its order.

        Raises:
            FoundError: It failed.
            SettledError: The scenario misuses the explorer.
        """
        loop = self.loop
        failure = self._run_once(scheduler, faults)
        if loop.invariants and not self.runner.watches:
            # The first ones: this order again, and from now on they are looked at.
            self.runner.watches = True
            failure = self.runner.run(Replay(segments_of(loop)), faults)
        self.runs += 1
        self.jobs += loop.jobs
        is_new = self.tally.count(loop.order, faults)
        self._note_sets()
        if failure is not None:
            self._judge(failure, faults)
        self.go_on(is_new=is_new)

    def _run_once(
        self, scheduler: Scheduler, faults: tuple[Fault, ...]
    ) -> Failure | None:
        with contextlib.suppress(RunAgainError):
            return self.runner.run(scheduler, faults)
        # Not while it is handled: the program would get it for a context of its own.
        return self.runner.run(scheduler, faults)

    def _note_sets(self) -> None:
        """Look at the sets of asyncio backwards as well, once a run has iterated one."""
        if is_iterated() and self._options.io == "sim":
            self._points[Backwards()] = None

    def go_on(self, *, is_new: bool) -> None:
        """Collect garbage and tell the listener, now and then."""
        if self.runs % _COLLECT_EVERY == 0:
            gc.collect(_YOUNG)
        now = time.monotonic()
        if is_new:
            self._last_new = now
        if now - self._last_told >= _PROGRESS_EVERY_S:
            self._tell(now)

    def _judge(self, failure: Failure, faults: tuple[Fault, ...]) -> None:
        require_inside(failure)
        if failure.kind == "endless":
            # An unfair schedule lets a task spin for ever; that is no bug of it.
            self.endless += 1
            return
        raise FoundError(failure, self.runner.schedule(faults))

    def _tell(self, now: float) -> None:
        self._last_told = now
        if self._options.progress is not None:
            self._options.progress(
                Progress(
                    self.runs,
                    self.tally.distinct,
                    now - self._last_new,
                    max(0.0, self._deadline - now),
                )
            )

    # -- the phases ----------------------------------------------------------------

    def search(self) -> tuple[Conclusion, str]:
        """Search until something is found, proven, or the budget is spent.

        Raises:
            FoundError: Something was found.
            SettledError: The scenario cannot be explored.
        """
        self._make_reference()
        has_choices = self.loop.choices > 0
        for scheduler in (Reverse(), Stay()) if has_choices else ():
            if not self.is_over():
                self.run(scheduler)
        self._sweep()
        has_choices |= self.loop.choices > 0
        is_swept = self._swept == len(self._points)
        if not (has_choices or self.tally.strikes) and is_swept:
            conclusion, claim = Conclusion.PROVEN, self._only_order()
        else:
            conclusion, claim = self._sample_and_enumerate()
        require_struck(self._options.cancel, self.runner.points)
        return conclusion, claim

    def _make_reference(self) -> None:
        """Run twice as plain asyncio would, and compare."""
        if self._options.fidelity is not Fidelity.FIFO:
            self._run_as_plain_asyncio()
        self.runner.usual_left = EVERYTHING
        first_failure, first = traced(self.runner, Stock())
        if order_more():
            # It has loaded what keeps tasks in sets.
            first_failure, first = traced(self.runner, Stock())
        require_setup(self.loop, first_failure)
        require_own_thread(self.loop)
        require_end(first_failure)
        self.runner.usual_left = self.runner.left_over()
        second_failure, second = traced(self.runner, Stock())
        require_same(first, second, (first_failure, second_failure))
        require_same_end(first_failure, second_failure)
        self.runs += 1
        self.jobs += self.loop.jobs
        self.tally.count(self.loop.order)
        self._profile.learn(self.loop.order)
        self._note_sets()
        if second_failure is not None:
            require_inside(second_failure)
            raise FoundError(second_failure, self.runner.schedule())
        self.runner.watches = bool(self.loop.invariants)
        self.loop.max_steps = min(self._options.max_steps, 1000 + _SLACK * len(second))

    def _run_as_plain_asyncio(self) -> None:
        """Make the one run that a test without the explorer makes.

        In the other fidelities callbacks go before tasks that were ready earlier, so
        this order may not be among theirs.
        """
        loop = make_loop("sim", Fidelity.FIFO, max_steps=self._options.max_steps)
        runner = Runner(self.main, loop)
        runner.usual_left = EVERYTHING
        failure, first = traced(runner, Stock())
        if order_more():
            failure, first = traced(runner, Stock())
        require_setup(loop, failure)
        again, second = traced(runner, Stock())
        require_same(first, second, (failure, again))
        require_same_end(failure, again)
        if failure is not None:
            require_inside(failure)
        if failure is not None and failure.kind != "endless":
            self.runs += 1
            self.jobs += loop.jobs
            self.loop, self.runner = loop, runner
            raise FoundError(failure, runner.schedule())

    def _sweep(self) -> None:
        """Strike every fault that is new once, in the order of plain asyncio."""
        for fault in list(self._points)[self._swept :]:
            if self.is_over():
                return
            self._swept += 1
            self.run(Stock(), (fault,))

    def _only_order(self) -> str:
        hint = ""
        if self._options.fidelity is Fidelity.FIFO and self._options.io == "sim":
            hint = (
                " At no point could two things happen: if its awaits stand for I/O, use "
                "external() or fidelity='await'."
            )
        return self.tally.only_order() + hint

    def _sample_and_enumerate(self) -> tuple[Conclusion, str]:
        draws, enumeration = self._draw(), self._enumerate()
        amount = _FIRST_SAMPLES
        if self._options.track:
            self._reduction = Reduction(
                self.main,
                usual_left=self.runner.usual_left,
                max_steps=self.loop.max_steps,
                watches=self.runner.watches,
            )
        while not self.is_over():
            self._sweep()
            self._take(draws, amount)
            amount = _ROUND
            if self._may_reduce():
                self._reduce()
                if self.classes is not None and not self._has_faults:
                    claim = self.tally.complete_by_classes(self.classes, self.tracked)
                    return Conclusion.PROVEN, claim
            elif self._take(enumeration, _ROUND) and self._is_exhausted:
                return Conclusion.PROVEN, self.tally.complete()
        return Conclusion.SAMPLED, self.tally.sampled(self.runs)

    @property
    def _has_faults(self) -> bool:
        return bool(self._options.cancel or self._options.errors)

    def _may_reduce(self) -> bool:
        reduction = self._reduction
        return reduction is not None and not (reduction.is_done or reduction.refusal)

    def _reduce(self) -> None:
        """Run one order of some more classes."""
        reduction = self._reduction
        if reduction is None:
            return
        with reduction.prepared():
            for _ in range(_CLASSES_A_ROUND):
                if self.is_over():
                    return
                try:
                    failure = reduction.run()
                except InternalError as exc:
                    raise SettledError(Conclusion.INCONCLUSIVE, str(exc)) from exc
                if reduction.is_done:
                    return
                self.runs += 1
                self.jobs += reduction.loop.jobs
                if reduction.refusal:
                    # What failed may have needed what was not tracked: it is searched.
                    return
                if failure is not None:
                    raise FoundError(failure, reduction.schedule())
                self.go_on(is_new=True)

    @property
    def distinct(self) -> int:
        """Different orders run so far, with their faults."""
        return self.tally.distinct

    @property
    def classes(self) -> int | None:
        """Classes of orders, when all of them were run; else None."""
        reduction = self._reduction
        return (
            reduction.classes if reduction is not None and reduction.is_done else None
        )

    @property
    def tracked(self) -> tuple[str, ...]:
        """Names of what was registered or reported."""
        return () if self._reduction is None else self._reduction.tracked

    @property
    def why_no_classes(self) -> str:
        """Why classes of orders were asked for and not run; empty when they were."""
        return "" if self._reduction is None else self._reduction.refusal

    def _take(self, runs: Iterator[None], amount: int) -> bool:
        """Make so many runs within the budget; tell whether there are no more."""
        for _ in range(amount):
            if self.is_over():
                return False
            if next(runs, runs) is runs:
                return True
        return False

    def _draw(self) -> Iterator[None]:
        """Make random runs without end, half of them with a fault if there are any."""
        points: list[Fault] = []
        draw = self._rng.random
        for policy in self._policies():
            faults: tuple[Fault, ...] = ()
            if len(points) < len(self._points):
                points = list(self._points)
            if points and draw() < 0.5:  # half of the runs
                faults = (self._rng.choice(points),)
            self.tally.drawn += 1
            self.run(policy, faults)
            if self.tally.drawn % _LEARN_EVERY == 0:
                self._profile.learn(self.loop.order)
            yield

    def _enumerate(self) -> Iterator[None]:
        """Make every run there is: all orders alone, then with each fault."""
        systematic = Systematic()
        while systematic.advance():
            self.run(systematic)
            self.tally.bound = systematic.bound
            yield
        is_cut = systematic.is_cut
        self.tally.bound = None
        # By now every order has shown where faults can strike.
        for fault in list(self._points):
            systematic = Systematic()
            while systematic.advance():
                self.run(systematic, (fault,))
                yield
            is_cut |= systematic.is_cut
        # A run that was cut off for its length has orders that nobody saw.
        self._is_exhausted = not is_cut and not self.endless

    def _policies(self) -> Iterator[Scheduler]:
        rng, profile = self._rng, self._profile
        urw = Urw(rng, profile)
        for _ in range(_FIRST_SAMPLES):
            yield urw
        others = (
            Pct(rng, profile, depth=2),
            Pos(rng),
            Pct(rng, profile, depth=3),
            Pos(rng),
            Uniform(rng),
        )
        while True:
            for other in others:
                yield urw
                yield other


def _scope(options: Options) -> str:
    """Return how the orders that count are bounded, as words."""
    if options.io == "gate":
        return "of requests that leave one at a time (io='gate')"
    return f"at fidelity {options.fidelity}"
