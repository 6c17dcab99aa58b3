"""Search the schedules of a scenario within a budget and say what that proves.

The order of work: one run as plain asyncio would make it, twice, to see that the
scenario is deterministic; a few fixed orders; every cancellation point when asked;
then, in turns, random schedules (which find most bugs within tens of runs) and the
enumeration of all of them (which ends small cases with a proof). What fails is run
again, shrunk, and told in source lines.
"""

import contextlib
import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from test_framework.core import TargetError, UsageError, fresh_seed
from test_framework.explore.budget import seconds_of
from test_framework.explore.endings import MisuseError
from test_framework.explore.execution import EVERYTHING, Runner
from test_framework.explore.failures import Failure
from test_framework.explore.faults import error_named
from test_framework.explore.guards import Guards, guarded
from test_framework.explore.live import run_live
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.loop.limits import MAX_STEPS
from test_framework.explore.loops import make_loop
from test_framework.explore.ordered import ordered_sets
from test_framework.explore.proof import prove
from test_framework.explore.reference import reference_of
from test_framework.explore.refusals import SettledError
from test_framework.explore.report import (
    Conclusion,
    Listener,
    Report,
    Witness,
    failure_lines,
    runs_in_words,
    story_lines,
)
from test_framework.explore.scenario import CoroutineFunction, Scenario, main_of
from test_framework.explore.schedule import Backwards, Fidelity, Schedule
from test_framework.explore.schedulers import Replay, Stock
from test_framework.explore.search import FoundError, Options, Search
from test_framework.explore.story import Step, tell, traced
from test_framework.explore.symmetry import SymmetricSearch, require_symmetry
from test_framework.explore.threads import threads_as_jobs


@contextlib.contextmanager
def prepared(loop: ExplorationLoop) -> Iterator[Guards]:
    """Make runs repeatable meanwhile, and watch for what would make them not so."""
    with (
        _without_collections(),
        ordered_sets(),
        guarded(loop) as guards,
        threads_as_jobs(guards),
    ):
        yield guards


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Collect garbage only between runs, where the search does it, and only what is young.

    A collection in a run would call finalisers at points that no schedule decides. What
    was there before is never looked at: with a web stack imported, one full collection
    takes as long as a thousand runs.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def explore(
    scenario: CoroutineFunction | Scenario[Any],
    *,
    users: int | None = None,
    budget: str | float = "5s",
    schedules: int | None = None,
    fidelity: Fidelity | str | None = None,
    cancel: bool | str = False,
    errors: tuple[str, ...] = (),
    seed: int | None = None,
    max_steps: int = MAX_STEPS,
    progress: Listener | None = None,
    reference: str | None = None,
    io: str = "sim",
    track: bool = False,
    symmetric: bool = False,
) -> Report:
    """Search the schedules of a scenario for one that breaks it.

    Args:
        scenario: An async function without arguments that asserts what must hold, or a
            ``Scenario``. Makes all its state anew in each run.
        users: Users of a ``Scenario``.
        budget: Wall time, such as ``"5s"`` or seconds; shrinking comes on top.
        schedules: At most so many runs.
        fidelity: ``fifo`` (what stock asyncio can do; the default), ``await`` (every
            await may take any time; the default with ``track``) or ``any``.
        cancel: Cancel each task and let its timeouts expire at each suspension that it
            has in any run; a pattern such as ``"user*"`` limits it
            to tasks.
        errors: Names of exceptions with which waits for the world outside may end.
        seed: Repeats an exploration.
        max_steps: Steps after which a run counts as endless.
        progress: Called between batches of runs, at most twice a second.
        reference: ``PATH::NAME`` of the scenario where it cannot be told from it.
        io: ``sim`` (none), ``gate`` (real sockets; requests leave one at a time) or
            ``live`` (real sockets, real time and noise; what is found is not repeated).
        track: Run one order of each class of orders that differ only in steps that
            touch nothing in common, as far as ``shared()`` and ``access()`` tell.
        symmetric: The users of a ``Scenario`` are identical, so states that differ only
            in who is who count as one. Proves many users where the orders of few are
            too many to run.

    Returns:
        What was found, proven or sampled; see ``Report``.

    Raises:
        UsageError: An argument is wrong.
    """
    main = main_of(scenario, users)
    crowd = scenario if isinstance(scenario, Scenario) else None
    if crowd is not None and users is None:
        users = crowd.users
    _at_least_one("schedules", schedules)
    _at_least_one("max_steps", max_steps)
    options = Options(
        budget_s=seconds_of(budget),
        schedules=schedules,
        fidelity=_fidelity_of(fidelity, io=io, track=track),
        cancel=cancel if isinstance(cancel, str) else "*" * cancel,
        errors=tuple(errors),
        seed=fresh_seed() if seed is None else seed,
        max_steps=max_steps,
        progress=progress,
        io=io,
        track=track,
    )
    if isinstance(errors, str):  # type: ignore[unreachable]  # who types the option may err
        raise UsageError(
            f"errors={errors!r}: expected several names, such as errors=({errors!r},)."
        )
    for error in options.errors:
        error_named(error)
    if reference is None:
        reference = reference_of(scenario)
    alike = require_symmetry(scenario, options) if symmetric else None
    if io == "live":
        return run_live(main, options, users=users)
    search = Search(main, options)
    if alike is not None:
        search = SymmetricSearch(alike, users or alike.users, options)
    with prepared(search.loop) as guards:
        try:
            conclusion, claim, witness = _conclude(search, reference, crowd, users)
        except (MisuseError, TargetError) as exc:
            conclusion, claim, witness = Conclusion.INCONCLUSIVE, str(exc), None
        if guards.problem:
            conclusion, claim, witness = Conclusion.INCONCLUSIVE, guards.problem, None
    return Report(
        conclusion=conclusion,
        claim=claim,
        seed=options.seed,
        schedules=search.runs,
        distinct=search.distinct,
        unseen_mass=search.tally.unseen_mass,
        seconds=time.monotonic() - search.started,
        tracked=search.tracked,
        classes=search.classes,
        notes=tuple(
            _notes(search, has_check=crowd is not None and crowd.check is not None)
        ),
        witness=witness,
    )


