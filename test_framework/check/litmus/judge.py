"""Were the outcomes that a memory showed among those that its model allows?

Each execution is judged twice: by the model alone, which says what is forbidden
whatever the timing, and by the model held to the order in which this execution's calls
were made, which also finds what is only too old. How many of the orders in which the
events can come did come is counted, since a test that never met the telling order has
shown nothing.
"""

import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from math import factorial, prod

from test_framework.check.litmus.models import After, MemoryModel, Unit
from test_framework.check.litmus.programs import Litmus, Outcome
from test_framework.check.witness import Anomaly, Checked, Item, Link
from test_framework.core import UsageError, Verdict

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Timing:
    """When one event began and ended, in nanoseconds of one clock."""

    invoked: int
    completed: int


@dataclass(frozen=True, slots=True)
class LitmusRun:
    """One execution of a litmus test on registers that were 0.

    Attributes:
        timings: By worker and event; see ``MemoryModel.events``.
        outcome: What was read, less what the registers were reset to.
        is_driven: Whether each event was made to wait for the one before it, so their
            order was forced and not only observed.
        iteration: Its number, from 0.
    """

    timings: tuple[tuple[Timing, ...], ...]
    outcome: Outcome
    is_driven: bool
    iteration: int = 0


@dataclass(frozen=True, slots=True)
class LitmusTable:
    """One litmus test on one memory: what is allowed, forbidden and was seen.

    Attributes:
        litmus: The test.
        model: What the memory promises.
        allowed: Outcomes that it allows.
        forbidden: All others.
        seen: How often each outcome came, the forbidden as well.
        stale: Executions whose outcome is allowed, though not in the order of the calls.
        orders: How many orders of the events were driven, each at least once.
        free_orders: How many came about by themselves.
        possible_orders: How many there are.
        overlapped: Executions in which calls of two workers overlapped.
        checked: The verdict and its witnesses.
    """

    litmus: Litmus
    model: MemoryModel
    allowed: frozenset[Outcome]
    forbidden: frozenset[Outcome]
    seen: Counter[Outcome]
    stale: int
    orders: int
    free_orders: int
    possible_orders: int
    overlapped: int
    checked: Checked = field(repr=False)

    def lines(self) -> Iterator[str]:
        """Yield the table as a person reads it, one outcome a line."""
        yield f"{self.litmus.name}  {self.litmus}"
        yield f"  {self.litmus.asks}"
        for outcome in sorted({*self.allowed, *self.forbidden, *self.seen}):
            is_allowed = outcome in self.allowed
            if (
                not is_allowed
                and not self.seen[outcome]
                and outcome != self.litmus.telling
            ):
                continue
            mark = "allowed  " if is_allowed else "FORBIDDEN"
            telling = "  <- telling" if outcome == self.litmus.telling else ""
            yield (
                f"  {self.litmus.label(outcome):28} {mark} seen {self.seen[outcome]:>6}"
                f"{telling}"
            )
        yield (
            f"  orders driven {self.orders} of {self.possible_orders}, by themselves "
            f"{self.free_orders}; {self.overlapped} executions overlapped; {self.stale} "
            "outcomes too old"
        )


def check_litmus(
    litmus: Litmus, model: MemoryModel, runs: Sequence[LitmusRun]
) -> LitmusTable:
    """Judge executions of one litmus test.

    Args:
        litmus: What was run.
        model: What the memory promises.
        runs: The executions; of none, the verdict is ``unknown``.

    Raises:
        UsageError: An execution has other events than the model says.
    """
    allowed = model.allowed(litmus)
    anomalies, stale = [], 0
    for run in runs:
        if tuple(map(len, run.timings)) != model.events(litmus):
            message = (
                f"Execution {run.iteration} of {litmus.name} has "
                f"{tuple(map(len, run.timings))} events by worker; under {model.name} "
                f"it has {model.events(litmus)}. Record one timing per event."
            )
            raise UsageError(message)
        if run.outcome not in allowed:
            anomalies.append(_anomaly(litmus, model, run, is_stale=False))
        elif run.outcome not in model.allowed(litmus, _known_order(model, run)):
            stale += 1
            anomalies.append(_anomaly(litmus, model, run, is_stale=True))
    driven = {_order(run) for run in runs if run.is_driven}
    free = {_order(run) for run in runs if not run.is_driven}
    possible = count_interleavings(model.events(litmus))
    overlapped = sum(_is_overlapped(run) for run in runs)
    if not runs:
        verdict, reason = Verdict.UNKNOWN, "it was never run"
    elif anomalies:
        verdict, reason = Verdict.INVALID, ""
    else:
        verdict, reason = Verdict.VALID, ""
    seen = Counter(run.outcome for run in runs)
    return LitmusTable(
        litmus=litmus,
        model=model,
        allowed=allowed,
        forbidden=frozenset(litmus.space()) - allowed,
        seen=seen,
        stale=stale,
        orders=len(driven),
        free_orders=len(free),
        possible_orders=possible,
        overlapped=overlapped,
        checked=Checked(
            f"litmus {litmus.name}",
            model.name,
            verdict,
            reason=reason,
            anomalies=tuple(anomalies[:_SHOWN]),
            facts={
                "executions": len(runs),
                "anomalies": len(anomalies),
                "orders driven": len(driven),
                "orders possible": possible,
                "overlapped": overlapped,
            },
        ),
    )


