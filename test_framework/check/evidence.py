"""What did the run really exercise? Silence is not a pass.

A verdict is worth what stands here: how many requests were in flight at one time,
which pairs of users met, what each user saw of its *own* on each channel in each
traffic shape (the positive control), and what was never tried. Where the service's
own processes were watched, overlap is what they saw; otherwise what clients saw.
Whether the users of a shape met is always the clients' to say.

Gaps void the verdict: a run with one gap is ``unknown``, however clean it looks.
Pairs in flight are tracked with one bit per user, so the cost is linear in
operations.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from test_framework.check.faults.coverage import fault_gaps, not_exercised_faults
from test_framework.check.faults.windows import is_under_fault
from test_framework.check.names import user_name
from test_framework.core import (
    NS_PER_MS,
    NS_PER_S,
    VISITOR,
    BurstRecord,
    CanaryRecord,
    ComplaintRecord,
    EndRecord,
    HandlerRecord,
    History,
    Observation,
    Operation,
    ShapeRecord,
    SurfaceRecord,
    UserRecord,
    WatchRecord,
)

LOGIN = "login"
_MET_SHARE = 0.5
_SAW_SHARE = 0.5
_REACHED_SHARE = 0.9
_SUCCESS_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class BurstEvidence:
    """One burst as it really happened.

    Attributes:
        name: Its name.
        size: Requests released together.
        in_flight: Most of them in flight at one time.
        spread_ms: First to last handler start; first to last release when the
            service's processes were not watched.
    """

    name: str
    size: int
    in_flight: int
    spread_ms: float


@dataclass(frozen=True, slots=True)
class ShapeEvidence:
    """One traffic shape: whether it counts.

    Attributes:
        shape: Its name.
        seconds: How long it took.
        users: Who took part (count).
        requests: Requests of those users.
        saw_own: Users who read back in it what they had written.
        met: Users whose requests were in flight together with another user's, as the
            clients saw it.
        exercised: Whether it counts as tested.
        reason: Why not; empty when it does.
        facts: Counts that only the driver knows.
    """

    shape: str
    seconds: float
    users: int
    requests: int
    saw_own: int
    met: int
    exercised: bool
    reason: str
    facts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Cell:
    """One endpoint on one channel.

    Attributes:
        channel: http, websocket, postgres, redis, pubsub or log.
        name: Endpoint, table, key pattern or log.
        operations: How often it was used; for stored things, places with canaries.
        users: Users who used it or whose canaries stood in it.
        saw_own: Users who saw an own canary there.
        tested: Whether at least two users saw own canaries there.
        note: Why not, when it was not.
    """

    channel: str
    name: str
    operations: int
    users: int
    saw_own: int
    tested: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run exercised; field names as in ``audit.json``."""

    users: int
    requests: int
    websockets: int
    events: int
    seconds: float
    in_flight_peak: int
    overlap_source: str
    user_pairs_overlapped: int
    user_pairs: int
    success_share: float
    bursts: tuple[BurstEvidence, ...]
    shapes: tuple[ShapeEvidence, ...]
    matrix: tuple[Cell, ...]
    not_exercised: tuple[str, ...]
    gaps: tuple[str, ...]
    peak_memory_mb: float


@dataclass(frozen=True, slots=True)
class _Interval:
    start_ns: int
    end_ns: int
    user: int


