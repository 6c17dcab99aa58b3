"""P13: two-variable invariant torn.

alice                           bob
if user:
await external("pack the parcel")
                                if user:
                                await profile.replace("bob")
                                self.name = owner
                                await external("normalise the address")
name, address = profile.label()
return self.name, self.address
                                self.address = f"{owner} street"
                                return None
-> bob's parcel goes to alice street
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Profile:
    """Name and address of one account, which two devices edit."""

    def __init__(self) -> None:
        self.name, self.address = "alice", "alice street"
        self.lock = asyncio.Lock()

    async def replace(self, owner: str) -> None:
        self.name = owner
        await external("normalise the address")
        self.address = f"{owner} street"

    def label(self) -> tuple[str, str]:
        return self.name, self.address


class _SwappingProfile(_Profile):
    async def replace(self, owner: str) -> None:
        await external("normalise the address")
        self.name, self.address = owner, f"{owner} street"


async def _replace_or_ship(profile: _Profile, user: int) -> tuple[str, str] | None:
    if user:
        await profile.replace("bob")
    else:
        await external("pack the parcel")
        name, address = profile.label()
        assert address == f"{name} street", f"{name}'s parcel goes to {address}"
        return name, address
    return None


PATTERN = Pattern(
    id="P13",
    title="two-variable invariant torn",
    mechanism=(
        "Two fields that belong together are written before and after an await, and a "
        "reader sees one of each."
    ),
    fix="Compute first, then write both in one step.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "access", "checkers"),
    source="https://cwe.mitre.org/data/definitions/362.html",
    vulnerable=visits(_Profile, _replace_or_ship),
    safe=visits(_SwappingProfile, _replace_or_ship),
    module=__name__,
    hosted=Hosted(),
)
