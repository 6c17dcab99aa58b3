"""K05: settings reloaded under a request.

alice                           bob
if user:
address, key = await settings.call()
address, _ = self.current
await external("resolve the address")
                                if user:
                                await external("read the file")
                                settings.current = ("b.example", "key of b.example")
                                return None
_, key = self.current
return address, key
-> a.example is shown the key of b.example
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Settings:
    """Address and key of the provider; an operator reloads them."""

    def __init__(self) -> None:
        self.current = ("a.example", "key of a.example")

    async def call(self) -> tuple[str, str]:
        address, _ = self.current
        await external("resolve the address")
        _, key = self.current
        return address, key


class _SnapshotSettings(_Settings):
    async def call(self) -> tuple[str, str]:
        address, key = self.current
        await external("resolve the address")
        return address, key


async def _call_or_reload(settings: _Settings, user: int) -> tuple[str, str] | None:
    if user:
        await external("read the file")
        settings.current = ("b.example", "key of b.example")
    else:
        address, key = await settings.call()
        assert key == f"key of {address}", f"{address} is shown the {key}"
        return address, key
    return None


PATTERN = Pattern(
    id="K05",
    title="settings reloaded under a request",
    mechanism=(
        "A request reads the address and, after an await, the key of a provider, and "
        "a reload in between gives it one of each."
    ),
    fix=("Take one immutable snapshot of the settings at the start of a request."),
    areas=(Area.USER_CONTEXT, Area.ENGINE_REGISTRY),
    detectors=("explorer", "access"),
    source="https://cwe.mitre.org/data/definitions/362.html",
    vulnerable=visits(_Settings, _call_or_reload),
    safe=visits(_SnapshotSettings, _call_or_reload),
    module=__name__,
    hosted=Hosted(),
)
