"""What a run writes down: operations as clients saw them, and what stands beside them.

Every record is a frozen dataclass of JSON-ready values with a ``type`` name, one
line each in a stored history. Bodies, tokens and passwords are never recorded;
canary ids are, and they suffice to repeat every check.

Source: an operation is an invocation and its completion as in Jepsen; a timeout,
cancellation or disconnect is ``info`` (unknown), never ``fail``.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Outcome = Literal["ok", "fail", "info"]
Channel = Literal["http", "websocket", "postgres", "redis", "pubsub", "log"]
Level = Literal["error", "warning", "note"]

VISITOR = -1
"""User number of requests that carry no identity at all."""

UNDER_FAULT = "fault: "
AFTER_FAULT = "after: "
"""Begin the names of the shapes in which a fault lasts, and in which it is over."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A canary that stood in something received.

    Attributes:
        owner: Number of the user who planted it.
        canary: Its id, ``"u31/3"``: user and sequence.
        encoding: How it was written: ``raw``, ``base64``, ``hex``, ``gzip``, ...
        where: ``body``, ``header x-name``, ``cookie name``, ``frame``, ``column x``.
        offset: Bytes from the start of that part.
    """

    owner: int
    canary: str
    encoding: str
    where: str
    offset: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The head of a history: what was run, against what, from which seed."""

    type: ClassVar[str] = "run"
    format: int
    seed: int
    users: int
    target: str
    workload: str
    hosted: bool
    repeat: str
    started_ns: int


@dataclass(frozen=True, slots=True)
class UserRecord:
    """One user: its number, login name, cohort and the values that name it."""

    type: ClassVar[str] = "user"
    user: int
    name: str
    cohort: str
    identities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CanaryRecord:
    """A canary was minted: its id, owner and purpose; public ones may be seen by all."""

    type: ClassVar[str] = "canary"
    canary: str
    owner: int
    purpose: str
    public: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One request, frame or query: invocation and completion.

    Attributes:
        index: Number of the operation in the run; requests carry it on the wire.
        user: Who did it; ``VISITOR`` for a request without identity.
        channel: Over which kind of connection.
        endpoint: Method and path template, ``GET /threads/{id}``.
        path: The path that was asked for, without its query.
        shape: The traffic shape it belongs to.
        invoked_ns: When its last byte left.
        first_byte_ns: When the first byte of the answer came; None if none came.
        completed_ns: When the answer was complete or given up.
        outcome: ``ok``, ``fail`` (refused: did not happen) or ``info`` (unknown).
        status: HTTP status or WebSocket close code.
        error: Why there was no answer, in one word: ``timeout``, ``cancelled``,
            ``refused``, ``disconnected``, ``abandoned`` (its reader wanted no more),
            ``collateral`` (lost with another on the same connection).
        sent_bytes: Bytes written.
        received_bytes: Bytes of the answer.
        planted: Canary ids in the request.
        seen: Canaries in the answer.
        disturbed: We cut this operation ourselves, or lost it with another one that
            we had put on the same connection.
        burst: Name of the burst it was released with.
        cached: Answered by the caching proxy, not by the service.
        created_id: Identifier that the service gave to something new.
        socket: Number of the WebSocket a frame came over.
        sequence: Number that the service gave to an event; of a WebSocket that was
            opened, the one that it resumes after.
        event: Type name of an event.
        once: Group of requests of which at most one may succeed.
        borrowed_from: User who had asked for the same before, when ``user`` asks for it
            with its own credentials to see whether it is refused; None otherwise.
    """

    type: ClassVar[str] = "op"
    index: int
    user: int
    channel: Channel
    endpoint: str
    path: str
    shape: str
    invoked_ns: int
    first_byte_ns: int | None
    completed_ns: int
    outcome: Outcome
    status: int | None = None
    error: str | None = None
    sent_bytes: int = 0
    received_bytes: int = 0
    planted: tuple[str, ...] = ()
    seen: tuple[Seen, ...] = ()
    disturbed: bool = False
    burst: str | None = None
    cached: bool = False
    created_id: str | None = None
    socket: int | None = None
    sequence: int | None = None
    event: str | None = None
    once: str | None = None
    borrowed_from: int | None = None

    @property
    def latency_ns(self) -> int:
        """Nanoseconds from the last byte sent to the end of the answer."""
        return self.completed_ns - self.invoked_ns


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What a workload did to an object of the service, as its user saw it.

    Values are canary ids, numbers, or digests: equal where the values were equal, and
    no text of a user is kept.

    Attributes:
        model: What kind of object it is, such as ``list``.
        key: Which one, such as ``messages of /threads/7``.
        process: Who called; one process does one thing at a time.
        user: Number of the user.
        kind: What was called, such as ``append``.
        invoked_ns: When.
        completed_ns: When it returned; None for an unknown outcome.
        outcome: ``ok``, ``fail`` (refused: did not happen) or ``info`` (unknown).
        argument: What it was given.
        result: What it returned.
    """

    type: ClassVar[str] = "call"
    model: str
    key: str
    process: str
    user: int
    kind: str
    invoked_ns: int
    completed_ns: int | None
    outcome: Outcome
    argument: int | str | None = None
    result: int | str | tuple[int | str, ...] | None = None


