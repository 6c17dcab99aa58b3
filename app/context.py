"""Who a piece of work is done for: the immutable context of one user's request.

A context is built once per request, frozen, and handed on as an argument. It carries
everything that must not be mixed up between users: the ids, the database session, the
Redis keyspace, the event emitter and the audit trail. There is no ambient current
user: no module variable, no ``ContextVar`` (servers let those live on from one request
to the next on a kept connection).
"""

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


class ContextError(RuntimeError):
    """Raised when a context is built or used wrongly: the calling code's fault."""


class ForeignPartError(ContextError):
    """Raised when something of one user is about to become part of another's work."""


class Keyspace(Protocol):
    """The part of Redis that belongs to one user."""

    @property
    def user_id(self) -> str:
        """Whose keys these are."""
        ...

    async def get(self, name: str) -> bytes | None:
        """Return the value of a key, None when there is none."""
        ...

    async def set(self, name: str, value: bytes, *, ttl_s: int) -> None:
        """Keep a value for ``ttl_s`` seconds."""
        ...

    async def delete(self, *names: str) -> None:
        """Forget keys; absent ones are fine."""
        ...

    async def incr(self, name: str, *, ttl_s: int) -> int:
        """Add one to a counter and return it; it lives ``ttl_s`` from now on."""
        ...


class Emitter(Protocol):
    """Sends events to one user."""

    @property
    def user_id(self) -> str:
        """Who receives the events."""
        ...

    async def emit(
        self,
        kind: str,
        *,
        run_id: str,
        thread_id: str,
        data: Mapping[str, object],
        event_id: str | None = None,
    ) -> int:
        """Append an event to the user's log and return its sequence number.

        One of an ``event_id`` that was sent a short while ago is not sent again.
        """
        ...


class AuditTrail(Protocol):
    """Writes down what one user did."""

    @property
    def user_id(self) -> str:
        """Whose actions these are."""
        ...

    def bound_to(self, session: "AsyncSession | None") -> "AuditTrail":
        """Return the same trail writing through another session."""
        ...

    async def record(self, action: str, subject: str) -> None:
        """Write one action within the current transaction."""
        ...


class Trace(Protocol):
    """A span of one user's trace; further work is hung under it."""

    @property
    def user_id(self) -> str | None:
        """Whose work it is."""
        ...

    def child(
        self, name: str, attributes: Mapping[str, str]
    ) -> AbstractContextManager[Self]:
        """Open a span under this one."""
        ...

    def linked(
        self, name: str, attributes: Mapping[str, str]
    ) -> AbstractContextManager[Self]:
        """Open a trace of its own for work that outlives this span."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UserExecutionContext:
    """Everything one piece of a user's work may touch.

    Contexts are compared by identity: two requests of one user are two contexts.

    Attributes:
        user_id: The authenticated user (UUID text).
        request_id: The request that caused this work; not unique, callers choose it.
        keyspace: The user's own part of Redis.
        emitter: Sends events to the user.
        audit: Writes the user's actions, through ``session``.
        session: The database session of this work; None between transactions.
        thread_id: The thread worked on, if any.
        run_id: The agent run this is part of, if any.
        parent: The context this one is a child of; None for a root.
        trace: The span this work is part of; None traces nothing.
    """

    user_id: str
    request_id: str
    keyspace: Keyspace = field(repr=False)
    emitter: Emitter = field(repr=False)
    audit: AuditTrail = field(repr=False)
    session: "AsyncSession | None" = field(default=None, repr=False)
    thread_id: str | None = None
    run_id: str | None = None
    parent: "Self | None" = field(default=None, repr=False)
    trace: Trace | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse a context whose parts belong to different users.

        Raises:
            ContextError: There is no user.
            ForeignPartError: A part belongs to another user.
        """
        if not self.user_id:
            message = "user_id is empty: a context always belongs to a user."
            raise ContextError(message)
        parts: dict[str, str | None] = {
            "keyspace": self.keyspace.user_id,
            "emitter": self.emitter.user_id,
            "audit": self.audit.user_id,
        }
        if self.parent is not None:
            parts["parent"] = self.parent.user_id
        if self.trace is not None:
            parts["trace"] = self.trace.user_id
        for name, owner in parts.items():
            if owner != self.user_id:
                message = (
                    f"The {name} belongs to user {owner!r}, the context to "
                    f"{self.user_id!r}. Build all parts for one user."
                )
                raise ForeignPartError(message)

    @property
    def database(self) -> "AsyncSession":
        """The database session.

        Raises:
            ContextError: The context is between transactions.
        """
        if self.session is None:
            message = (
                "This context has no database session. Open one with "
                "SessionFactory.for_user and work in context.child(session=...)."
            )
            raise ContextError(message)
        return self.session

    def child(
        self,
        *,
        thread_id: str | None = None,
        run_id: str | None = None,
        session: "AsyncSession | None" = None,
    ) -> Self:
        """Return a context for a part of this work, of the same user.

        Args:
            thread_id: The thread of the part; the parent's when None.
            run_id: The run of the part; the parent's when None.
            session: The part's own session; the parent's when None.
        """
        chosen = self.session if session is None else session
        return replace(
            self,
            thread_id=thread_id or self.thread_id,
            run_id=run_id or self.run_id,
            session=chosen,
            audit=self.audit.bound_to(chosen),
            parent=self,
        )

    @contextlib.contextmanager
    def traced(
        self,
        name: str,
        attributes: Mapping[str, str] | None = None,
        *,
        is_linked: bool = False,
    ) -> Iterator[Self]:
        """Yield this context for a block that is a span of its own.

        Args:
            name: What is done, one of few names.
            attributes: What else to write down.
            is_linked: Begin a trace linked to this work, which may end before it.
        """
        if self.trace is None:
            yield self
            return
        opened = self.trace.linked if is_linked else self.trace.child
        with opened(name, attributes or {}) as trace:
            yield replace(self, trace=trace)

    def detached(self) -> Self:
        """Return this context without its session, for work that outlives a request.

        It has no parent either: a parent would keep the request's session alive.
        """
        return replace(self, session=None, audit=self.audit.bound_to(None), parent=None)

    @classmethod
    def from_agent_execution_context(
        cls,
        legacy: object,
        *,
        keyspace: Keyspace,
        emitter: Emitter,
        audit: AuditTrail,
        session: "AsyncSession | None" = None,
    ) -> Self:
        """Build a context from the mutable ``AgentExecutionContext`` of old code.

        Only the ids are taken over. Whatever else the old object carries may be
        shared with another user, so it stays behind.

        Args:
            legacy: A mapping or object with ``user_id`` and optionally ``thread_id``,
                ``run_id`` and ``request_id``.
            keyspace: The user's keyspace.
            emitter: The user's emitter.
            audit: The user's audit trail.
            session: A session opened for the user.

        Raises:
            ContextError: The old object names no user, or a part is another user's.
        """

        def read(name: str) -> str | None:
            if isinstance(legacy, Mapping):
                value = legacy.get(name)
            else:
                value = getattr(legacy, name, None)
            return None if value is None else str(value)

        user_id = read("user_id")
        if not user_id:
            message = (
                f"{type(legacy).__name__} names no user_id: a context cannot be built "
                "from work that belongs to nobody. Pass the authenticated user."
            )
            raise ContextError(message)
        return cls(
            user_id=user_id,
            request_id=read("request_id") or read("run_id") or "migrated",
            keyspace=keyspace,
            emitter=emitter,
            audit=audit.bound_to(session),
            session=session,
            thread_id=read("thread_id"),
            run_id=read("run_id"),
        )
