"""The search of Wing and Gong, with the memory of Lowe, over the calls of one object.

Calls and returns stand in one doubly linked list by time. A call in front of the first
return may take effect next; a return that is met before its call took effect means
that some earlier choice was wrong. States that were reached before with the same calls
done need not be looked at again.

Four reductions make most searches short; all are sound. A read that is right in the
current state is done at once and for good: it changes nothing, so doing it later gains
nothing. Calls of unknown outcome go last, only if the next call notices that they came,
and of those that are alike the earliest goes first: whatever a later one explains, it
explains as well. A choice is given up when a call can no longer find what it found,
neither in the state that is reached nor in one that a call yet to be done may leave
(``Foreseeing``). And calls that are done are remembered from the first one that is not,
by the order of their returns, so what is remembered does not grow with the history.

The search is a generator, so that those of several objects take turns and one that is
wrong ends them all early; each turn it says how much it remembers.

Sources: Wing and Gong, "Testing and verifying concurrent objects", 1993; Lowe, "Testing
for linearizability", 2017; Horn and Kroening, "Faster linearizability checking via
P-compositionality", 2015; the list is that of anishathalye/porcupine.
"""

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

from test_framework.check.linear.calls import Call
from test_framework.check.linear.models import (
    ANY,
    ILLEGAL,
    Foreseeing,
    Model,
    State,
    foreseeing,
)

UNASKED = object()

TURN = 512
"""Steps between two turns."""

_CONFIGURATION_BYTES = 180
"""Of one in the set: its slot, a tuple of four, two integers; what CPython 3.11 takes is
between two thirds of this and all of it, as the set has just grown or is about to."""

_ANSWER_BYTES = 100
"""Of one answer of the model, without the state itself."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search ended with.

    Attributes:
        is_linearizable: Whether there is an order.
        order: The calls in an order that explains them; of a history that has none,
            the longest beginning of one.
        stuck: The call that had to have happened by then and could not; None if all
            did.
        end: By this instant there is no order any more; None if there is one.
        steps: How many calls and returns were looked at.
    """

    is_linearizable: bool
    order: tuple[Call, ...]
    stuck: Call | None
    end: int | None = None
    steps: int = 0


