"""Prove what holds for any order of many identical users, by their states.

Fifty users have more orders than there are atoms, and a few thousand states when it does
not matter who is who. Whether it matters is the question, so before anything is said

* numbers of users are names that cannot be computed with (:mod:`.labels`), and a run of
  each order of two users, and of three when they are few, must be the same with numbers;
* all orders of those few users, run to their end, must lead to the same states and
  outcomes as the search that merges states;
* a sample of merged states is continued from both of its visits, and must go alike.

Sources: Ip and Dill, "Better verification through symmetry", FMSD 1996; Holzmann, "State
compression in SPIN", 1997, for fingerprints instead of states.
"""

from typing import Any

from test_framework.core import UsageError, stream
from test_framework.explore.decisions import Choose
from test_framework.explore.execution import Runner
from test_framework.explore.failures import Failure
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.refusals import SettledError
from test_framework.explore.report import Conclusion, runs_in_words
from test_framework.explore.scenario import Scenario, main_of
from test_framework.explore.schedule import Fidelity
from test_framework.explore.schedulers import Reverse, Stay, Stock
from test_framework.explore.search import FoundError, Options, Search
from test_framework.explore.symmetry.fingerprint import UnreadableError
from test_framework.explore.symmetry.graph import reads_stacks
from test_framework.explore.symmetry.states import DivergedError, StateSearch
from test_framework.explore.systematic import Systematic

_SAMPLES = 32
_MOST_ORDERS = 400


def require_symmetry(scenario: object, options: Options) -> Scenario[Any]:
    """Return the scenario if its users can be taken as identical.

    Raises:
        UsageError: It cannot, or is asked for faults.
    """
    if not isinstance(scenario, Scenario):
        named = getattr(scenario, "__qualname__", repr(scenario))
        raise UsageError(
            f"symmetric=True needs users that are known to do the same, and {named} "
            "starts its users itself. Pass Scenario(setup, user, check, users=...)."
        )
    if options.cancel or options.errors:
        raise UsageError(
            "symmetric=True was given with cancel or errors: a fault strikes one user, "
            "who is no longer like the others. Explore faults with fewer users and "
            "without symmetric=True."
        )
    if options.track:
        raise UsageError(
            "symmetric=True was given with track=True: the one merges states, the other "
            "orders. Take one of them."
        )
    if options.io != "sim":
        raise UsageError(
            f"symmetric=True was given with io={options.io!r}: a fingerprint cannot see "
            "what a server holds. Use io='sim'."
        )
    if options.fidelity is Fidelity.ANY:
        raise UsageError(
            "symmetric=True was given with fidelity='any', where the order of callbacks "
            "is state as well. Use fidelity='await' or 'fifo'."
        )
    return scenario


