"""L03: circuit breaker half-open stampede.

alice                           bob
                                await breaker.call()
                                if not self.admit():
                                return self.state in {"open", "closed"}
                                if self.state != "closed":
                                self.probes += 1
                                await external("call the model")
await breaker.call()
if not self.admit():
return self.state in {"open", "closed"}
if self.state != "closed":
self.probes += 1
                                self.state = "closed"
-> the provider is run over while it recovers
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Breaker:
    """After an outage one call at a time may probe the provider."""

    def __init__(self) -> None:
        self.state = "open"
        self.probes = 0

    def admit(self) -> bool:
        return self.state in {"open", "closed"}

    async def call(self) -> None:
        if not self.admit():
            return
        if self.state != "closed":
            self.probes += 1
            assert self.probes == 1, "the provider is run over while it recovers"
        await external("call the model")
        self.state = "closed"


class _ProbingBreaker(_Breaker):
    def admit(self) -> bool:
        if self.state == "probing":
            return False
        if self.state == "open":
            self.state = "probing"
        return True


async def _call(breaker: _Breaker, user: int) -> None:  # noqa: ARG001  # any user
    await breaker.call()


PATTERN = Pattern(
    id="L03",
    title="circuit breaker half-open stampede",
    mechanism=("All callers see that the breaker may try again, and all of them do."),
    fix="Mark the probe before the first await.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "access", "timing"),
    source="https://github.com/safe-global/safe-client-gateway/pull/3442",
    vulnerable=visits(_Breaker, _call),
    safe=visits(_ProbingBreaker, _call),
    module=__name__,
    hosted=Hosted(shown=lambda breaker, _: breaker.probes),
)
