"""Servers that are ended at once and started again, where this run started them."""

import asyncio
from typing import TYPE_CHECKING, ClassVar

from test_framework.core import TargetError, UsageError

if TYPE_CHECKING:
    from test_framework.faults.field import Field
    from test_framework.services import Services

NOT_OURS = (
    "{name} was not started by this run, and servers of others are left alone; leave "
    "{variable} unset to have one started."
)
"""Why nothing is done to a server that is given."""


class _Restart:
    """The restart of one server, which goes on when its strike is cancelled."""

    def __init__(self, name: str, *, keep: bool = True) -> None:
        self._name = name
        self._keep = keep
        self._work: asyncio.Future[None] | None = None
        self._services: Services | None = None

    def lacks(self, services: "Services | None") -> str | None:
        """Return why the server cannot be restarted."""
        if services is None or self._name not in services.pids:
            variable = {"postgres": "DATABASE_URL", "redis": "REDIS_URL"}[self._name]
            return NOT_OURS.format(name=self._name, variable=variable)
        return None

    async def strike(self, services: "Services | None") -> None:
        """Restart it."""
        self._services = required(services)
        self._work = asyncio.ensure_future(self._restart(self._services))
        await asyncio.shield(self._work)

    async def heal(self) -> None:
        """Wait until it is back; try once more where it did not come."""
        if self._work is None or self._services is None:
            return
        try:
            await asyncio.shield(self._work)
        except TargetError:
            await self._restart(self._services)
        self._work = None

    async def _restart(self, services: "Services") -> None:
        await asyncio.to_thread(services.restart, self._name, keep=self._keep)


class RestartPostgres:
    """Postgres is ended at once, as by a crash, and started again.

    It refuses everybody until it has recovered from its log.
    """

    name: ClassVar[str] = "restart-postgres"
    promise: ClassVar[str] = (
        "What was acknowledged is there, what was under way is not done by half, and "
        "the service answers again without a restart of its own."
    )

    def __init__(self) -> None:
        self._restart = _Restart("postgres")

    def lacks(self, field: "Field") -> str | None:
        """Return why it cannot strike: it is somebody else's server."""
        return self._restart.lacks(field.services)

    async def strike(self, field: "Field") -> None:
        """Restart it; return when it takes sessions again."""
        await self._restart.strike(field.services)

    async def heal(self, field: "Field") -> None:  # noqa: ARG002  # of Fault
        """Wait until it is back."""
        await self._restart.heal()


class RestartRedis:
    """Redis is ended and started again with what it held.

    It refuses everybody meanwhile, and its subscriptions end.
    """

    name: ClassVar[str] = "restart-redis"
    promise: ClassVar[str] = (
        "Nothing that is kept in Redis is lost, subscriptions come back, and every "
        "event arrives once and in order."
    )

    def __init__(self) -> None:
        self._restart = _Restart("redis")

    def lacks(self, field: "Field") -> str | None:
        """Return why it cannot strike: it is somebody else's server."""
        return self._restart.lacks(field.services)

    async def strike(self, field: "Field") -> None:
        """Restart it; return when it answers again."""
        await self._restart.strike(field.services)

    async def heal(self, field: "Field") -> None:  # noqa: ARG002  # of Fault
        """Wait until it is back."""
        await self._restart.heal()


class LoseRedis(RestartRedis):
    """Redis is ended and comes back empty, as one that keeps nothing on disk."""

    name: ClassVar[str] = "lose-redis"
    promise: ClassVar[str] = (
        "What must last does not depend on Redis, nobody is served what is another's, "
        "and subscriptions come back."
    )

    def __init__(self) -> None:
        self._restart = _Restart("redis", keep=False)


def required(services: "Services | None") -> "Services":
    """Return the services of a field that was asked what it lacks."""
    if services is None:
        message = "There are no services on this field. Ask the fault what it lacks."
        raise UsageError(message)
    return services