def search(
    model: Model, calls: Sequence[Call], *, foresees: bool = True
) -> Generator[int, None, Outcome]:
    """Search for an order of the calls of one object.

    Args:
        model: What the object does.
        calls: Its calls, by the time of their invocation.
        foresees: Whether to give up early; the longest order is then shorter.

    Yields:
        How many bytes are remembered, about; once in ``TURN`` steps.

    Returns:
        The outcome.
    """
    count = len(calls)
    head = 2 * count
    ranks, known, unknown = _ranks(calls)
    following, preceding = _linked(calls, known)
    ends = [call.completed or 0 for call in calls]
    twins = _twins(calls)
    is_read = [model.is_read(call) for call in calls]
    is_done = bytearray(count + 1)
    foresight, readers = None, [count]
    seer = foreseeing(model) if foresees else None
    if seer is not None:
        foresight = _Foresight(seer, calls, ranks, is_done)
        readers = foresight.readers
        nowhere = foresight.first_phantom()
        if nowhere is not None:
            return Outcome(
                is_linearizable=False, order=(), stuck=nowhere, end=nowhere.completed
            )
    step = model.step
    # Most configurations share their states; a look is cheaper than a step.
    answers: list[dict[State, object]] = [{} for _ in calls]
    state: State = model.initial
    # Before the last call, if its outcome is unknown.
    unseen: object = UNASKED
    # Known calls that are done: all up to a base, and those above it as bits.
    base, window, lost, reader = 0, 0, 0, 0
    seen: set[tuple[int, int, int, State]] = set()
    # Each choice, with what was before it.
    choices: list[tuple[int, int, State, object, int, int, int, int, int]] = []
    order: list[int] = []
    longest: list[int] = []
    stuck, furthest, blocked, culprit = -1, -1, -1, -1
    steps = asked = 0
    at = following[head]
    while at != head:
        steps += 1
        if not steps % TURN:
            yield _remembered(seen, asked)
        if at < count:
            call, after = at, following[at]
        elif at < head:
            # A return whose call is not done: now those of unknown outcome may help.
            blocked, at = at - count, head + 1
            continue
        elif at - head <= len(unknown) and (
            calls[unknown[at - head - 1]].invoked <= ends[blocked]
        ):
            call, after = unknown[at - head - 1], at + 1
            if is_done[call] or (twins[call] >= 0 and not is_done[twins[call]]):
                at = after
                continue
        else:
            # Nothing helps: the last choice was wrong.
            if len(order) >= len(longest):
                longest, stuck = order.copy(), blocked if culprit < 0 else culprit
            furthest = max(furthest, ranks[blocked])
            if not choices:
                return Outcome(
                    is_linearizable=False,
                    order=_named(longest, calls),
                    stuck=calls[stuck],
                    end=ends[known[furthest]],
                    steps=steps,
                )
            at, blocked, state, unseen, length, base, window, lost, reader = (
                choices.pop()
            )
            # What was read since then is undone with the choice, latest first.
            for undone in reversed(order[length:]):
                is_done[undone] = 0
                if ranks[undone] >= 0:
                    back = undone + count
                    following[preceding[back]] = preceding[following[back]] = back
                    following[preceding[undone]] = preceding[following[undone]] = undone
            del order[length:]
            continue
        reached = answers[call].get(state, UNASKED)
        if reached is UNASKED:
            reached = answers[call][state] = step(state, calls[call])
            asked += 1
        if reached is ILLEGAL:
            at = after
            continue
        rank = ranks[call]
        if rank < 0:
            if reached == state:
                at = after  # without effect, and it need not happen
                continue
            now = (base, window, lost | 1 << ~rank, reached)
        else:
            bits = window | 1 << (rank - base)
            if bits & 1:
                whole = (~bits & (bits + 1)).bit_length() - 1
                now = (base + whole, bits >> whole, lost, reached)
            else:
                now = (base, bits, lost, reached)
        if rank < 0 or not is_read[call]:
            if unseen is not UNASKED:
                # Had the one before not happened, this would have led here as well.
                without = answers[call].get(unseen, UNASKED)
                if without is UNASKED:
                    without = answers[call][unseen] = step(unseen, calls[call])
                    asked += 1
                if without is not ILLEGAL and without == reached:
                    at = after
                    continue
            is_done[call] = 1
            due = reader
            while is_done[readers[due]]:
                due += 1
            lacking = foresight.lost(state, reached, due, now[0]) if foresight else -1
            if lacking >= 0 or now in seen:
                if lacking >= 0:
                    culprit = lacking
                    furthest = max(furthest, ranks[culprit])
                is_done[call] = 0
                at = after
                continue
            seen.add(now)
            choices.append(
                (after, blocked, state, unseen, len(order), base, window, lost, reader)
            )
            reader, unseen = due, state if rank < 0 else UNASKED
            state = reached
        else:
            unseen = UNASKED
        is_done[call], culprit = 1, -1
        base, window, lost, _ = now
        order.append(call)
        if rank >= 0:
            # Take the call and its return out of the list.
            before, behind = preceding[call], following[call]
            following[before], preceding[behind] = behind, before
            back = call + count
            before, behind = preceding[back], following[back]
            following[before], preceding[behind] = behind, before
        at = following[head]
    return Outcome(
        is_linearizable=True, order=_named(order, calls), stuck=None, steps=steps
    )


def _remembered(seen: set[tuple[int, int, int, State]], asked: int) -> int:
    """Estimate the bytes of what is remembered, by what was remembered last."""
    states = [state for _, _, _, state in islice(seen, 8)]
    state_bytes = sum(map(sys.getsizeof, states)) // max(len(states), 1)
    return len(seen) * _CONFIGURATION_BYTES + asked * (_ANSWER_BYTES + state_bytes)


def _linked(calls: Sequence[Call], known: list[int]) -> tuple[list[int], list[int]]:
    """Return next and previous of each place, of calls of known outcome and returns.

    Places below the count are calls, the next as many their returns; the last place is
    the head. At one instant, calls come before returns, since touching is overlapping:
    clocks tick.
    """
    count = len(calls)
    by_time = sorted(
        [(calls[place].invoked, 0, place) for place in known]
        + [(calls[place].completed or 0, 1, place + count) for place in known]
    )
    head = 2 * count
    following, preceding = [0] * (head + 1), [0] * (head + 1)
    before = head
    for place in [*(place for _, _, place in by_time), head]:
        following[before] = place
        preceding[place] = before
        before = place
    return following, preceding


def _ranks(calls: Sequence[Call]) -> tuple[list[int], list[int], list[int]]:
    """Return the place of each call by its return, and the calls in that order.

    Those of unknown outcome have none; they count down from -1, by their invocation.
    """
    known = [place for place, call in enumerate(calls) if call.completed is not None]
    known.sort(key=lambda place: (calls[place].completed or 0, place))
    unknown = [place for place, call in enumerate(calls) if call.completed is None]
    ranks = [0] * len(calls)
    for rank, place in enumerate(known):
        ranks[place] = rank
    for rank, place in enumerate(unknown):
        ranks[place] = ~rank
    return ranks, known, unknown