class _Overlap:
    """Who was in flight with whom."""

    def __init__(self, intervals: Iterable[_Interval]) -> None:
        edges: list[tuple[int, int, int]] = []
        for interval in intervals:
            edges.append((interval.start_ns, 1, interval.user))
            edges.append((max(interval.end_ns, interval.start_ns), 0, interval.user))
        # An end before a start at one instant: touching is not overlapping.
        edges.sort()
        self.peak = 0
        self._met: dict[int, int] = defaultdict(int)
        open_by: dict[int, int] = defaultdict(int)
        active = in_flight = 0
        for _, is_start, user in edges:
            bit = 1 << user
            if is_start:
                in_flight += 1
                self.peak = max(self.peak, in_flight)
                open_by[user] += 1
                active |= bit
                self._met[user] |= active & ~bit
            elif open_by[user] > 0:
                in_flight -= 1
                open_by[user] -= 1
                if open_by[user] == 0:
                    active &= ~bit

    def pairs(self, among: set[int]) -> int:
        """Return how many unordered pairs of the users were in flight together."""
        return sum(
            bool(self._met.get(a, 0) >> b & 1 or self._met.get(b, 0) >> a & 1)
            for a, b in itertools.combinations(sorted(among), 2)
        )

    def met(self) -> set[int]:
        """Return the users who overlapped with at least one other."""
        users: set[int] = set()
        for user, mask in self._met.items():
            if mask:
                users.add(user)
            rest = mask
            while rest:
                low = rest & -rest
                users.add(low.bit_length() - 1)
                rest ^= low
        return users


def weigh(history: History) -> Evidence:
    """Return what the run of a history exercised and what voids its verdict."""
    operations = history.of(Operation)
    http = [op for op in operations if op.channel == "http" and op.user != VISITOR]
    handlers = {record.op: record for record in history.of(HandlerRecord)}
    hosted = history.run.hosted
    # A socket is a meeting too, for as long as the service's process saw it open.
    sockets = [
        op for op in operations if op.channel == "websocket" and op.index in handlers
    ]
    intervals = {
        op.index: _interval(op, handlers.get(op.index)) for op in [*http, *sockets]
    }
    overlap = _Overlap(intervals.values())
    users = [record for record in history.of(UserRecord) if record.cohort == "regular"]
    # Whether users met is the clients' to say: a handler that never awaits is never
    # seen beside another by its own process, however many requests wait for it.
    meetings = {op.index: _interval(op, None) for op in http} | {
        op.index: intervals[op.index] for op in sockets
    }
    shapes = tuple(
        _shape(history, record, [*http, *sockets], meetings)
        for record in history.of(ShapeRecord)
    )
    matrix = tuple(_matrix(history))
    answered = [op for op in http if not op.disturbed]
    good = sum(op.outcome != "info" for op in answered)
    end = history.of(EndRecord)[-1] if history.of(EndRecord) else None
    count = len(users)
    return Evidence(
        users=count,
        requests=sum(op.channel == "http" for op in operations),
        websockets=sum(
            op.endpoint.startswith("CONNECT ") and op.outcome == "ok"
            for op in operations
        ),
        events=sum(op.endpoint.startswith("EVENT ") for op in operations),
        seconds=round(_seconds(history, end), 3),
        in_flight_peak=_Overlap(intervals[op.index] for op in http).peak,
        overlap_source="service processes" if hosted and handlers else "clients",
        user_pairs_overlapped=overlap.pairs({record.user for record in users}),
        user_pairs=count * (count - 1) // 2,
        success_share=good / len(answered) if answered else 0.0,
        bursts=tuple(_bursts(history, intervals)),
        shapes=shapes,
        matrix=matrix,
        not_exercised=(
            *_not_exercised(shapes, matrix),
            *not_exercised_faults(history),
            *_not_watched(history),
        ),
        gaps=tuple(_gaps(history, http, handlers, shapes, end)),
        peak_memory_mb=round(end.peak_memory_bytes / 2**20, 1) if end else 0.0,
    )


def _seconds(history: History, end: EndRecord | None) -> float:
    started_ns = history.run.started_ns
    last_ns = max((op.completed_ns for op in history.of(Operation)), default=started_ns)
    return ((end.ended_ns if end else last_ns) - started_ns) / NS_PER_S


def _got_own(operation: Operation) -> bool:
    """Tell whether a user got back what it had planted before, not a mere echo."""
    return any(
        seen.owner == operation.user and seen.canary not in operation.planted
        for seen in operation.seen
    )


def _interval(operation: Operation, handler: HandlerRecord | None) -> _Interval:
    if handler is not None:
        return _Interval(handler.started_ns, handler.ended_ns, operation.user)
    return _Interval(operation.invoked_ns, operation.completed_ns, operation.user)