@dataclass(frozen=True, slots=True)
class HandlerRecord:
    """A request as the service's own process saw it: when its handler ran.

    Attributes:
        op: Number of the operation.
        kind: ``http`` or ``websocket``.
        started_ns: When it came.
        ended_ns: When its handler ended.
        worker: Number of the process.
        handler: Number, in that process, of what answered; 0 where that is not known.
    """

    type: ClassVar[str] = "handler"
    op: int
    kind: str
    started_ns: int
    ended_ns: int
    worker: int
    handler: int = 0


@dataclass(frozen=True, slots=True)
class RouteRecord:
    """Which lines of the service answer an endpoint, each as ``path:line name``.

    Attributes:
        endpoint: Method and path template, as operations have it.
        handler: The function that answers.
        before: Dependencies that are resolved for it.
        around: Middleware, the outermost first.
    """

    type: ClassVar[str] = "route"
    endpoint: str
    handler: str
    before: tuple[str, ...] = ()
    around: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BurstRecord:
    """Requests that were released together: who, and when the last bytes left."""

    type: ClassVar[str] = "burst"
    name: str
    shape: str
    ops: tuple[int, ...]
    first_release_ns: int
    last_release_ns: int


@dataclass(frozen=True, slots=True)
class Observation:
    """Canaries found where the service keeps or sends things by itself.

    Attributes:
        channel: ``postgres``, ``redis``, ``pubsub`` or ``log``.
        surface: Table, key pattern, channel pattern or log name.
        place: The one row, key, channel or line.
        names: Users whose identity stands in that place.
        seen: Canaries in it.
    """

    type: ClassVar[str] = "observation"
    channel: Channel
    surface: str
    place: str
    names: tuple[int, ...]
    seen: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class ResidueRecord:
    """Something of a user that was still there after everybody had left."""

    type: ClassVar[str] = "residue"
    channel: Channel
    kind: str
    place: str
    count: int
    users: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ComplaintRecord:
    """A workload's own expectation that did not hold, or an error it raised."""

    type: ClassVar[str] = "complaint"
    user: int
    shape: str
    kind: Literal["expectation", "error", "timeout"]
    message: str
    op: int | None


