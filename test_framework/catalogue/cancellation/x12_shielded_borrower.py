"""X12: shielded work goes on with what was given back.

alice                alice, task 2        alice, task 3
request = asyncio.create_task(audits.serve(NAMES[user]))
await asyncio.wait({request})
                     session = self.pooled
                     session.user = user
                     own = self.session_of_work(session)
                     return session
                     work = asyncio.create_task(self.write(user, own))
                     self.writing.add(work)
                     await asyncio.shield(work)
                                          await external("INSERT")
                     <- cancelled
                     session.user = ""
await asyncio.gather(*audits.writing)
                                          self.entries.append((user, session.user))
-> the entry of alice is signed by nobody
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Needs, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Session:
    """A session of the pool, in the name of whoever has it."""

    def __init__(self) -> None:
        self.user = ""


class _Audits:
    """Writes an entry of the audit log even if the client leaves."""

    def __init__(self) -> None:
        self.pooled = _Session()
        self.entries: list[tuple[str, str]] = []
        self.writing: set[asyncio.Task[None]] = set()

    def session_of_work(self, session: _Session) -> _Session:
        return session

    async def write(self, user: str, session: _Session) -> None:
        await external("INSERT")
        self.entries.append((user, session.user))

    async def serve(self, user: str) -> None:
        session = self.pooled
        session.user = user
        own = self.session_of_work(session)
        work = asyncio.create_task(self.write(user, own))
        self.writing.add(work)
        try:
            await asyncio.shield(work)
        finally:
            session.user = ""


class _OwningAudits(_Audits):
    def session_of_work(self, session: _Session) -> _Session:
        own = _Session()
        own.user = session.user
        return own


async def _serve(audits: _Audits, user: int) -> None:
    request = asyncio.create_task(audits.serve(NAMES[user]))
    await asyncio.wait({request})
    await asyncio.gather(*audits.writing)


def _signatures(audits: _Audits, user: int) -> list[str]:
    return [signed for author, signed in audits.entries if author == NAMES[user]]


def _entries_are_signed(audits: _Audits) -> None:
    for user, signed in audits.entries:
        assert signed == user, f"the entry of {user} is signed by {signed or 'nobody'}"


PATTERN = Pattern(
    id="X12",
    title="shielded work goes on with what was given back",
    mechanism=(
        "Work is shielded from cancellation, the request that it belongs to is not, "
        "and gives back the session which the work goes on using."
    ),
    fix=("Let shielded work own what it uses."),
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "swarm"),
    source="https://docs.python.org/3/library/asyncio-task.html#asyncio.shield",
    vulnerable=visits(_Audits, _serve, _entries_are_signed, users=1),
    safe=visits(_OwningAudits, _serve, _entries_are_signed, users=1),
    module=__name__,
    needs=Needs(cancel="user*/serve*"),
    hosted=Hosted(_signatures, lambda audits, user: audits.serve(NAMES[user]), users=2),
)