def _shape(
    history: History,
    record: ShapeRecord,
    meetings: list[Operation],
    intervals: dict[int, _Interval],
) -> ShapeEvidence:
    members = set(record.users)
    mine = [op for op in meetings if op.shape == record.shape and op.user in members]
    saw_own = {op.user for op in mine if _got_own(op)}
    saw_own |= {
        op.user
        for op in history.of(Operation)
        if op.channel == "websocket" and op.shape == record.shape and _got_own(op)
    }
    met = _Overlap(intervals[op.index] for op in mine).met()
    reason = record.reason
    if not reason and len(saw_own) < _SAW_SHARE * len(members):
        reason = f"only {len(saw_own)} of {len(members)} users read back what they had written"
    if not reason and len(met) < _MET_SHARE * len(members):
        reason = (
            f"only {len(met)} of {len(members)} users had a request in flight "
            "together with another user's; a workload that waits for others meets them"
        )
    return ShapeEvidence(
        shape=record.shape,
        seconds=round((record.ended_ns - record.started_ns) / NS_PER_S, 3),
        users=len(members),
        requests=sum(op.channel == "http" for op in mine),
        saw_own=len(saw_own),
        met=len(met),
        exercised=not reason,
        reason=reason,
        facts=record.facts,
    )


def _bursts(
    history: History, intervals: dict[int, _Interval]
) -> Iterable[BurstEvidence]:
    watched = bool(history.of(HandlerRecord))
    for burst in history.of(BurstRecord):
        members = [intervals[op] for op in burst.ops if op in intervals]
        if not members:
            continue
        starts = [member.start_ns for member in members]
        spread_ns = (
            max(starts) - min(starts)
            if watched
            else burst.last_release_ns - burst.first_release_ns
        )
        yield BurstEvidence(
            name=burst.name,
            size=len(burst.ops),
            in_flight=_Overlap(members).peak,
            spread_ms=round(spread_ns / NS_PER_MS, 3),
        )


def _matrix(history: History) -> Iterable[Cell]:
    used: dict[tuple[str, str], list[Operation]] = defaultdict(list)
    for operation in history.of(Operation):
        if operation.user != VISITOR:
            used[operation.channel, operation.endpoint].append(operation)
    stored: dict[tuple[str, str], list[Observation]] = defaultdict(list)
    for observation in history.of(Observation):
        stored[observation.channel, observation.surface].append(observation)
    declared: dict[tuple[str, str], str] = {
        (s.channel, s.name): s.note for s in history.of(SurfaceRecord) if s.name != "*"
    }
    keys = [*used, *stored, *(key for key in declared)]
    for channel, name in sorted(dict.fromkeys(keys)):
        operations = used.get((channel, name), [])
        places = stored.get((channel, name), [])
        if channel == "websocket" and not name.startswith("EVENT "):
            continue  # only what comes in can be another's
        if channel == "http" and (channel, name) not in declared:
            used_in = {op.shape for op in used.get((channel, name), [])}
            if used_in == {"error-paths"}:
                continue  # a path that we made up to be refused
        users = {op.user for op in operations}
        users |= {seen.owner for place in places for seen in place.seen}
        own = {
            op.user
            for op in operations
            if any(seen.owner == op.user for seen in op.seen)
        }
        own |= {
            seen.owner
            for place in places
            for seen in place.seen
            if not place.names or seen.owner in place.names
        }
        tested = len(own) > 1
        yield Cell(
            channel=channel,
            name=name,
            operations=len(operations) + len(places),
            users=len(users),
            saw_own=len(own),
            tested=tested,
            note=""
            if tested
            else _why(
                channel, operations, places, own, declared.get((channel, name), "")
            ),
        )


def _why(
    channel: str,
    operations: list[Operation],
    places: list[Observation],
    own: set[int],
    note: str,
) -> str:
    if note:
        return note
    if not operations and not places:
        return "never used" if channel in {"http", "websocket"} else "held no canary"
    if not own:
        return "no user saw an own canary there"
    return "only one user saw an own canary there"


