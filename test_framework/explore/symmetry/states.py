"""Search the states of identical users: depth first, each state once.

A run goes on until it comes to a state that was met before, and is cut there: whatever
follows was or will be followed from the first visit (stateful model checking). At a
state that is new, the options it did not take wait for runs of their own, one for all
users that could swap places. A coroutine cannot be copied, so each such run begins anew
and follows its prefix; the state at the end of it must be the one it was noted for,
although the users have other labels by then.
"""

import random
from dataclasses import dataclass
from typing import Any, NamedTuple

from test_framework.explore.decisions import Choose
from test_framework.explore.endings import CutError, MisuseError
from test_framework.explore.execution import EVERYTHING, Runner
from test_framework.explore.failures import Failure
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.scenario import Scenario
from test_framework.explore.schedule import Fidelity
from test_framework.explore.schedulers import Scheduler, Stock, stay
from test_framework.explore.symmetry.crowd import Crowd, CrowdLoop
from test_framework.explore.symmetry.fingerprint import Fingerprinter
from test_framework.explore.waits import own_frame, place, source

_FIRST_CHECKS = 64
_CHECK_EVERY = 8
_SAMPLED_MERGES = 16
_CONTINUED = 6


class _MetAgainError(CutError):
    """Raised when a run comes to a state that was met before."""


class DivergedError(CutError):
    """Raised when a fingerprint turns out not to say all; the text says where."""


class _Visit(NamedTuple):
    """How a state was reached: the first choices of a run."""

    choices: list[int]
    length: int

    def prefix(self) -> list[int]:
        return self.choices[: self.length]


@dataclass(slots=True)
class _Branch:
    """An option that was not taken yet."""

    visit: _Visit
    position: int
    digest: bytes | None


class StateSearch:
    """All states of a crowd.

    Args:
        scenario: What its users do.
        count: How many users.
        fidelity: Which orders are possible.
        max_steps: Steps after which a run counts as endless.
        rng: Draws labels and samples.

    Attributes:
        runs: Runs made so far, validation included.
        merged: How often a state was met again.
        checked: How many states were compared after another run of their prefix.
        repeated: How many merges were validated by continuing both ways.
        waiting: Branches that were not followed yet.
        ends: Fingerprints of what users left behind at the end of runs.
        outcomes: Kinds of the failures met; None for a run without.
        endless: Runs that were cut off for their length.
    """

    def __init__(
        self,
        scenario: Scenario[Any],
        count: int,
        fidelity: Fidelity,
        max_steps: int,
        rng: random.Random,
    ) -> None:
        self.loop = CrowdLoop(fidelity, max_steps=max_steps)
        self.crowd = Crowd(scenario, count, self.loop, rng)
        self.runner = Runner(self.crowd.main, self.loop)
        self.prints = Fingerprinter(self.crowd)
        self._rng = rng
        self._visits: dict[bytes, _Visit] = {}
        self._merges: list[tuple[_Visit, _Visit]] = []
        self._waiting: list[_Branch] = []
        self._is_first = True
        self._end = b""
        self._is_cut = False
        self.ends: set[bytes] = set()
        self.runs = self.merged = self.checked = self.repeated = self.endless = 0
        self.outcomes: set[str | None] = set()

    def share_prints_of(self, other: "StateSearch") -> None:
        """Run where another search runs: only so their fingerprints can be compared."""
        self.loop, self.crowd = other.loop, other.crowd
        self.runner, self.prints = other.runner, other.prints

    @property
    def states(self) -> frozenset[bytes]:
        """Fingerprints of the states met."""
        return frozenset(self._visits)

    @property
    def waiting(self) -> int:
        """Options that were not taken yet."""
        return len(self._waiting)

    def run(self, scheduler: Scheduler) -> Failure | None:
        """Make one run.

        Raises:
            CutError: The scheduler ended it.
            MisuseError: The program computes with numbers of users.
        """
        self.runs += 1
        self.crowd.at_end = self._note_end
        self._end = b""
        self._is_cut = False
        failure = self.runner.run(scheduler)
        if self.crowd.labels.problem:
            raise MisuseError(self.crowd.labels.problem)
        return failure

    def begin_as_usual(self) -> Failure | None:
        """Make a run in the order of plain asyncio, which says what may be left over."""
        self.runner.usual_left = EVERYTHING
        failure = self.run(Stock())
        self.runner.usual_left = self.runner.left_over()
        return failure

    def advance(self) -> tuple[bool, Failure | None]:
        """Follow another branch.

        Returns:
            False when there is none; and the failure of the run, if any.

        Raises:
            DivergedError: The same choices lead to another state.
        """
        branch = None
        if not self._is_first:
            if not self._waiting:
                return False, None
            branch = self._waiting.pop()
        self._is_first = False
        try:
            failure = self.run(_Follow(self, branch))
        except _MetAgainError:
            return True, None
        if failure is not None and failure.kind == "endless":
            # An unfair order lets a task spin for ever; that is no bug of it.
            self.endless += 1
            return True, None
        self.outcomes.add(failure.kind if failure else None)
        return True, failure

    def meet(self, visit: _Visit, options: list[int], position: int) -> None:
        """Note the state that a run is in, and the options it does not take.

        Raises:
            _MetAgainError: It was met before.
        """
        state = self.prints.take(options)
        digest = None
        fresh = range(len(options))
        if state is not None:
            first = self._visits.get(state.digest)
            if first is not None:
                self._sample(first, visit)
                self._is_cut = True
                raise _MetAgainError
            self._visits[state.digest] = visit
            digest = state.digest if state.is_readable else None
            keys = state.keys
            one_of_each = {key: index for index, key in enumerate(keys)}
            one_of_each[keys[position]] = position
            fresh = one_of_each.values()  # type: ignore[assignment]  # positions too
        for index in fresh:
            if index != position:
                self._waiting.append(_Branch(visit, index, digest))

    def check(self, expected: bytes | None, options: list[int]) -> None:
        """Compare the state at the end of a prefix with the one it was noted for.

        Raises:
            DivergedError: It is another one.
        """
        if expected is None or (self.runs > _FIRST_CHECKS and self.runs % _CHECK_EVERY):
            return
        state = self.prints.take(options)
        self.checked += 1
        if state is None or state.digest != expected:
            raise DivergedError(
                f"The same choices led to another state {self.where()}. Either the "
                "program orders, hashes or measures text made from numbers of users, "
                "or something outside of the scenario decides: make all objects and "
                "classes inside of setup or at the top of modules, or leave "
                "symmetric=True out."
            )

    def where(self) -> str:
        """Say where the run stands."""
        loop = self.loop
        number = max(loop.current, 0)
        task = loop.tasks[number]
        if task.done():
            return f"after the end of {loop.name(number)}"
        frame = own_frame(task.get_coro())
        return f"when {loop.name(number)} stood at {place(frame)} ({source(frame)})"

    def _note_end(self) -> None:
        if self._is_cut:
            # Users that were ready at the cut end while the loop cleans up.
            return
        left = self.prints.in_line()
        if left:
            raise DivergedError(
                f"Users left {' and '.join(left[:2])} behind, whose last steps go in an "
                "order that fingerprints do not have. Await such tasks in the user that "
                "starts them, use fidelity='fifo', or leave symmetric=True out."
            )
        state = self.prints.take([])
        if state is not None and state.is_readable:
            self._end = state.digest
            self.ends.add(state.digest)

    # -- validation --------------------------------------------------------------------

    def _sample(self, first: _Visit, second: _Visit) -> None:
        """Keep some of the merges, each with the same odds (Vitter's reservoir)."""
        self.merged += 1
        if len(self._merges) < _SAMPLED_MERGES:
            self._merges.append((first, second))
            return
        index = self._rng.randrange(self.merged)
        if index < _SAMPLED_MERGES:
            self._merges[index] = (first, second)

    def validate(self) -> bool:
        """Continue a sampled merge from both of its visits in the same way.

        Returns:
            False when all samples were validated.

        Raises:
            DivergedError: The two do not behave alike.
        """
        if not self._merges:
            return False
        first, second = self._merges.pop()
        draws = self._rng.random()
        ways = []
        for visit in (first, second):
            way = _Continue(self, visit, random.Random(draws))
            failure = self.run(way)
            way.digests.append(self._end)
            way.places.append("at the end")
            ways.append((way.digests, way.places, failure.kind if failure else None))
        (digests, places, outcome), (others, other_places, other) = ways
        if digests != others or outcome != other:
            at = next(
                (
                    i
                    for i, pair in enumerate(zip(digests, others, strict=False))
                    if len(set(pair)) > 1
                ),
                min(len(digests), len(others)) - 1,
            )
            raise DivergedError(
                f"Two runs with equal fingerprints went different ways: one ended with "
                f"{outcome or 'no failure'} and was seen {places[at]}, the other with "
                f"{other or 'no failure'}, {other_places[at]}. Something that decides "
                "is not in the state that the scenario made: leave symmetric=True out, "
                "and please report it."
            )
        self.repeated += 1
        return True


