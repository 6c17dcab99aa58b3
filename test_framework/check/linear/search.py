"""The search of Wing and Gong, with the memory of Lowe, over the calls of one object.

Calls and returns stand in one doubly linked list by time. A call in front of the first
return may take effect next; a return that is met before its call took effect means
that some earlier choice was wrong. States that were reached before with the same calls
done need not be looked at again.

Two reductions, both sound, make most searches short. A read that is right in the
current state is done at once and for good: it changes nothing, so doing it later gains
nothing. Of calls of unknown outcome that are alike, the earliest goes first: whatever
a later one explains, it explains as well.

The search is a generator, so that those of several objects take turns and one that is
wrong ends them all early; each turn it says how much it remembers.

Sources: Wing and Gong, "Testing and verifying concurrent objects", 1993; Lowe, "Testing
for linearizability", 2017; Horn and Kroening, "Faster linearizability checking via
P-compositionality", 2015; the list is that of anishathalye/porcupine.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from test_framework.check.linear.calls import Call
from test_framework.check.linear.models import ILLEGAL, Model, State

UNASKED = object()

TURN = 512
"""Steps between two turns."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search ended with.

    Attributes:
        is_linearizable: Whether there is an order.
        order: The calls in an order that explains them; of a history that has none,
            the longest beginning of one.
        stuck: The call that had to have happened by then and could not; None if all
            did.
    """

    is_linearizable: bool
    order: tuple[Call, ...]
    stuck: Call | None


def search(model: Model, calls: Sequence[Call]) -> Generator[int, None, Outcome]:
    """Search for an order of the calls of one object.

    Args:
        model: What the object does.
        calls: Its calls, by the time of their invocation.

    Yields:
        How many configurations are remembered, once in ``TURN`` steps.

    Returns:
        The outcome.
    """
    count = len(calls)
    following, preceding, returns = _linked(calls)
    head = 2 * count
    twins = _twins(calls)
    is_read = [model.is_read(call) for call in calls]
    step = model.step
    # Most configurations share their states; a look is cheaper than a step.
    answers: list[dict[State, object]] = [{} for _ in calls]
    state: State = model.initial
    done = 0
    seen: set[tuple[int, State]] = set()
    # Each choice, with the state before it and how many calls had been done then.
    choices: list[tuple[int, State, int]] = []
    order: list[int] = []
    longest: tuple[int, ...] = ()
    stuck = -1
    steps = 0
    at = following[head]
    while at != head:
        steps += 1
        if not steps % TURN:
            yield len(seen)
        if at < count:
            twin = twins[at]
            if twin >= 0 and not done >> twin & 1:
                at = following[at]
                continue
            reached = answers[at].get(state, UNASKED)
            if reached is UNASKED:
                reached = answers[at][state] = step(state, calls[at])
            if reached is ILLEGAL:
                at = following[at]
                continue
            if is_read[at]:
                done |= 1 << at
                order.append(at)
                _lift(at, returns[at], following, preceding)
                at = following[head]
                continue
            configuration = (done | 1 << at, reached)
            if configuration in seen:
                at = following[at]
                continue
            seen.add(configuration)
            choices.append((at, state, len(order)))
            order.append(at)
            done, state = configuration
            _lift(at, returns[at], following, preceding)
            at = following[head]
            continue
        if len(order) >= len(longest):
            longest, stuck = tuple(order), at - count
        if not choices:
            return Outcome(
                is_linearizable=False, order=_named(longest, calls), stuck=calls[stuck]
            )
        at, state, length = choices.pop()
        # What was read since then is undone with the choice, latest first.
        for undone in reversed(order[length:]):
            done &= ~(1 << undone)
            _restore(undone, returns[undone], following, preceding)
        del order[length:]
        at = following[at]
    return Outcome(is_linearizable=True, order=_named(order, calls), stuck=None)


def _linked(calls: Sequence[Call]) -> tuple[list[int], list[int], list[int]]:
    """Return next, previous and the return of each call; the last place is the head.

    Places below the count are calls, the next as many their returns. A call of unknown
    outcome has its return at the end of all; at one instant, calls come before
    returns, since touching is overlapping: clocks tick.
    """
    count = len(calls)
    ends = [call.completed for call in calls]
    by_time = sorted(
        [(call.invoked, 0, place) for place, call in enumerate(calls)]
        + [(end, 1, place + count) for place, end in enumerate(ends) if end is not None]
    )
    places = [place for _, _, place in by_time]
    places += [place + count for place, end in enumerate(ends) if end is None]
    head = 2 * count
    following, preceding = [0] * (head + 1), [0] * (head + 1)
    before = head
    for place in [*places, head]:
        following[before] = place
        preceding[place] = before
        before = place
    return following, preceding, list(range(count, head))


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


def _lift(call: int, back: int, following: list[int], preceding: list[int]) -> None:
    """Take a call and its return out of the list."""
    for place in (call, back):
        before, after = preceding[place], following[place]
        following[before] = after
        preceding[after] = before


def _restore(call: int, back: int, following: list[int], preceding: list[int]) -> None:
    """Put what was lifted last back where it was."""
    for place in (back, call):
        following[preceding[place]] = place
        preceding[following[place]] = place


def _named(order: Sequence[int], calls: Sequence[Call]) -> tuple[Call, ...]:
    return tuple(calls[place] for place in order)