def _not_exercised(
    shapes: Iterable[ShapeEvidence], matrix: Iterable[Cell]
) -> Iterable[str]:
    for shape in shapes:
        if not shape.exercised:
            yield f"shape {shape.shape}: {shape.reason}"
    for cell in matrix:
        if not cell.tested:
            yield f"{cell.channel} {cell.name}: {cell.note}"


def _not_watched(history: History) -> Iterable[str]:
    """Yield what detectors could not look at; processes say the same, once."""
    lines = (
        f"{watch.detector}: {sentence}"
        for watch in history.of(WatchRecord)
        for sentence in watch.unwatched
    )
    return dict.fromkeys(lines)


def _gaps(
    history: History,
    http: list[Operation],
    handlers: dict[int, HandlerRecord],
    shapes: tuple[ShapeEvidence, ...],
    end: EndRecord | None,
) -> Iterable[str]:
    users = [record for record in history.of(UserRecord) if record.cohort == "regular"]
    if end is None:
        yield "the history has no end: the run was killed"
    elif not end.complete:
        yield f"the run did not come to its end: {end.reason}"
    yield from _complaint_gaps(history, users)
    if len(users) < 2:  # contamination takes two
        yield f"{len(users)} user(s) took part; it takes two to see another's data"
    if not history.of(CanaryRecord):
        yield "the workload planted no canary: call user.canary() in what it writes"
    elif not any(op.planted for op in history.of(Operation)):
        yield (
            "no canary left for the service: requests must go through user.http and "
            "carry user.canary() values"
        )
    counted = [shape for shape in shapes if shape.exercised]
    if not counted and users:
        yield "no traffic shape was exercised"
    for shape in shapes:
        record_applicable = any(
            record.applicable
            for record in history.of(ShapeRecord)
            if record.shape == shape.shape
        )
        if not shape.exercised and record_applicable:
            yield f"shape {shape.shape} does not count: {shape.reason}"
    if history.run.hosted:
        sent = [op for op in http if op.outcome != "info" and not op.cached]
        reached = sum(op.index in handlers for op in sent)
        if sent and reached < _REACHED_SHARE * len(sent):
            yield (
                f"only {reached} of {len(sent)} answered requests were seen by the "
                "service's own processes"
            )
    yield from _channel_gaps(history, users)
    yield from fault_gaps(history)


def _channel_gaps(history: History, users: list[UserRecord]) -> Iterable[str]:
    """Yield each channel in use on which some user never saw an own canary."""
    saw: dict[str, set[int]] = defaultdict(set)
    in_use: set[str] = set()
    for operation in history.of(Operation):
        if operation.user == VISITOR:
            continue
        in_use.add(operation.channel)
        if _got_own(operation):
            saw[operation.channel].add(operation.user)
    if users and not in_use:
        yield "no request was recorded: the workload must use user.http or user.ws"
    for channel in sorted(in_use & {"http", "websocket"}):
        missing = [user.user for user in users if user.user not in saw[channel]]
        if missing:
            yield (
                f"{len(missing)} of {len(users)} users never saw an own canary over "
                f"{channel} ({user_name(missing[0])} for one)"
            )
    observed = {observation.channel for observation in history.of(Observation)}
    for surface in history.of(SurfaceRecord):
        # The name "*" says that the channel was swept at all.
        if surface.name == "*" and surface.channel not in observed:
            yield (
                f"the sweep of {surface.channel} found no canary: is it the "
                "service's own server? If it uses none, leave it out of --services"
            )


def _complaint_gaps(history: History, users: list[UserRecord]) -> Iterable[str]:
    regular = {user.user for user in users}
    errors = [
        record
        for record in history.of(ComplaintRecord)
        if record.kind == "error"
        and record.user in regular
        and not is_under_fault(record.shape)
    ]
    hit = {record.user for record in errors}
    if errors and len(hit) > (1 - _SUCCESS_SHARE) * len(regular):
        yield (
            f"the workload itself failed for {len(hit)} of {len(regular)} users: "
            f"{errors[0].message}"
        )
