"""A12: audit chain forks.

alice                           bob
                                await trail.append(f"{NAMES[user]} read the file")
                                previous = len(self.entries)
                                await external("sign")
await trail.append(f"{NAMES[user]} read the file")
previous = len(self.entries)
await external("sign")
                                self.entries.append((previous, line))
self.entries.append((previous, line))
-> the chain forks
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _AuditTrail:
    """A chain of entries, each with the number of the one before it."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str]] = []
        self.lock = asyncio.Lock()

    async def append(self, line: str) -> None:
        previous = len(self.entries)
        await external("sign")
        self.entries.append((previous, line))


class _SerialAuditTrail(_AuditTrail):
    async def append(self, line: str) -> None:
        async with self.lock:
            await super().append(line)


async def _audit(trail: _AuditTrail, user: int) -> None:
    await trail.append(f"{NAMES[user]} read the file")


def _is_one_chain(trail: _AuditTrail) -> None:
    assert [previous for previous, _ in trail.entries] == [0, 1], "the chain forks"


PATTERN = Pattern(
    id="A12",
    title="audit chain forks",
    mechanism=(
        "Two entries name the same predecessor, and one of them can be removed unseen."
    ),
    fix="Append under a lock, or by one writer.",
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "access", "checkers"),
    source="https://datatracker.ietf.org/doc/html/rfc9162",
    vulnerable=visits(_AuditTrail, _audit, _is_one_chain),
    safe=visits(_SerialAuditTrail, _audit, _is_one_chain),
    module=__name__,
    hosted=Hosted(shown=lambda trail, _: [previous for previous, _ in trail.entries]),
)
