"""O04: ready before it is.

alice                           bob
if user:
await service.start()
self.is_ready = True
await external("SELECT rules")
                                if user:
                                assert await service.read("payroll") is None, "everyb...
                                await external("a request comes")
                                if not self.is_ready or page in self.hidden:
                                return page
self.hidden = {"payroll"}
-> everybody may read the payroll
"""

from test_framework.catalogue.pattern import Area, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Service:
    """Loads who may not read what, then serves."""

    def __init__(self) -> None:
        self.is_ready = False
        self.hidden: set[str] = set()

    async def start(self) -> None:
        self.is_ready = True
        await external("SELECT rules")
        self.hidden = {"payroll"}

    async def read(self, page: str) -> str | None:
        await external("a request comes")
        if not self.is_ready or page in self.hidden:
            return None
        return page


class _LoadedService(_Service):
    async def start(self) -> None:
        await external("SELECT rules")
        self.hidden = {"payroll"}
        self.is_ready = True


async def _start_or_read(service: _Service, user: int) -> None:
    if user:
        assert await service.read("payroll") is None, "everybody may read the payroll"
    else:
        await service.start()


PATTERN = Pattern(
    id="O04",
    title="ready before it is",
    mechanism=(
        "The service says that it is ready while it still loads its access rules, and "
        "serves the first users by none."
    ),
    fix=("Be ready when all has been loaded, and not before."),
    areas=(Area.ENGINE_REGISTRY, Area.USER_CONTEXT),
    detectors=("explorer",),
    source="https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/",
    vulnerable=visits(_Service, _start_or_read),
    safe=visits(_LoadedService, _start_or_read),
    module=__name__,
)