@dataclass(frozen=True, slots=True)
class ShapeRecord:
    """A traffic shape: when it ran, with whom, and what it needs to count.

    Attributes:
        shape: Its name.
        users: Numbers of the users who took part.
        applicable: False when the service has nothing to exercise it with.
        reason: Why it was not applicable; empty otherwise.
        facts: Counts that only the driver knows, such as ``cache_hits``.
    """

    type: ClassVar[str] = "shape"
    shape: str
    users: tuple[int, ...]
    started_ns: int
    ended_ns: int
    applicable: bool = True
    reason: str = ""
    facts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """One disturbance of the service, and how the service came out of it.

    Attributes:
        fault: Its name.
        promise: What must hold while it lasts, as one sentence.
        began_ns: When the traffic around it began.
        ended_ns: When the look at what is left was over.
        struck_ns: When it began to strike; None when it did not.
        healed_ns: When it had been healed.
        recovered_ns: When a probe of every user had succeeded again; None when that
            was not in time.
        reason: Why it could not strike, or was broken off; empty otherwise.
        probes: Users who were probed (count).
        late: Users whose probes did not succeed in time.
        deadlocks: Deadlocks that Postgres counted meanwhile; None when it was not asked.
        memory_before: Resident bytes of each worker process before it struck.
        memory_after: The same, when what was left had been looked at.
    """

    type: ClassVar[str] = "fault"
    fault: str
    promise: str
    began_ns: int
    ended_ns: int
    struck_ns: int | None = None
    healed_ns: int | None = None
    recovered_ns: int | None = None
    reason: str = ""
    probes: int = 0
    late: tuple[int, ...] = ()
    deadlocks: int | None = None
    memory_before: tuple[int, ...] = ()
    memory_after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SurfaceRecord:
    """Something that could have been tested: an endpoint, a table, a channel."""

    type: ClassVar[str] = "surface"
    channel: Channel
    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """What the audit file declares: public endpoints, and latencies per endpoint.

    Attributes:
        public: Endpoints whose answers all users may share.
        p50_gates_s: Largest median, in seconds; ``"*"`` is for all others.
        p95_gates_s: Largest 95th percentile.
        p99_gates_s: Largest 99th percentile.
        floors_s: Least time that the work behind a successful answer takes.
        event_gap: Type name of an event that says that numbers jump; empty for none.
        recovery_gates_s: Longest recovery by fault, in seconds; ``"*"`` is for all others.
        recovery_level: What a longer one is: ``error`` or ``warning``.
    """

    type: ClassVar[str] = "policy"
    public: tuple[str, ...] = ()
    p50_gates_s: dict[str, float] = field(default_factory=dict)
    p95_gates_s: dict[str, float] = field(default_factory=dict)
    p99_gates_s: dict[str, float] = field(default_factory=dict)
    floors_s: dict[str, float] = field(default_factory=dict)
    event_gap: str = ""
    recovery_gates_s: dict[str, float] = field(default_factory=dict)
    recovery_level: Level = "error"


@dataclass(frozen=True, slots=True)
class AlarmRecord:
    """What a detector saw inside of a running process: one per cause.

    Attributes:
        rule: Id of the rule it broke.
        level: ``error`` (it happened), ``warning`` (it could) or ``note``.
        claim: One sentence that says what happened to whom.
        site: The source line that names it, ``path:line``.
        evidence: Sentences and lines of stacks, in order.
        fix: What to change, where that is known better than the rule knows it.
        users: Numbers of the users it happened to.
        operations: The audit's requests it happened in; the audit fills ``users``
            from them.
        count: How many times.
        worker: Number of the process; None in that of the tests.
    """

    type: ClassVar[str] = "alarm"
    rule: str
    level: Level
    claim: str
    site: str
    evidence: tuple[str, ...] = ()
    fix: str = ""
    users: tuple[int, ...] = ()
    operations: tuple[int, ...] = ()
    count: int = 1
    worker: int | None = None


@dataclass(frozen=True, slots=True)
class WatchRecord:
    """What a detector looked at, and what it could not look at.

    Attributes:
        detector: Its name.
        watched: What it looked at: packages, kinds of locks, pools.
        unwatched: One sentence for each thing that it could not look at, and why.
        facts: Counts, such as ``accesses``.
        worker: Number of the process; None in that of the tests.
    """

    type: ClassVar[str] = "watch"
    detector: str
    watched: tuple[str, ...] = ()
    unwatched: tuple[str, ...] = ()
    facts: dict[str, int] = field(default_factory=dict)
    worker: int | None = None


@dataclass(frozen=True, slots=True)
class EndRecord:
    """The foot of a history: when it ended and whether it was whole."""

    type: ClassVar[str] = "end"
    ended_ns: int
    complete: bool
    reason: str = ""
    peak_memory_bytes: int = 0


Record = (
    RunRecord
    | UserRecord
    | CanaryRecord
    | Operation
    | CallRecord
    | HandlerRecord
    | RouteRecord
    | BurstRecord
    | Observation
    | ResidueRecord
    | ComplaintRecord
    | ShapeRecord
    | FaultRecord
    | SurfaceRecord
    | PolicyRecord
    | AlarmRecord
    | WatchRecord
    | EndRecord
)

RECORD_TYPES: dict[str, Any] = {
    cls.type: cls
    for cls in (
        RunRecord,
        UserRecord,
        CanaryRecord,
        Operation,
        CallRecord,
        HandlerRecord,
        RouteRecord,
        BurstRecord,
        Observation,
        ResidueRecord,
        ComplaintRecord,
        ShapeRecord,
        FaultRecord,
        SurfaceRecord,
        PolicyRecord,
        AlarmRecord,
        WatchRecord,
        EndRecord,
    )
}