def count_interleavings(events: Sequence[int]) -> int:
    """Return in how many orders workers with so many events each can go."""
    return factorial(sum(events)) // prod(map(factorial, events))


@lru_cache(maxsize=64)
def interleavings(events: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return every order of the events, each as the workers' numbers one by one.

    As many as ``count_interleavings`` says: 6 for two workers of two events, 180 for
    IRIW, 25,200 for IRIW with commits.
    """
    if not any(events):
        return ((),)
    found = []
    for worker, count in enumerate(events):
        if count:
            fewer = (*events[:worker], count - 1, *events[worker + 1 :])
            found += [(worker, *rest) for rest in interleavings(fewer)]
    return tuple(found)


def _known_order(model: MemoryModel, run: LitmusRun) -> After:
    """Return, for each event, how many of each worker were over when it began."""
    is_known = run.is_driven or model.is_real_time
    ends = [[event.completed for event in events] for events in run.timings]
    return tuple(
        tuple(
            tuple(
                # Strictly before: calls that touch count as overlapping.
                bisect.bisect_left(own, event.invoked) if is_known else 0
                for own in ends
            )
            for event in events
        )
        for events in run.timings
    )


def _order(run: LitmusRun) -> tuple[int, ...]:
    begun = sorted(
        (event.invoked, worker)
        for worker, events in enumerate(run.timings)
        for event in events
    )
    return tuple(worker for _, worker in begun)


def _is_overlapped(run: LitmusRun) -> bool:
    spans = sorted(
        (event.invoked, event.completed) for events in run.timings for event in events
    )
    return any(later[0] < earlier[1] for earlier, later in pairwise(spans))


def _anomaly(
    litmus: Litmus, model: MemoryModel, run: LitmusRun, *, is_stale: bool
) -> Anomaly:
    shown = litmus.label(run.outcome)
    if not is_stale and run.outcome not in set(litmus.space()):
        name = "out-of-thin-air value"
        claim = (
            f"{shown}, less what was reset to: nobody wrote that in iteration "
            f"{run.iteration}"
        )
    elif not is_stale:
        name = "forbidden outcome"
        claim = f"{litmus.name} ended with {shown}, which {model.name} forbids"
    else:
        name = "stale read"
        claim = (
            f"{litmus.name} ended with {shown}, which {model.name} forbids in the order "
            "in which its calls were made"
        )
    items, links = _proof(litmus, model, run)
    return Anomaly(name, claim, items, links)


def _proof(
    litmus: Litmus, model: MemoryModel, run: LitmusRun
) -> tuple[tuple[Item, ...], tuple[Link, ...]]:
    values = iter(run.outcome)
    rows: list[tuple[Timing, int, str, str]] = []
    for worker, program in enumerate(litmus.programs):
        for place, step in enumerate(program):
            event = run.timings[worker][0 if model.unit is Unit.BATCH else place]
            answer = f" -> {next(values)}" if step.is_read else ""
            rows.append((event, worker, f"P{worker}.{place + 1}", f"{step}{answer}"))
        if model.unit is Unit.TRANSACTION:
            rows.append(
                (run.timings[worker][-1], worker, f"P{worker}.commit", "commit")
            )
    rows.sort(key=lambda row: (row[0].invoked, row[1]))
    items = tuple(
        Item(label, f"P{worker}", text, event.invoked, event.completed, index=place)
        for place, (event, worker, label, text) in enumerate(rows)
    )
    links = []
    for place, (earlier, later) in enumerate(pairwise(items)):
        is_before = earlier.end is not None and earlier.end < later.begin
        if is_before and earlier.lane == later.lane:
            kind, because = "session", f"{earlier.lane} did {earlier.label} first"
        elif is_before:
            kind = "realtime"
            because = f"{earlier.label} returned before {later.label} began"
        else:
            kind = "concurrent"
            because = f"{later.label} began before {earlier.label} returned"
        links.append(Link(place, place + 1, kind, because))
    return items, tuple(links)
