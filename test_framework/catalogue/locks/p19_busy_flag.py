"""P19: busy flag not reset.

alice
with contextlib.suppress(ConnectionError):
await reports.make()
if self.is_busy:
self.is_busy = True
await external("render")
<- ConnectionResetError
-> nobody gets a report any more
"""

import contextlib

from test_framework.catalogue.pattern import Area, Needs, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Reports:
    """Makes one report at a time; others are told to come back."""

    def __init__(self) -> None:
        self.is_busy = False

    async def make(self) -> bool:
        if self.is_busy:
            return False
        self.is_busy = True
        await external("render")
        self.is_busy = False
        return True


class _RestoringReports(_Reports):
    async def make(self) -> bool:
        if self.is_busy:
            return False
        self.is_busy = True
        try:
            await external("render")
        finally:
            self.is_busy = False
        return True


async def _make_report(reports: _Reports, user: int) -> None:  # noqa: ARG001  # any user
    with contextlib.suppress(ConnectionError):  # answered with 502
        await reports.make()


def _is_free(reports: _Reports) -> None:
    assert not reports.is_busy, "nobody gets a report any more"


PATTERN = Pattern(
    id="P19",
    title="busy flag not reset",
    mechanism=(
        "An error between setting and clearing a flag leaves it set, and all are turned "
        "away from then on."
    ),
    fix="Clear it in finally, or use a lock.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "timing"),
    source="https://cwe.mitre.org/data/definitions/459.html",
    vulnerable=visits(_Reports, _make_report, _is_free),
    safe=visits(_RestoringReports, _make_report, _is_free),
    needs=Needs(errors=("ConnectionResetError",)),
    module=__name__,
)
