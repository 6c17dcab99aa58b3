"""D10: session used after its request.

alice                           bob
                                await endpoint.handle(NAMES[user])
                                async with self.lock:
                                self.session.tenant = user
                                await external("UPDATE")
await endpoint.handle(NAMES[user])
async with self.lock:
                                self.background.add(asyncio.create_task(self.mail(use...
                                await asyncio.gather(*endpoint.background)
                                await external("connect to the mail server")
self.session.tenant = user
await external("UPDATE")
                                self.mails.append((user, self.session.tenant))
self.background.add(asyncio.create_task(self.mail(user)))
await asyncio.gather(*endpoint.background)
await external("connect to the mail server")
self.mails.append((user, self.session.tenant))
-> the mail was written with the session of another user
"""

import asyncio
from types import SimpleNamespace

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Endpoint:
    """Answers, and goes on in the background with the session of the request."""

    def __init__(self) -> None:
        self.session = SimpleNamespace(tenant="")
        self.lock = asyncio.Lock()
        self.mails: list[tuple[str, str]] = []
        self.background: set[asyncio.Task[None]] = set()

    async def mail(self, user: str) -> None:
        await external("connect to the mail server")
        self.mails.append((user, self.session.tenant))

    async def handle(self, user: str) -> None:
        async with self.lock:  # checks the session out
            self.session.tenant = user
            await external("UPDATE")
            self.background.add(asyncio.create_task(self.mail(user)))


class _OwnSessionEndpoint(_Endpoint):
    async def mail(self, user: str) -> None:
        session = SimpleNamespace(tenant=user)
        await external("connect to the mail server")
        self.mails.append((user, session.tenant))


async def _request_mail(endpoint: _Endpoint, user: int) -> None:
    await endpoint.handle(NAMES[user])
    await asyncio.gather(*endpoint.background)


def _tenants_of(endpoint: _Endpoint, user: int) -> list[str]:
    return [tenant for author, tenant in endpoint.mails if author == NAMES[user]]


def _mails_are_of_users(endpoint: _Endpoint) -> None:
    for user, tenant in endpoint.mails:
        assert user == tenant, "the mail was written with the session of another user"


PATTERN = Pattern(
    id="D10",
    title="session used after its request",
    mechanism=(
        "A background task goes on with the session of the request, which the pool has "
        "given to somebody else."
    ),
    fix="Open a session inside of the task.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "swarm"),
    source="https://github.com/fastapi/fastapi/issues/11143",
    vulnerable=visits(_Endpoint, _request_mail, _mails_are_of_users),
    safe=visits(_OwnSessionEndpoint, _request_mail, _mails_are_of_users),
    module=__name__,
    hosted=Hosted(shown=_tenants_of),
)
