"""O07: map of users that never shrinks.

alice                           bob
await limiters.serve(NAMES[user])
self.limiters[user] = [f"request of {user}"]
await external("the client says good-bye")
                                await limiters.serve(NAMES[user])
                                self.limiters[user] = [f"request of {user}"]
                                await external("the client says good-bye")
-> ['alice', 'bob'] are kept for ever
"""

from test_framework.catalogue.pattern import ANY_ORDER, Area, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Limiters:
    """A limiter for each user who is connected."""

    def __init__(self) -> None:
        self.limiters: dict[str, list[str]] = {}

    async def serve(self, user: str) -> None:
        self.limiters[user] = [f"request of {user}"]
        await external("the client says good-bye")


class _TidyLimiters(_Limiters):
    async def serve(self, user: str) -> None:
        try:
            await super().serve(user)
        finally:
            del self.limiters[user]


async def _serve(limiters: _Limiters, user: int) -> None:
    await limiters.serve(NAMES[user])


def _nothing_kept(limiters: _Limiters) -> None:
    assert not limiters.limiters, f"{list(limiters.limiters)} are kept for ever"


PATTERN = Pattern(
    id="O07",
    title="map of users that never shrinks",
    mechanism=(
        "Whoever connects gets an entry in a map, and nobody takes it away; the "
        "memory of the process holds everybody who was ever there."
    ),
    fix=(
        "Remove the entry in finally, or keep it in a map with weak values or an "
        "expiry."
    ),
    areas=(Area.WEBSOCKET, Area.ENGINE_REGISTRY),
    detectors=("explorer", "leaks"),
    source="https://github.com/langchain-ai/langchain/pull/23504",
    vulnerable=visits(_Limiters, _serve, _nothing_kept),
    safe=visits(_TidyLimiters, _serve, _nothing_kept),
    module=__name__,
    needs=ANY_ORDER,
)