class _Follow:
    """Follows a branch, then stays with tasks and meets states."""

    def __init__(self, search: StateSearch, branch: _Branch | None) -> None:
        self._search = search
        self._branch = branch

    def begin(self, loop: ExplorationLoop) -> Choose:
        search, branch = self._search, self._branch
        prefix: list[int] = []
        if branch is not None:
            prefix = [*branch.visit.prefix(), branch.position]
        known = len(prefix)
        choices: list[int] = []

        def choose(options: list[int]) -> int:
            depth = len(choices)
            if depth < known:
                position = prefix[depth]
                if branch is not None and depth == known - 1:
                    search.check(branch.digest, options)
                if position >= len(options):
                    raise DivergedError(
                        f"The same choices left fewer options {search.where()}."
                    )
            else:
                position = stay(loop, options)
                search.meet(_Visit(choices, depth), options, position)
            choices.append(position)
            return position

        return choose


class _Continue:
    """Follows the way to a state, then goes on in a way that is the same for equals."""

    def __init__(self, search: StateSearch, visit: _Visit, rng: random.Random) -> None:
        self._search = search
        self._prefix = visit.prefix()
        self._rng = rng
        self.digests: list[bytes | None] = []
        self.places: list[str] = []

    def begin(self, loop: ExplorationLoop) -> Choose:
        search, prefix, draw = self._search, self._prefix, self._rng.random
        depth = 0

        def choose(options: list[int]) -> int:
            nonlocal depth
            depth += 1
            if depth <= len(prefix):
                return min(prefix[depth - 1], len(options) - 1)
            if depth > len(prefix) + _CONTINUED:
                return stay(loop, options)
            state = search.prints.take(options)
            self.places.append(search.where())
            self.digests.append(state.digest if state else None)
            if state is None:
                return stay(loop, options)
            order = sorted(range(len(options)), key=state.keys.__getitem__)
            return order[int(draw() * len(order))]

        return choose
