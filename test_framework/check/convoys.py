"""Requests of a burst that were answered strictly one after another.

When a lock is held across an await, a pool has one place or a call blocks the loop,
the requests that stand behind it leave one at a time: the gaps between their answers
are the time that one of them needs, and nearly equal. Requests that overlap leave
gaps like those between independent instants, which scatter by their own size.

The evenness of gaps is their quartile coefficient of dispersion, (Q3 - Q1) / (Q3 +
Q1): 0 for equal gaps and 0.66 for those of independent instants. At most 0.3 counts
as even, among 16 answers or more: by simulation, one overlapping burst in a hundred
passes for a convoy, and 97 in 100 real ones whose service time varies by 30 % are
seen. Gaps under 5 ms are left alone, since that is what a processor takes for one
request of a plain Python service, and processors work one after another too.

Source: Blasgen et al., "The convoy phenomenon", 1979; Pyke, "Spacings", 1965.
"""

import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from test_framework.check.timing import is_measured
from test_framework.core import (
    NS_PER_MS,
    AlarmRecord,
    BurstRecord,
    HandlerRecord,
    History,
    Operation,
)

CONVOY = "one-after-another"

_FEWEST = 16
_EVEN = 0.3
_LEAST_GAP_MS = 5.0


@dataclass(frozen=True, slots=True)
class Convoy:
    """Answers of one burst that came one after another.

    Attributes:
        endpoint: Method and path template.
        burst: Name of the burst.
        worker: The process that they all went to; None for all together.
        users: Who waited, in the order they were answered.
        gap_ms: Median time between two answers, in milliseconds.
        first_ms: Latency of the first answer.
        last_ms: Latency of the last one.
    """

    endpoint: str
    burst: str
    worker: int | None
    users: tuple[int, ...]
    gap_ms: float
    first_ms: float
    last_ms: float


def find_convoys(history: History) -> Iterator[AlarmRecord]:
    """Yield each endpoint whose bursts were mostly answered one after another."""
    bursts: dict[str, int] = defaultdict(int)
    convoys: dict[str, list[Convoy]] = defaultdict(list)
    for endpoint, burst, groups in _bursts(history):
        bursts[endpoint] += 1
        found = (
            _convoy(endpoint, burst, worker, operations)
            for worker, operations in groups.items()
        )
        convoy = next((one for one in found if one is not None), None)
        if convoy is not None:
            convoys[endpoint].append(convoy)
    for endpoint, several in convoys.items():
        if 2 * len(several) > bursts[endpoint]:
            yield _told(several, of=bursts[endpoint])


def _bursts(
    history: History,
) -> Iterator[tuple[str, str, dict[int | None, list[Operation]]]]:
    """Yield endpoint, name and members of each burst, whole and by process."""
    operations = {op.index: op for op in history.of(Operation)}
    workers = {record.op: record.worker for record in history.of(HandlerRecord)}
    for burst in history.of(BurstRecord):
        by_endpoint: dict[str, list[Operation]] = defaultdict(list)
        for index in burst.ops:
            operation = operations.get(index)
            if operation is not None and is_measured(operation):
                by_endpoint[operation.endpoint].append(operation)
        for endpoint, members in by_endpoint.items():
            groups: dict[int | None, list[Operation]] = {None: members}
            for operation in members:
                if operation.index in workers:
                    groups.setdefault(workers[operation.index], []).append(operation)
            yield endpoint, burst.name, groups


def _convoy(
    endpoint: str, burst: str, worker: int | None, operations: Iterable[Operation]
) -> Convoy | None:
    ordered = sorted(operations, key=lambda op: op.completed_ns)
    # One user's own requests may well be meant to wait for each other.
    if len({op.user for op in ordered}) < _FEWEST:
        return None
    if max(op.invoked_ns for op in ordered) > ordered[1].completed_ns:
        # They did not wait at one time: their answers show when they came.
        return None
    gaps = [
        (b.completed_ns - a.completed_ns) / NS_PER_MS
        for a, b in itertools.pairwise(ordered)
    ]
    gap_ms = statistics.median(gaps)
    if gap_ms < _LEAST_GAP_MS or _dispersion(gaps) > _EVEN:
        return None
    first_ns, last_ns = ordered[0].latency_ns, ordered[-1].latency_ns
    if 2 * first_ns > last_ns:
        # Most of the time was spent together, whatever came at its end.
        return None
    return Convoy(
        endpoint,
        burst,
        worker,
        tuple(op.user for op in ordered),
        gap_ms,
        first_ns / NS_PER_MS,
        last_ns / NS_PER_MS,
    )


def _dispersion(gaps: Sequence[float]) -> float:
    lower, _, upper = statistics.quantiles(gaps, n=4, method="inclusive")
    return (upper - lower) / (upper + lower)


def _told(convoys: Sequence[Convoy], *, of: int) -> AlarmRecord:
    worst = max(convoys, key=lambda convoy: convoy.gap_ms)
    where = "" if worst.worker is None else f" by process {worst.worker}"
    return AlarmRecord(
        rule=CONVOY,
        level="warning",
        claim=f"{len(worst.users)} requests for {worst.endpoint} that came together "
        f"were answered one after another, every {worst.gap_ms:.0f} ms",
        site=worst.endpoint,
        evidence=(
            (
                f"Let    {len(worst.users)} users ask for {worst.endpoint} at one time "
                f"(burst {worst.burst}){where}."
            ),
            (
                f"Then   the first answer took {worst.first_ms:.0f} ms, each further one "
                f"{worst.gap_ms:.0f} ms more, the last {worst.last_ms:.0f} ms: more users "
                "get no more answers per second."
            ),
            f"Also   {len(convoys)} of {of} bursts of this endpoint went so.",
        ),
        users=worst.users,
        count=len(convoys),
    )
