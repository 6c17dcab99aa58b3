"""The composition root: settings become parts, parts become an application.

The only place that builds things. ``create_app`` connects to nothing; the lifespan
does, and takes everything down again in the opposite order.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from uuid import uuid4

from fastapi import FastAPI
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from app.agents import (
    RENEW_S,
    STANDARD_TOOLS,
    SWEEP_S,
    EngineRegistry,
    RunLeases,
    create_engine,
    sweep_orphans,
)
from app.api import Parts, add_api, build_context
from app.cache import Lease, UserKeyspace, connect
from app.context import UserExecutionContext
from app.control import (
    Controllers,
    Election,
    PhrasePlanner,
    PostgresElection,
    RedisElection,
)
from app.llm import (
    MAX_REPLY_TOKENS,
    BatchedEmbedder,
    CircuitBreaker,
    Credentials,
    Embedder,
    FileKey,
    HashingEmbedder,
    HttpPool,
    LocalModel,
    ModelGuards,
    OpenAICompatibleEmbedder,
    OpenAICompatibleModel,
    PooledKeys,
    Provider,
    ProviderTokens,
    ResponseCache,
    Retry,
    StaticKey,
    StreamingModel,
    TokenBudgets,
    UserLimits,
    token_fetcher,
)
from app.monitoring import (
    CHECK_TIMEOUT_S,
    NO_ROUTE,
    AlertManager,
    AlertSink,
    Draining,
    HealthChecks,
    Heartbeat,
    IsolationGuard,
    LogSink,
    Metrics,
    Objective,
    SlaMonitor,
    Tracing,
    Webhook,
    configure_logging,
    otlp_processor,
)
from app.realtime import EventLog, Hub, Sockets, UserEmitter
from app.security import (
    AccessTokens,
    AnchorKey,
    KeySealer,
    PasswordHasher,
    Refusals,
    Secrets,
)
from app.settings import Settings
from app.storage import (
    KeySchedule,
    Periodic,
    Policies,
    PostgresAlerts,
    RefreshTokens,
    SessionFactory,
    StoredKeys,
    UserAuditTrail,
    anchor_heads,
    check_role,
    open_engine,
    open_passages,
    write_refusals,
)
from app.storage.migrate import migrate

__all__ = ["Parts", "create_app"]

SECRETS_S = 1.0
"""How often secrets in files are read."""

REFUSALS_S = 1.0
"""How often refusals are written; so many seconds of them a killed worker loses."""

_SPARE = 8
"""Connections for tokens and embeddings, beside those of the users' slots."""
CONTROLLERS = "controllers"
"""What is led; the name of the election in Postgres and in Redis."""

_BREAKER_STATES = ("closed", "half-open", "open")

Replace = Callable[[Parts], Parts]
# What lasts as long as its reader wants is promised no duration; what is asked by
# machines, or finds no route, is promised nothing.
_PROMISES: dict[str, Objective | None] = {
    "/runs/{run_id}/events": Objective(within_s=None),
    "/documents/{document_id}/content": Objective(within_s=None),
    "/health/live": None,
    "/health/ready": None,
    "/metrics": None,
    NO_ROUTE: None,
}


