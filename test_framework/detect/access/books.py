"""What the ledger writes into: tasks, objects, places, and what it found."""

import weakref
from collections import deque
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, Final, Literal, NamedTuple

from test_framework.detect.access.methods import Kind
from test_framework.detect.access.patterns import Pattern, Use

Stack = tuple[tuple[CodeType, int], ...]
"""Code and instruction of the service's frames, innermost first."""

Birth = tuple[str, int]
"""File and line at which a lock was made."""

Claim = Literal["default", "class"]
"""A ContextVar's default, or a container in a class that is used as an object's own."""

Wrote = tuple[Kind, int, int, int, Stack]
"""Kind, site, step of the task, instant and stack of a write."""


_AWAITS_KEPT: Final = 64


class User(NamedTuple):
    """Whom a task works for: a request of the audit, or itself.

    Attributes:
        operation: The request; None outside of any.
        task: Name of the task, outside of requests.
        person: Number of the user whose request it is, if that is known.
    """

    operation: int | None
    task: str
    person: int | None = None

    def is_one_with(self, other: "User") -> bool:
        """Whether both are requests of one user."""
        return self.person is not None and self.person == other.person

    def __str__(self) -> str:
        if self.operation is None:
            return f"task {self.task}"
        return f"request {self.operation}"


class TaskState:
    """What one running task did.

    Attributes:
        user: Whom it works for.
        number: Counts tasks.
        step: Counts its awaits that are over.
        entries: Objects that it used.
        uses: Its last use of each place of shared objects, in the order of the first.
        fresh: Objects that are held for it since its last await.
        awaits: Its latest awaits: instant of their end, and site.
        is_due: Whether something was left to the end of its await.
        is_over: Whether it has ended.
        locks: Locks it holds or waits for, by identity, and its step since it did.
        heard: Numbers of tasks that announced something to it, and their steps then.
        mixed: Containers that it added to and another user changed since: its own use,
            the other's, and who that was.
        receivers: What a probe handed to the next one of the same expression.
        loads: Places whose new value is being awaited.
        waits_for: What it awaits, by site.
        reread: Places that it read anew in this step, and what it had seen there before.
        suspects: Reads that may turn out torn: the place read before, both uses, and
            the stack of the second.
    """

    __slots__ = (
        "awaits",
        "entries",
        "fresh",
        "heard",
        "is_due",
        "is_over",
        "loads",
        "locks",
        "mixed",
        "number",
        "receivers",
        "reread",
        "step",
        "suspects",
        "user",
        "uses",
        "waits_for",
    )

    def __init__(self, user: User, number: int) -> None:
        self.user = user
        self.number = number
        self.step = 0
        self.entries: list[Entry] = []
        self.uses: dict[Place, Use] = {}
        self.fresh: list[Entry] = []
        self.awaits: deque[tuple[int, int]] = deque(maxlen=_AWAITS_KEPT)
        self.is_due = False
        self.is_over = False
        self.locks: dict[int, tuple[int, Any]] = {}
        self.heard: dict[int, int] = {}
        self.mixed: dict[Place, tuple[Use, Wrote, User]] = {}
        self.reread: dict[Place, Use] = {}
        self.receivers: dict[int, Any] = {}
        self.loads: dict[int, tuple[Any, Any]] = {}
        self.waits_for: dict[int, list[Any]] = {}
        self.suspects: list[tuple[Place, Use, Use, Stack]] = []


class Place:
    """An attribute, key or variable that several tasks used.

    Attributes:
        entry: Its object.
        key: Which of it.
        version: How often it was written since it is shared.
        users: How many running tasks used it.
        writer: Who wrote last; None when nobody did since it is shared.
        written: The use by which that was done.
        tick: The instant of that.
        stack: How it came there; empty where nobody relied on the place.
        is_relied: Whether anybody ever did more than update it.
    """

    __slots__ = (
        "entry",
        "is_relied",
        "key",
        "stack",
        "tick",
        "users",
        "version",
        "writer",
        "written",
    )

    def __init__(self, entry: "Entry", key: Any) -> None:
        self.entry = entry
        self.key = key
        self.version = 0
        self.users = 0
        self.writer: TaskState | None = None
        self.written: Use = ("write", 0, 0, 0)
        self.tick = 0
        self.stack: Stack = ()
        self.is_relied = False

    @property
    def wrote(self) -> Wrote:
        """Kind, site, step, instant and stack of the last write."""
        kind, _, step, site = self.written
        return kind, site, step, self.tick, self.stack