def _twins(calls: Sequence[Call]) -> list[int]:
    """Return, for each call of unknown outcome, the one before it that is alike."""
    latest: dict[tuple[str, str], int] = {}
    twins = [-1] * len(calls)
    for place, call in enumerate(calls):
        if not call.is_known:
            alike = (call.kind, repr(call.argument))
            twins[place] = latest.get(alike, -1)
            latest[alike] = place
    return twins


class _Foresight:
    """Which call must find what next, and whether it still can.

    Args:
        model: What the object does.
        calls: Its calls, by the time of their invocation.
        ranks: Place of each call by its return.
        is_done: Kept by the search: whether each call is done.
    """

    def __init__(
        self,
        model: Foreseeing,
        calls: Sequence[Call],
        ranks: list[int],
        is_done: bytearray,
    ) -> None:
        self._model, self._calls = model, calls
        self._ranks, self._is_done = ranks, is_done
        readers = [
            place
            for place, call in enumerate(calls)
            if call.is_known and model.wants(call) is not ANY
        ]
        readers.sort(key=ranks.__getitem__)
        self._wanted = [model.wants(calls[place]) for place in readers]
        # Behind the last stands a call that is never done and wants nothing.
        self.readers = [*readers, len(calls)]
        self._leaving: dict[object, list[int]] = {}
        for place, call in enumerate(calls):
            left = model.leaves(call)
            if left is not ANY:
                self._leaving.setdefault(left, []).append(place)
        self._suppliers: dict[object, tuple[list[int], list[int], list[int]]] = {}
        self._finders: dict[object, list[int]] = {}
        for place, wanted in zip(readers, self._wanted, strict=True):
            self._finders.setdefault(wanted, []).append(place)

    def first_phantom(self) -> Call | None:
        """Return the first call that found what no call can have left, if any."""
        initial = self._model.initial
        for reader, wanted in zip(self.readers, self._wanted, strict=False):
            if not self._model.leads(initial, wanted) and not self._is_supplied(
                wanted, reader, 0
            ):
                return self._calls[reader]
        return None

    def lost(self, before: State, reached: State, due: int, base: int) -> int:
        """Return a call that can no longer find what it found; -1 if there is none.

        Two are looked at: the one that must be done first, and the first of those that
        found the state which is left now.

        Args:
            before: The state that is left.
            reached: The state after it.
            due: Number of the first reader that is not done.
            base: All calls of lower rank are done.
        """
        if due < len(self._wanted):
            wanted = self._wanted[due]
            if not self._model.leads(reached, wanted):
                reader = self.readers[due]
                if not self._is_supplied(wanted, reader, base):
                    return reader
        finders = self._finders.get(before)
        if finders and not self._model.leads(reached, before):
            is_done = self._is_done
            first = bisect_left(finders, base, key=self._ranks.__getitem__)
            for at in range(first, len(finders)):
                if not is_done[finders[at]]:
                    reader = finders[at]
                    return -1 if self._is_supplied(before, reader, base) else reader
        return -1

    def _is_supplied(self, wanted: State, reader: int, base: int) -> bool:
        """Whether a call that is not done may still lead to a state in time."""
        known, latest, unknown = self._supply(wanted)
        end = self._calls[reader].completed
        calls, is_done = self._calls, self._is_done
        for place in unknown:
            if end is not None and calls[place].invoked > end:
                break
            if not is_done[place]:
                return True
        for at in range(self._count(known, end) - 1, -1, -1):
            if latest[at] < base:
                break
            if not is_done[known[at]] and known[at] != reader:
                return True
        return False

    def _count(self, known: list[int], end: int | None) -> int:
        """Return how many of these calls were invoked by an instant."""
        calls = self._calls
        return bisect_right(known, end or 0, key=lambda place: calls[place].invoked)

    def _supply(self, wanted: object) -> tuple[list[int], list[int], list[int]]:
        """Return the calls that may leave what leads to a state.

        Returns:
            The known ones by invocation, the highest rank of each and all before it,
            and those of unknown outcome by invocation.
        """
        supply = self._suppliers.get(wanted)
        if supply is None:
            places = sorted(
                place
                for left, places in self._leaving.items()
                if self._model.leads(left, wanted)
                for place in places
            )
            known = [place for place in places if self._ranks[place] >= 0]
            latest = list(accumulate((self._ranks[place] for place in known), max))
            unknown = [place for place in places if self._ranks[place] < 0]
            supply = self._suppliers[wanted] = known, latest, unknown
        return supply


def _named(order: Sequence[int], calls: Sequence[Call]) -> tuple[Call, ...]:
    return tuple(calls[place] for place in order)
