"""O02: gauge drifts.

alice
await admission.handle()
if self.in_flight:
self.in_flight += 1
await external("call the model")
<- cancelled
-> the tenant is never admitted again
"""

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Admission:
    """Admits one request of a tenant at a time, by a gauge."""

    def __init__(self) -> None:
        self.in_flight = 0

    async def handle(self) -> bool:
        if self.in_flight:
            return False
        self.in_flight += 1
        await external("call the model")
        self.in_flight -= 1
        return True


class _ExactAdmission(_Admission):
    async def handle(self) -> bool:
        if self.in_flight:
            return False
        self.in_flight += 1
        try:
            await external("call the model")
        finally:
            self.in_flight -= 1
        return True


async def _handle(admission: _Admission, user: int) -> None:  # noqa: ARG001  # any user
    await admission.handle()


def _nothing_in_flight(admission: _Admission) -> None:
    assert admission.in_flight == 0, "the tenant is never admitted again"


PATTERN = Pattern(
    id="O02",
    title="gauge drifts",
    mechanism=(
        "A gauge of requests in flight goes up and, when the request is cancelled, "
        "never down."
    ),
    fix="Decrease it in finally.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "checkers"),
    source="https://prometheus.github.io/client_python/instrumenting/gauge/",
    vulnerable=visits(_Admission, _handle, _nothing_in_flight),
    safe=visits(_ExactAdmission, _handle, _nothing_in_flight),
    needs=CANCELLED_USERS,
    module=__name__,
    hosted=Hosted(shown=lambda admission, _: admission.in_flight),
)