@dataclass(slots=True)
class Half:
    """What a task has written of several attributes that belong together, or of all.

    Attributes:
        state: The task.
        key: The attribute; None when it let others find the whole object.
        use: The write.
        readers: Who read attributes of the object meanwhile: by task and attribute,
            step and site.
    """

    state: TaskState
    key: Any
    use: Use
    readers: dict[TaskState, dict[Any, tuple[int, int]]] = field(default_factory=dict)


class Entry:
    """One object and its places.

    As long as one task alone used it nothing can be at odds, and a tuple for each key
    is all that is kept: most objects of a request never get further.

    Attributes:
        key: Its identity.
        held: The object, or a reference to it.
        owner: The one task that used it; None when there were several.
        is_keyed: Whether it is a container; known once several tasks used it.
        alone: The last use of each key by that one.
        is_asked: Whether anybody ever asked what all is in it, or emptied it.
        claim: Why its users think that it is their own; None when they need not.
        half: What is written of it so far, of what belongs together.
        grown: Who added to it or took from it before that: task, step, site, instant.
        places: The places, once several tasks used it.
        latest: The task that was the last to join in.
        users: How many running tasks joined in; one may do so several times.
        windows: Pairs of uses across an await, by key and by their sites; empty, and
            not None, when all of them were told.
    """

    __slots__ = (
        "alone",
        "claim",
        "grown",
        "half",
        "held",
        "is_asked",
        "is_keyed",
        "key",
        "latest",
        "owner",
        "places",
        "users",
        "windows",
    )

    def __init__(self, key: int, held: Any, owner: TaskState) -> None:
        self.key = key
        self.held = held
        self.owner: TaskState | None = owner
        self.is_keyed = False
        self.is_asked = False
        self.half: Half | None = None
        self.claim: Claim | None = None
        self.grown: Grown | None = None
        self.alone: dict[Any, Use] = {}
        self.places: dict[Any, Place] | None = None
        self.latest: TaskState | None = owner
        self.users = 1
        self.windows: dict[Any, dict[int, Window]] | None = None

    @property
    def thing(self) -> Any:
        """The object; None when it is gone."""
        return self.held() if isinstance(self.held, Reference) else self.held


Grown = deque[tuple[TaskState, int, int, int]]
"""Task, step, site and instant of what was added to a container."""


class Reference(weakref.ref[Any]):
    """A weak reference that knows the identity of what it referred to."""

    __slots__ = ("key",)

    key: int


@dataclass(slots=True)
class Window:
    """Two uses of one task with an await between, into which a write must not fall.

    Attributes:
        pattern: What it would be.
        first: The use before.
        second: The use after.
        user: Whose they were.
        stack: How the second came there.
        locks: What was held from one to the other.
        born: Where these locks were made.
        awaited: Site of the await.
    """

    pattern: Pattern
    first: Use
    second: Use
    user: User
    stack: Stack
    locks: frozenset[int]
    born: frozenset[Birth]
    awaited: int | None


@dataclass(slots=True)
class Conflict:
    """Three uses that no order of the users explains.

    Attributes:
        pattern: Which triple they are.
        owner: Class of the object, or name of the module.
        holder: What a container is called where it is kept; None when nobody knows.
        key: The attribute, key or variable.
        is_keyed: It is a key of a container, and no name in the source.
        is_instance: It belongs to an object that was made by a call of its class.
        claim: Why its users think that it is their own; None when they need not.
        entry: The object.
        window: The uses before and after, and the await between.
        other: What the other user wrote.
        by: The other user.
        happened: Whether it was seen; else it only could.
        count: How often it happened.
        operations: The audit's requests it happened in.
        trials: How often it was tried to make it happen.
        is_of_one: Whether both are requests of one user.
        visits: How often a task came by that did not stand in it.
        is_kept_apart: Whether each of both held a lock made at the same line, as locks
            by key are that are dropped when they are idle.
    """

    pattern: Pattern
    owner: str
    holder: str | None
    key: Any
    is_keyed: bool
    is_instance: bool
    claim: Claim | None
    entry: Entry
    window: Window
    other: Wrote
    by: User
    happened: bool
    count: int = 0
    operations: set[int] = field(default_factory=set)
    trials: int = 0
    is_of_one: bool = False
    visits: int = 0
    is_kept_apart: bool = False
