"""C03: middleware hides what the handler sets.

alice                           bob
await service.serve(NAMES[user])
await self.call(user)
await asyncio.create_task(self.handle(user))
_tenant.set(f"tenant of {user}")
await external("SELECT")
self.log.append((user, _tenant.get()))
                                await service.serve(NAMES[user])
                                await self.call(user)
                                await asyncio.create_task(self.handle(user))
                                _tenant.set(f"tenant of {user}")
                                await external("SELECT")
                                self.log.append((user, _tenant.get()))
-> the log of alice is kept for everybody
"""

import asyncio
from contextvars import ContextVar

from test_framework.catalogue.pattern import ANY_ORDER, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external

_tenant: ContextVar[str] = ContextVar("tenant", default="everybody")


class _Service:
    """The handler finds out the tenant; the middleware around it writes the log."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []

    async def handle(self, user: str) -> None:
        _tenant.set(f"tenant of {user}")
        await external("SELECT")

    async def call(self, user: str) -> None:
        # As BaseHTTPMiddleware did it: the app runs in a task, so in a copied context.
        await asyncio.create_task(self.handle(user))

    async def serve(self, user: str) -> None:
        await self.call(user)
        self.log.append((user, _tenant.get()))


class _PlainService(_Service):
    async def call(self, user: str) -> None:
        await self.handle(user)


async def _serve(service: _Service, user: int) -> None:
    await service.serve(NAMES[user])


def _tenants_of(service: _Service, user: int) -> list[str]:
    return [tenant for author, tenant in service.log if author == NAMES[user]]


def _log_names_tenants(service: _Service) -> None:
    for user, tenant in service.log:
        assert tenant == f"tenant of {user}", f"the log of {user} is kept for {tenant}"


PATTERN = Pattern(
    id="C03",
    title="middleware hides what the handler sets",
    mechanism=(
        "A middleware runs the application in a task of its own, whose context is a "
        "copy; what the handler sets there is not seen outside, where the default holds."
    ),
    fix="Await the application directly, as pure ASGI middleware does.",
    areas=(Area.USER_CONTEXT,),
    detectors=(
        "explorer",
        "checkers",
        "static",
    ),
    source="https://github.com/encode/starlette/pull/1525",
    vulnerable=visits(_Service, _serve, _log_names_tenants),
    safe=visits(_PlainService, _serve, _log_names_tenants),
    module=__name__,
    needs=ANY_ORDER,
    hosted=Hosted(shown=_tenants_of),
    beyond={"swarm": "the log names everybody and not another"},
)
