"""Leases of Redis: ``redis.asyncio.lock.Lock`` as a thing that tasks hold.

A lease has a name and not an object, so each request makes a lock of its own for it.
Known are the holders in this process; a lease that another process holds is taken for
one that comes free. One with a timeout comes free by itself, but only then: tasks that
wait for each other until it has run out are told.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from test_framework.detect.locks.ledger import Resource, Unit
from test_framework.detect.locks.patching import Patches
from test_framework.detect.locks.watch import Watch

MODULE = "redis.asyncio.lock"
MAX_LEASES = 1000
"""Names that are remembered; the oldest that nobody holds is dropped for a new one."""


class Leases:
    """Knows the leases of this process."""

    def __init__(self, watch: Watch, patches: Patches) -> None:
        self._watch = watch
        self._patches = patches
        self._known: dict[tuple[object, ...], Resource] = {}
        self.watched: list[str] = []

    def patch(self, module: ModuleType) -> None:
        """Patch the lock of redis-py."""
        self.watched.append("redis Lock")
        ledger = self._watch.ledger

        def make_acquire(original: Any) -> Callable[..., Any]:
            async def acquire(lock: Any, *args: Any, **kwargs: Any) -> Any:
                lease = self._lease(lock)
                with self._watch.asking(lease, is_full=bool(lease.holders)) as got:
                    is_held = await original(lock, *args, **kwargs)
                    if is_held:
                        # Redis knows better: what somebody held has run out.
                        for hold in list(lease.holders):
                            ledger.take(hold)
                        got(lock)
                for hold in lease.holders:
                    if is_held and isinstance(hold, Unit) and lock.timeout:
                        hold.until_s = hold.since_s + lock.timeout
                return is_held

            return acquire

        def make_release(original: Any) -> Callable[[Any], Any]:
            async def release(lock: Any) -> None:
                try:
                    await original(lock)
                finally:
                    self._watch.given_back(self._lease(lock), lock)

            return release

        self._patches.replace(module.Lock, "acquire", make_acquire)
        self._patches.replace(module.Lock, "release", make_release)

    def _lease(self, lock: Any) -> Resource:
        name = lock.name
        if isinstance(name, (bytes, memoryview)):
            name = bytes(name).decode(errors="replace")
        key = (*server_of(lock.redis), name)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MAX_LEASES:
                idle = next(
                    (it for it, one in self._known.items() if not one.holders), None
                )
                self._known.pop(idle or next(iter(self._known)))
            found = self._known[key] = self._watch.enrol_lease(str(name))
        return found


def server_of(client: Any) -> tuple[object, ...]:
    """Return the server and the database that a client talks to."""
    pool = getattr(client, "connection_pool", None)
    server = getattr(pool, "connection_kwargs", {})
    return tuple(server.get(name) for name in ("host", "port", "path", "db"))
