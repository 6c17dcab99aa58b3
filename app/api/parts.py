"""The parts the service is made of.

``app.main`` builds them once per process. No part holds another part that could be
replaced on its own: what works together is passed as an argument at the call, so
exchanging one field exchanges it everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from app.agents import EngineRegistry, RunLeases, Tool, Workshop, passage_search
from app.context import AuditTrail, Emitter, Keyspace
from app.control import Controllers
from app.llm import Embedder, ModelGuards, StreamingModel
from app.monitoring import (
    AlertManager,
    HealthChecks,
    Heartbeat,
    IsolationGuard,
    Metrics,
    RequestWatch,
    RunWatch,
    SlaMonitor,
    Tracing,
)
from app.realtime import EventLog, Hub, Sockets
from app.security import AccessTokens, AnchorKey, KeyRing, PasswordHasher, Refusals
from app.settings import Settings
from app.storage import (
    Passages,
    Policies,
    RefreshTokens,
    SessionFactory,
    StoredKeys,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything requests are served with; shared by all users.

    Attributes:
        settings: What the operator chose.
        engine: The pool of database connections.
        redis: The pool of Redis connections.
        sessions: Opens a database session for a user.
        keyspaces: Makes a user's keyspace.
        emitters: Makes a user's event emitter.
        trails: Makes the audit trail of a user and a request.
        events: The event logs.
        hub: Wakes sockets and streams.
        sockets: Counts the open sockets, and lets them in.
        engines: The execution engine of each user.
        leases: Which runs are worked on, by this process or another.
        tools: What agents can do.
        model: What agents think with.
        model_guards: What stands between a run and the model.
        embedder: Makes embeddings of passages and questions.
        passages: Finds passages.
        keys: The signing keys as this process knows them.
        stored_keys: The signing keys of all processes.
        access_tokens: Signs and verifies access tokens.
        refresh_tokens: Rotates refresh tokens.
        policies: What each role may do.
        refusals: Counts what strangers are refused.
        anchor_key: Signs where the chains of the audit log are.
        passwords: Hashes passwords.
        controllers: Drive intents and node sets, in whichever process leads.
        new_id: Makes the ids of new things.
        health: Asks the dependencies.
        heartbeat: Measures whether the event loop goes on.
        metrics: What is counted.
        tracing: Begins traces.
        guard: Compares owners where things of users pass.
        sla: Measures how fast error budgets burn.
        alerts: Tells the operators, once for all workers.
    """

    settings: Settings
    engine: AsyncEngine
    redis: Redis
    sessions: SessionFactory
    keyspaces: Callable[[Redis, str], Keyspace]
    emitters: Callable[[EventLog, str], Emitter]
    trails: Callable[[str, str], AuditTrail]
    events: EventLog
    hub: Hub
    sockets: Sockets
    engines: EngineRegistry
    leases: RunLeases
    tools: tuple[Tool, ...]
    model: StreamingModel
    model_guards: ModelGuards
    embedder: Embedder
    passages: Passages
    keys: KeyRing
    stored_keys: StoredKeys
    access_tokens: AccessTokens
    refresh_tokens: RefreshTokens
    policies: Policies
    refusals: Refusals
    anchor_key: AnchorKey
    passwords: PasswordHasher
    controllers: Controllers
    new_id: Callable[[], UUID]
    health: HealthChecks
    heartbeat: Heartbeat
    metrics: Metrics
    tracing: Tracing
    guard: IsolationGuard
    sla: SlaMonitor
    alerts: AlertManager

    @property
    def workshop(self) -> Workshop:
        """What engines work with."""
        return Workshop(
            self.sessions,
            self.model,
            (*self.tools, passage_search(self.sessions, self.passages, self.embedder)),
            self.settings.run_timeout_s,
            RunWatch(self.metrics, self.guard),
            self.model_guards,
            self.leases,
        )

    @property
    def request_watch(self) -> RequestWatch:
        """What requests are counted and traced with."""
        return RequestWatch(
            self.metrics, self.tracing, self.guard, ended=self.sla.record
        )