class SymmetricSearch(Search):
    """An exploration that merges states which differ in who is who.

    Args:
        scenario: Its users are identical.
        users: How many.
        options: What was asked for.
    """

    def __init__(self, scenario: Scenario[Any], users: int, options: Options) -> None:
        super().__init__(main_of(scenario, users), options)
        self._scenario = scenario
        self._users = users
        self._validated = ""

    @property
    def distinct(self) -> int:
        """Different orders and states met so far."""
        return super().distinct + self._met

    _met = 0

    def search(self) -> tuple[Conclusion, str]:
        """Search as any exploration first, then by states.

        Raises:
            FoundError: Something was found.
            SettledError: The users are not identical, or the scenario cannot be explored.
        """
        if not reads_stacks():
            raise SettledError(
                Conclusion.INCONCLUSIVE,
                "This Python does not show the stacks of suspended coroutines, so their "
                "states cannot be compared: leave symmetric=True out, or use CPython "
                "3.11.",
            )
        self._make_reference()
        if self.loop.services:
            raise SettledError(
                Conclusion.INCONCLUSIVE,
                "Asgi users are never identical, for each has an address and canaries of "
                "its own: leave symmetric=True out.",
            )
        if self.loop.choices:
            for scheduler in (Reverse(), Stay()):
                if not self.is_over():
                    self.run(scheduler)
            self._take(self._draw(), _SAMPLES)
        try:
            self._cross_check()
            return self._search_states()
        except (DivergedError, UnreadableError) as exc:
            raise SettledError(Conclusion.INCONCLUSIVE, str(exc)) from None

    # -- are they identical? -------------------------------------------------------------

    def _cross_check(self) -> None:
        orders, checked = 0, []
        for count in (2, 3):
            if count > self._users or self.is_over():
                break
            made, is_complete = self._compare_with_enumeration(count)
            if is_complete or count == 2:
                orders += made
                checked.append(str(count) if is_complete else f"{count} (in part)")
            if not is_complete:
                break
        if checked:
            self._validated = f"as by enumeration for {' and '.join(checked)} users ({orders:,} orders)"

    def _compare_with_enumeration(self, count: int) -> tuple[int, bool]:
        """Run all orders of a few users in three ways; tell how many, and if all."""
        plain = Runner(main_of(self._scenario, count), ExplorationLoop(self._fidelity))
        named = self._states_of(count)
        merged = self._states_of(count)
        merged.share_prints_of(named)
        named.begin_as_usual()
        plain.usual_left = named.runner.usual_left
        with_numbers, with_names = Systematic(), Systematic()
        seen: set[bytes] = set()
        outcomes: set[str | None] = set()
        watched = _Watched(with_names, named, seen)
        orders = 0
        while not self.is_over():
            if not (with_numbers.advance() and with_names.advance()):
                break
            if orders == _MOST_ORDERS:
                break
            orders += 1
            expected = plain.run(with_numbers)
            failure = named.run(watched)
            _require_alike(plain, expected, named.runner, failure)
            outcomes.add(failure.kind if failure else None)
        else:
            return orders, False
        is_complete = orders < _MOST_ORDERS
        while merged.advance()[0]:
            if self.is_over():
                return orders, False
        seen |= named.ends
        met = merged.states | merged.ends
        is_lost = not (seen <= met and outcomes <= merged.outcomes)
        is_new = is_complete and not met <= seen
        # What is opaque is another state each time.
        if (is_lost or is_new) and not named.prints.opaque:
            raise DivergedError(
                f"With {count} users the search by states met {len(met):,} "
                f"states and the outcomes {_words(merged.outcomes)}; all orders one by "
                f"one lead to {len(seen):,} states and {_words(outcomes)}. Something "
                "that decides is not in the state that the scenario made: leave "
                "symmetric=True out, and please report it."
            )
        return orders, is_complete

    def _states_of(self, count: int) -> StateSearch:
        return StateSearch(
            self._scenario,
            count,
            self._fidelity,
            self.loop.max_steps,
            stream(self.seed, f"labels-{count}"),
        )

    @property
    def _fidelity(self) -> Fidelity:
        return self._options.fidelity

    # -- the states of all ---------------------------------------------------------------

    def _search_states(self) -> tuple[Conclusion, str]:
        states = self._states_of(self._users)
        plain = Runner(self.main, ExplorationLoop(self._fidelity))
        plain.usual_left = self.runner.usual_left
        expected = plain.run(Stock())
        _require_alike(plain, expected, states.runner, states.begin_as_usual())
        is_exhausted = False
        while not self.is_over() and not is_exhausted:
            is_more, failure = states.advance()
            is_exhausted = not is_more
            self._count(states)
            if failure is not None:
                raise FoundError(failure, states.runner.schedule())
        runs = states.runs
        while not self.is_over() and states.validate():
            self._count(states)
        self._note_opaque(states)
        if is_exhausted and not states.endless:
            return Conclusion.PROVEN, self._proven(states, runs)
        if not states.states:
            return Conclusion.INCONCLUSIVE, (
                f"No state was reached in {runs_in_words(runs)}: every run was cut off at "
                f"{self.loop.max_steps:,} steps. Some task spins while others wait; let "
                "it wait for an event instead."
            )
        return Conclusion.SAMPLED, (
            f"{len(states.states):,} states of {self._users} identical users in "
            f"{runs_in_words(runs)}, {states.waiting:,} branches not followed: nothing wrong was "
            "seen, which is no proof."
        )

    def _count(self, states: StateSearch) -> None:
        self.runs += 1
        self.jobs += states.loop.jobs
        is_new = len(states.states) > self._met
        self._met = len(states.states)
        self.endless = states.endless
        self.go_on(is_new=is_new)

    def _proven(self, states: StateSearch, runs: int) -> str:
        parts = [
            f"{states.checked:,} states met again with other labels",
            f"{states.repeated} of {states.merged:,} merges continued both ways",
        ]
        if self._validated:
            parts.insert(0, self._validated)
        return (
            f"Nothing goes wrong in any state of {self._users} identical users ({len(states.states):,} "
            f"states, {runs_in_words(runs)}) at fidelity {self._fidelity}; fingerprints: "
            f"{', '.join(parts)}.{self.tally.only_forwards}"
        )

    def _note_opaque(self, states: StateSearch) -> None:
        opaque = states.prints.opaque
        if opaque:
            what = ", ".join(sorted(opaque, key=lambda name: -opaque[name])[:3])
            self.notes.append(
                f"States with what cannot be looked into were taken as new each time: "
                f"{what}. A dict instead of a set, a list instead of an iterator of a "
                "dict, and asyncio's primitives can be looked into."
            )


class _Watched:
    """A systematic scheduler that notes the states it comes through."""

    def __init__(
        self, scheduler: Systematic, search: StateSearch, seen: set[bytes]
    ) -> None:
        self._scheduler = scheduler
        self._search = search
        self._seen = seen

    def begin(self, loop: ExplorationLoop) -> Choose:
        choose = self._scheduler.begin(loop)

        def watch(options: list[int]) -> int:
            state = self._search.prints.take(options)
            if state is not None:
                self._seen.add(state.digest)
            return choose(options)

        return watch


def _require_alike(
    plain: Runner, expected: Failure | None, named: Runner, failure: Failure | None
) -> None:
    """Compare a run with numbers with the same run with names.

    Raises:
        DivergedError: They differ.
    """
    same_end = (expected and expected.identity) == (failure and failure.identity)
    if plain.loop.order == named.loop.order and same_end:
        return
    raise DivergedError(
        "One order of users ends otherwise when their numbers are only names: with "
        f"numbers {_end(expected)}; with names {_end(failure)}. The program uses the "
        "numbers, or text made from them, for more than keys and comparison: leave "
        "symmetric=True out."
    )


def _end(failure: Failure | None) -> str:
    if failure is None:
        return "nothing goes wrong"
    at = f" at {failure.where}" if failure.where else ""
    return f"{failure.kind}: {failure.message}{at}"


def _words(outcomes: set[str | None]) -> str:
    return ", ".join(sorted(outcome or "no failure" for outcome in outcomes)) or "none"
