"""O01: metric booked on the wrong tenant.

alice                           bob
                                await meter.meter(NAMES[user], 10)
                                self.tenant = tenant
                                await external("call the model")
await meter.meter(NAMES[user], 10)
self.tenant = tenant
await external("call the model")
                                self.tokens[self.tenant] += tokens
self.tokens[self.tenant] += tokens
-> booked: {'alice': 20}
"""

from collections import Counter

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Meter:
    """Counts tokens for each tenant."""

    def __init__(self) -> None:
        self.tenant = ""
        self.tokens: Counter[str] = Counter()

    async def meter(self, tenant: str, tokens: int) -> None:
        self.tenant = tenant
        await external("call the model")
        self.tokens[self.tenant] += tokens


class _BindingMeter(_Meter):
    async def meter(self, tenant: str, tokens: int) -> None:
        await external("call the model")
        self.tokens[tenant] += tokens


async def _use(meter: _Meter, user: int) -> None:
    await meter.meter(NAMES[user], 10)


def _all_metered(meter: _Meter) -> None:
    assert meter.tokens == {"alice": 10, "bob": 10}, f"booked: {dict(meter.tokens)}"


PATTERN = Pattern(
    id="O01",
    title="metric booked on the wrong tenant",
    mechanism=(
        "The label of a metric is read from the meter when the work is done, and by "
        "then the meter serves another tenant."
    ),
    fix=("Bind the label on entry."),
    areas=(Area.USER_CONTEXT,),
    detectors=(
        "explorer",
        "access",
        "checkers",
    ),
    source="https://prometheus.io/docs/practices/instrumentation/#use-labels",
    vulnerable=visits(_Meter, _use, _all_metered),
    safe=visits(_BindingMeter, _use, _all_metered),
    module=__name__,
    hosted=Hosted(shown=lambda meter, user: meter.tokens[NAMES[user]]),
    beyond={"swarm": "a number of tokens names nobody"},
)