def _conclude(
    search: Search, reference: str, crowd: Scenario[Any] | None, users: int | None
) -> tuple[Conclusion, str, Witness | None]:
    try:
        conclusion, claim = search.search()
    except SettledError as exc:
        return exc.conclusion, exc.claim, None
    except FoundError as exc:
        found = exc
    else:
        return conclusion, claim, None
    # Not while it is handled: what a program raises once more would get it for its
    # context and lose its own, which says what followed from a fault.
    witness, why_not = prove(
        search, found, reference=reference, crowd=crowd, users=users
    )
    if witness is None:
        return Conclusion.INCONCLUSIVE, why_not, None
    return Conclusion.FOUND, _found(witness, users), witness


def _found(witness: Witness, users: int | None) -> str:
    schedule = witness.schedule
    crowd = ""
    if users is not None and witness.users is not None and witness.users < users:
        crowd = f" {witness.users} of {users} users are enough."
    after = f"after {runs_in_words(witness.found_after)}"
    if not schedule.segments and not schedule.faults:
        if schedule.fidelity is not Fidelity.FIFO:
            return (
                f"{after}; each task goes on until it waits, which plain asyncio does "
                f"not do.{crowd}"
            )
        return f"{after}; no particular order is needed.{crowd}"
    strikes = sum(not isinstance(fault, Backwards) for fault in schedule.faults)
    struck = f"{strikes} fault{'s' * (strikes != 1)} and " if strikes else ""
    unit = "switch" if schedule.switches == 1 else "switches"
    return (
        f"{after}; shrunk to {struck}{schedule.switches} context {unit} in "
        f"{runs_in_words(witness.shrink_runs)}.{crowd}"
    )


