"""The small parts a context needs, in memory; for tests of code above them."""

import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.context import UserExecutionContext
from app.llm import Reservation, TokenBudgets
from app.realtime import Sockets
from app.security import KeyPair, KeyRing, KeySet
from test_framework.explore import external

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class MemoryKeyspace:
    """A keyspace in a dictionary."""

    user_id: str
    values: dict[str, bytes] = field(default_factory=dict)

    async def get(self, name: str) -> bytes | None:
        """Return a value."""
        return self.values.get(name)

    async def set(self, name: str, value: bytes, *, ttl_s: int) -> None:
        """Keep a value; time stands still here."""
        assert ttl_s > 0
        self.values[name] = value

    async def delete(self, *names: str) -> None:
        """Forget values."""
        for name in names:
            self.values.pop(name, None)

    async def incr(self, name: str, *, ttl_s: int) -> int:
        """Count."""
        count = int(self.values.get(name, b"0")) + 1
        await self.set(name, b"%d" % count, ttl_s=ttl_s)
        return count


class Ledger(TokenBudgets):
    """Budgets without end that note what is charged.

    Attributes:
        charged: Reserved and used tokens of each call.
        open: Reservations that nobody has settled (count).
    """

    def __init__(self) -> None:
        """Have charged nothing."""
        self.charged: list[tuple[int, int]] = []
        self.open = 0

    @contextlib.asynccontextmanager
    async def reserved(
        self,
        context: UserExecutionContext,  # noqa: ARG002  # of the protocol
        tokens: int,
    ) -> AsyncIterator[Reservation]:
        """Hold tokens."""
        self.open += 1
        held = Reservation(tokens)
        try:
            yield held
        finally:
            self.open -= 1
            self.charged.append((tokens, held.used))


@dataclass(frozen=True, slots=True)
class MemoryEmitter:
    """An emitter that keeps what it sends."""

    user_id: str
    sent: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)

    async def emit(
        self,
        kind: str,
        *,
        run_id: str,
        thread_id: str,
        data: Mapping[str, object],
        event_id: str | None = None,
    ) -> int:
        """Keep an event."""
        del event_id
        self.sent.append((kind, {"run_id": run_id, "thread_id": thread_id, **data}))
        return len(self.sent)


@dataclass(frozen=True, slots=True)
class MemoryTrail:
    """A trail that keeps what it is told."""

    user_id: str
    session: "AsyncSession | None" = None
    entries: list[tuple[str, str]] = field(default_factory=list)

    def bound_to(self, session: "AsyncSession | None") -> "MemoryTrail":
        """Return the same trail with another session."""
        return MemoryTrail(self.user_id, session, self.entries)

    async def record(self, action: str, subject: str) -> None:
        """Keep an entry."""
        self.entries.append((action, subject))


class NoDatabase:
    """Opens sessions of nothing."""

    @contextlib.asynccontextmanager
    async def for_user(self, user_id: str) -> AsyncIterator[str]:
        """Open one."""
        yield user_id


class OpenLogins:
    """The logins of a service where nobody has left."""

    async def is_live(self, session: object, family_id: str) -> bool:
        """Return that the login goes on, after a round trip."""
        assert session is not None
        assert family_id
        await external("SELECT")
        return True


def many_sockets() -> Sockets:
    """Return the count of a process that takes any number."""
    return Sockets(total=10_000, per_user=10_000, rng=random.Random(1))


def context_of(user_id: str, *, request_id: str = "r-1") -> UserExecutionContext:
    """Return a context whose parts live in memory."""
    return UserExecutionContext(
        user_id=user_id,
        request_id=request_id,
        keyspace=MemoryKeyspace(user_id),
        emitter=MemoryEmitter(user_id),
        audit=MemoryTrail(user_id),
    )


def key_of(name: str) -> KeyPair:
    """Return the key that a name stands for: the same one each time."""
    return KeyPair.from_seed(hashlib.sha256(name.encode()).digest())


def ring_of(signing: str, *others: str) -> KeyRing:
    """Return a ring of keys that stay: the first signs, all verify."""
    return KeyRing(KeySet.of(key_of(signing), (key_of(name).public for name in others)))
