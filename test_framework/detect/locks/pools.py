"""Connection pools as things that tasks hold: SQLAlchemy's, asyncpg's, redis-py's.

Patched by name when the service has imported them. A pool of n connections is held by
up to n tasks, and stuck only when all of them are. Connections may be given back by
anybody, a garbage collection included, so nobody is a stranger here.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from test_framework.detect.locks.ledger import ATTRIBUTE, Resource
from test_framework.detect.locks.patching import Patches
from test_framework.detect.locks.watch import Watch


class Pools:
    """Knows the pools of each package.

    Attributes:
        watched: Kinds of pools that were patched so far.
    """

    def __init__(self, watch: Watch, patches: Patches) -> None:
        self._watch = watch
        self._patches = patches
        self.watched: list[str] = []

    @property
    def modules(self) -> dict[str, Callable[[ModuleType], None]]:
        """What to call when which module is there."""
        return {
            "sqlalchemy.pool.impl": self._patch_sqlalchemy,
            "asyncpg.pool": self._patch_asyncpg,
            "redis.asyncio.connection": self._patch_redis,
        }

    def _patch_sqlalchemy(self, module: ModuleType) -> None:
        kind = getattr(module, "AsyncAdaptedQueuePool", None)
        if kind is None:
            return
        self.watched.append("sqlalchemy AsyncAdaptedQueuePool")

        def make_get(original: Any) -> Callable[[Any], Any]:
            def _do_get(pool: Any) -> Any:
                limit = pool._max_overflow
                resource = self._resource(
                    pool, pool, None if limit < 0 else pool.size() + limit
                )
                is_full = 0 <= limit <= pool._overflow and pool._pool.empty()
                with self._watch.asking(resource, is_full=is_full) as got:
                    record = original(pool)
                    got(record)
                return record

            return _do_get

        def make_return(original: Any) -> Callable[[Any, Any], None]:
            def _do_return_conn(pool: Any, record: Any) -> None:
                self._given_back(pool, record)
                original(pool, record)

            return _do_return_conn

        self._patches.replace(kind, "_do_get", make_get)
        self._patches.replace(kind, "_do_return_conn", make_return)

    def _patch_asyncpg(self, module: ModuleType) -> None:
        self.watched.append("asyncpg Pool")

        def make_acquire(original: Any) -> Callable[[Any, Any], Any]:
            async def _acquire(pool: Any, timeout: Any) -> Any:  # noqa: ASYNC109  # its signature
                queue = pool._queue
                if queue is None:  # not initialised: it says so itself
                    return await original(pool, timeout)
                resource = self._resource(pool, queue, pool.get_max_size())
                with self._watch.asking(resource, is_full=queue.empty()) as got:
                    connection = await original(pool, timeout)
                    got(connection._holder)
                return connection

            return _acquire

        def make_release(original: Any) -> Callable[[Any], None]:
            def _release(holder: Any) -> None:
                self._given_back(holder._pool._queue, holder)
                original(holder)

            return _release

        self._patches.replace(module.Pool, "_acquire", make_acquire)
        self._patches.replace(module.PoolConnectionHolder, "_release", make_release)

    def _patch_redis(self, module: ModuleType) -> None:
        self.watched.append("redis BlockingConnectionPool")

        def make_get(original: Any) -> Callable[..., Any]:
            async def get_connection(pool: Any, *args: Any, **kwargs: Any) -> Any:
                resource = self._resource(pool, pool, pool.max_connections)
                is_full = not pool.can_get_connection()
                with self._watch.asking(resource, is_full=is_full) as got:
                    connection = await original(pool, *args, **kwargs)
                    got(connection)
                return connection

            return get_connection

        def make_release(original: Any) -> Callable[[Any, Any], Any]:
            async def release(pool: Any, connection: Any) -> None:
                self._given_back(pool, connection)
                await original(pool, connection)

            return release

        kind = module.BlockingConnectionPool
        self._patches.replace(kind, "get_connection", make_get)
        self._patches.replace(kind, "release", make_release)

    def _resource(self, pool: Any, keeper: Any, capacity: int | None) -> Resource:
        """Return the record of a pool, which ``keeper`` keeps."""
        found: Resource | None = getattr(keeper, ATTRIBUTE, None)
        if found is None or found.ledger is not self._watch.ledger:
            found = self._watch.enrol_pool(type(pool).__name__, capacity)
            setattr(keeper, ATTRIBUTE, found)
        return found

    def _given_back(self, keeper: Any, connection: Any) -> None:
        resource: Resource | None = getattr(keeper, ATTRIBUTE, None)
        if resource is not None:
            self._watch.given_back(resource, connection)