def _notes(search: Search, *, has_check: bool) -> Iterator[str]:
    if search.jobs:
        yield (
            "Executor jobs ran as one step each; races between threads are not explored."
        )
    if search.loop.io == "gate":
        yield (
            "Requests left one at a time; what a server does with several at once, and "
            "answers that overtake each other, are not explored."
        )
    yield from search.loop.notes
    excused, struck = search.runner.excused, search.runner.faulty
    is_asked = search.runner.watches or has_check or search.loop.pools
    if excused and not is_asked:
        yield (
            f"In {excused:,} of {runs_in_words(struck)} with a fault the test ended with its "
            "fault, and nothing was asked after that: it has no invariant. A Scenario "
            "has a check that runs then as well."
        )
    if search.why_no_classes:
        yield f"Not by classes of orders: {search.why_no_classes}."
    if search.endless:
        yield (
            f"{runs_in_words(search.endless)} {'was' if search.endless == 1 else 'were'} "
            f"cut off at {search.loop.max_steps:,} steps: "
            "some task spins while others wait for their turn."
        )
    yield from search.notes


def _at_least_one(name: str, count: int | None) -> None:
    if count is not None and count < 1:
        raise UsageError(f"{name}={count!r}: expected a whole number of 1 or more.")


def _fidelity_of(fidelity: Fidelity | str | None, *, io: str, track: bool) -> Fidelity:
    if track:
        # What comes in turns has an order that no access shows.
        if io != "sim" or fidelity not in (None, Fidelity.AWAIT):
            raise UsageError(
                f"track=True with fidelity={fidelity and str(fidelity)!r}, io={io!r}: "
                "classes of orders are those of fidelity 'await' without real I/O. "
                "Leave both out."
            )
        return Fidelity.AWAIT
    return Fidelity.FIFO if fidelity is None else _fidelity(fidelity)


def _fidelity(fidelity: Fidelity | str) -> Fidelity:
    try:
        return Fidelity(fidelity)
    except ValueError:
        raise UsageError(
            f"fidelity={fidelity!r}: expected one of {', '.join(Fidelity)}."
        ) from None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a replay showed.

    Attributes:
        failure: What went wrong; None when nothing did.
        parted: Index of the first segment that no longer fits; None when all did.
        steps: Task, place and source line of every step.
        schedule: What was followed.
    """

    failure: Failure | None
    parted: int | None
    steps: tuple[Step, ...]
    schedule: Schedule

    def text(self) -> str:
        """Return the run as lines."""
        if self.failure is None:
            lines = ["passes  Nothing went wrong."]
        else:
            head, *details = failure_lines(self.failure)
            lines = [f"{Conclusion.FOUND}  {head}", *details]
        if self.parted is not None:
            segment = self.schedule.segments[self.parted]
            lines.append(
                f"    The schedule no longer fits: at its entry {self.parted + 1} "
                f"({segment.name} {segment.steps}) {segment.name} did not go. It was "
                "followed as far as it goes."
            )
        lines += story_lines(tell(list(self.steps), self.schedule.faults))
        return "\n".join(lines)


def replay(
    scenario: CoroutineFunction | Scenario[Any],
    schedule: Schedule | str,
    *,
    users: int | None = None,
) -> Outcome:
    """Follow a schedule once.

    Args:
        scenario: What it is a schedule of.
        schedule: A schedule, its text or its token.
        users: Users of a ``Scenario``; those of the schedule when left out.

    Raises:
        UsageError: The schedule cannot be read or the scenario blocks the loop.
        TargetError: A server that the scenario talks to does not answer.
    """
    if isinstance(schedule, str):
        schedule = Schedule.parse(schedule)
    if users is None and isinstance(scenario, Scenario):
        users = schedule.users
    loop = make_loop(schedule.io, schedule.fidelity)
    runner = Runner(main_of(scenario, users), loop)
    runner.usual_left = EVERYTHING
    way = Replay(schedule.segments)
    with prepared(loop) as guards:
        try:
            traced(runner, Stock())
            runner.usual_left = runner.left_over()
            failure, steps = traced(runner, way, schedule.faults)
        except MisuseError as exc:
            raise UsageError(str(exc)) from None
        if guards.problem:
            raise UsageError(guards.problem)
    parted = way.parted
    if parted is None and failure is None:
        parted = way.unused(loop)
    return Outcome(failure, parted, tuple(steps), schedule)