def create_app(
    settings: Settings | None = None, *, replace: Replace | None = None
) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        settings: What the operator chose; None reads the environment.
        replace: Exchanges parts before anything runs, with ``dataclasses.replace``.

    Raises:
        SettingsError: The environment lacks a setting or holds a wrong one.
    """
    chosen = settings or Settings.from_environment()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        configure_logging(chosen.log_level)
        secrets = await asyncio.to_thread(Secrets.of, chosen)
        await migrate(chosen.owner_database_url, password=secrets.owner(chosen))
        async with _running(chosen, secrets, replace) as parts:
            app.state.parts = parts
            yield

    app = FastAPI(
        title="isolation-audit reference service",
        lifespan=lifespan,
        # A redirect would repeat the path, and costs a client a round trip.
        redirect_slashes=False,
    )
    add_api(app, max_body_bytes=chosen.max_body_bytes)
    return app


@contextlib.asynccontextmanager
async def _running(
    settings: Settings, secrets: Secrets, replace: Replace | None
) -> AsyncIterator[Parts]:
    async with contextlib.AsyncExitStack() as stack:
        metrics = await asyncio.to_thread(Metrics.open, settings.metrics_dir)
        stack.push_async_callback(asyncio.to_thread, metrics.close)
        built = await _build(settings, secrets, stack, metrics)
        parts = replace(built) if replace else built
        await check_role(parts.engine)
        stack.push_async_callback(asyncio.to_thread, parts.tracing.close)
        stack.push_async_callback(parts.model.aclose)
        stack.push_async_callback(parts.model_guards.aclose)
        stack.push_async_callback(parts.hub.close)
        await parts.hub.start(parts.engines.cancel_run)
        for chore in (
            Periodic("secrets", secrets.reload, every_s=SECRETS_S),
            *_chores(parts),
        ):
            stack.push_async_callback(chore.close)
            chore.start()
        # Last in, first out: runs are ended while everything they need still works.
        stack.push_async_callback(parts.engines.close)
        await parts.engines.start()
        stack.push_async_callback(parts.controllers.close)
        await parts.controllers.start(
            lambda user_id, request_id: build_context(
                parts, user_id=user_id, request_id=request_id
            )
        )
        stack.push_async_callback(parts.health.close)
        stack.push_async_callback(parts.alerts.close)
        metrics.sample("parts", lambda: _sample(parts))
        await parts.alerts.start()
        stack.callback(parts.heartbeat.close)
        parts.heartbeat.start()
        # First of all: no load balancer sends anything here while we stop.
        stack.callback(parts.health.drain)
        draining = Draining(parts.health.drain, delay_s=settings.drain_s)
        stack.callback(draining.close)
        draining.start()
        yield parts


def _sample(parts: Parts) -> None:
    metrics = parts.metrics
    if isinstance(parts.engine.pool, QueuePool):
        metrics.pools.set(parts.engine.pool.checkedout(), "database")
    queue = parts.controllers.metrics
    # Only whoever leads has a queue; who did so before holds nothing.
    metrics.queues.set(queue.depth if queue else 0, "controllers")
    if parts.model_guards.breaker is not None:
        state = _BREAKER_STATES.index(parts.model_guards.breaker.state)
        metrics.breakers.set(state, "model")
    if parts.model_guards.limits is not None:
        metrics.pools.set(sum(parts.model_guards.limits.held.values()), "model")


def _chores(parts: Parts) -> tuple[Periodic, ...]:
    return (
        Periodic(
            "refusals",
            lambda: write_refusals(parts.sessions, parts.refusals),
            every_s=REFUSALS_S,
        ),
        Periodic(
            "anchors",
            lambda: anchor_heads(parts.sessions, parts.anchor_key),
            every_s=parts.settings.audit_anchor_s,
        ),
        Periodic(
            "keys",
            lambda: _keep_keys(parts),
            every_s=parts.settings.signing_key_poll_s,
        ),
        Periodic("leases", parts.leases.renew, every_s=RENEW_S),
        Periodic("orphans", lambda: _sweep(parts), every_s=SWEEP_S),
    )


async def _keep_keys(parts: Parts) -> None:
    await parts.stored_keys.rotate()
    await parts.keys.refresh()


async def _sweep(parts: Parts) -> int:
    def make_context(user_id: str) -> UserExecutionContext:
        return build_context(parts, user_id=user_id, request_id="sweep")

    return await sweep_orphans(parts.leases, parts.sessions, make_context)


async def _build(
    settings: Settings,
    secrets: Secrets,
    stack: contextlib.AsyncExitStack,
    metrics: Metrics,
) -> Parts:
    engine = open_engine(
        settings.service_database_url,
        pool_size=settings.database_pool_size,
        pool_timeout_s=settings.database_pool_timeout_s,
        password=secrets.database,
    )
    stack.push_async_callback(engine.dispose)
    redis_url = settings.redis_url.get_secret_value()
    redis = connect(
        redis_url, connections=settings.redis_connections, password=secrets.redis
    )
    stack.push_async_callback(redis.aclose)
    subscriber = connect(
        redis_url, connections=1, timeout_s=None, password=secrets.redis
    )
    stack.push_async_callback(subscriber.aclose)

    provider = _provider(settings, secrets, stack)
    guard = IsolationGuard(metrics)
    sla = SlaMonitor(exceptions=_PROMISES)
    heartbeat = Heartbeat(metrics)
    # Connections that no request can take: a pool that users exhausted is no outage,
    # must not hang the answer to a load balancer, and is to be told.
    reserved = open_engine(
        settings.service_database_url,
        pool_size=2,
        pool_timeout_s=CHECK_TIMEOUT_S,
        password=secrets.database,
    )
    stack.push_async_callback(reserved.dispose)
    health = _health(settings, secrets, stack, reserved)

    sessions = SessionFactory(engine, guard)
    # A worker that waits too long for its keys signs nothing.
    stored_keys = StoredKeys(
        SessionFactory(reserved, guard),
        KeySealer(settings.keys),
        KeySchedule.of(settings),
    )
    keys = await stored_keys.open_ring(time.monotonic)
    stack.push_async_callback(keys.aclose)

    async def look_first() -> None:
        metrics.take_samples()
        await health.report()

    return Parts(
        settings=settings,
        engine=engine,
        redis=redis,
        sessions=sessions,
        keyspaces=UserKeyspace,
        emitters=UserEmitter,
        trails=UserAuditTrail,
        events=EventLog(redis, guard=guard),
        hub=Hub(subscriber),
        sockets=Sockets(
            total=settings.sockets,
            per_user=settings.sockets_per_user,
            rng=random.Random(),
        ),
        engines=EngineRegistry(create_engine),
        leases=RunLeases(redis),
        tools=STANDARD_TOOLS,
        model=_model(settings, provider),
        model_guards=_model_guards(settings, redis),
        embedder=_embedder(settings, provider, stack),
        passages=await open_passages(engine),
        keys=keys,
        stored_keys=stored_keys,
        access_tokens=AccessTokens(keys, lifetime_s=settings.access_token_s),
        refresh_tokens=RefreshTokens(lifetime_s=settings.refresh_token_s),
        policies=Policies(),
        refusals=Refusals(),
        anchor_key=AnchorKey(settings.audit_secret),
        passwords=PasswordHasher(
            memory_kib=settings.password_memory_kib, passes=settings.password_passes
        ),
        controllers=_controllers(settings, secrets, stack, redis, guard),
        new_id=uuid4,
        health=health,
        heartbeat=heartbeat,
        metrics=metrics,
        tracing=_tracing(settings),
        guard=guard,
        sla=sla,
        alerts=AlertManager(
            PostgresAlerts(reserved),
            _sink(settings, stack),
            sources=(guard.signals, health.signals, heartbeat.signals, sla.signals),
            now=lambda: datetime.now(UTC),
            prepare=look_first,
        ),
    )


def _controllers(
    settings: Settings,
    secrets: Secrets,
    stack: contextlib.AsyncExitStack,
    redis: Redis,
    guard: IsolationGuard,
) -> Controllers:
    def pool(size: int) -> AsyncEngine:
        # Connections of their own: whatever is reconciled, requests find theirs free.
        engine = open_engine(
            settings.service_database_url,
            pool_size=size,
            pool_timeout_s=settings.database_pool_timeout_s,
            password=secrets.database,
        )
        stack.push_async_callback(engine.dispose)
        return engine

    # A leader keeps one as long as it leads.
    polls = pool(1)
    lease_s = settings.leader_lease_s
    election: Election | None = None
    if settings.leader_election == "postgres":
        election = PostgresElection(polls, CONTROLLERS, lease_s)
    elif settings.leader_election == "redis":
        election = RedisElection(polls, Lease(redis, CONTROLLERS, lease_s))
    return Controllers(
        election,
        # One beside those of the workers, to list what is to be done.
        sessions=SessionFactory(pool(settings.control_workers + 1), guard),
        planner=PhrasePlanner(),
        workers=settings.control_workers,
    )


def _health(
    settings: Settings,
    secrets: Secrets,
    stack: contextlib.AsyncExitStack,
    engine: AsyncEngine,
) -> HealthChecks:
    redis = connect(
        settings.redis_url.get_secret_value(), connections=1, password=secrets.redis
    )
    stack.push_async_callback(redis.aclose)

    async def ask_database() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def ask_redis() -> None:
        await redis.ping()

    return HealthChecks({"postgres": ask_database, "redis": ask_redis})


def _sink(settings: Settings, stack: contextlib.AsyncExitStack) -> AlertSink:
    if settings.alert_webhook_url is None:
        return LogSink()
    webhook = Webhook(settings.alert_webhook_url.get_secret_value())
    stack.push_async_callback(webhook.aclose)
    return webhook


def _tracing(settings: Settings) -> Tracing:
    if settings.traces_url is None:
        return Tracing()
    return Tracing(otlp_processor(settings.traces_url), ratio=settings.traces_ratio)


def _provider(
    settings: Settings, secrets: Secrets, stack: contextlib.AsyncExitStack
) -> Provider | None:
    if settings.model_url is None:
        return None
    pool = HttpPool(connections=settings.model_connections + _SPARE)
    stack.push_async_callback(pool.aclose)
    return Provider(
        settings.model_url, pool, _credentials(settings, secrets, pool, stack)
    )


def _model(settings: Settings, provider: Provider | None) -> StreamingModel:
    if provider is None:
        return LocalModel()
    return OpenAICompatibleModel(
        provider, model=settings.model_name, max_reply_tokens=MAX_REPLY_TOKENS
    )


def _embedder(
    settings: Settings, provider: Provider | None, stack: contextlib.AsyncExitStack
) -> Embedder:
    if provider is None or settings.embedding_model is None:
        return HashingEmbedder()
    embedder = BatchedEmbedder(
        OpenAICompatibleEmbedder(provider, model=settings.embedding_model),
        breaker=CircuitBreaker(),
    )
    stack.push_async_callback(embedder.aclose)
    return embedder


def _credentials(
    settings: Settings,
    secrets: Secrets,
    pool: HttpPool,
    stack: contextlib.AsyncExitStack,
) -> Credentials:
    if keys := settings.pooled_model_keys:
        return PooledKeys(keys, requests=settings.model_requests_per_key)
    if secrets.model is not None:
        return FileKey(secrets.model)
    key = settings.model_key.get_secret_value() if settings.model_key else None
    if settings.model_token_url is None or key is None:
        return StaticKey(key)
    tokens = ProviderTokens(token_fetcher(pool, settings.model_token_url, key=key))
    stack.push_async_callback(tokens.aclose)
    return tokens


def _model_guards(settings: Settings, redis: Redis) -> ModelGuards:
    # The local model answers sooner than a cache does.
    cache = ResponseCache(model=settings.model_name, ttl_s=settings.model_cache_s)
    return ModelGuards(
        cache=cache if settings.model_url else None,
        budgets=TokenBudgets(
            redis,
            user_tokens=settings.user_token_budget,
            run_tokens=settings.run_token_budget,
            reserved_s=round(settings.run_timeout_s) + 60,
        ),
        retry=Retry(rng=random.Random()),
        limits=UserLimits(
            total=settings.model_connections,
            per_user=settings.model_connections_per_user,
        ),
        breaker=CircuitBreaker(),
        max_reply_tokens=MAX_REPLY_TOKENS,
    )
