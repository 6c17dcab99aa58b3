"""K07: run started while its tenant is deleted.

alice                           bob
await (tenants.delete("acme") if user else tenants.start("acme"))
if tenant in self.tenants:
await external("reserve a worker")
                                await (tenants.delete("acme") if user else tenants.st...
                                await external("stop the runs")
                                self.runs = [run for run in self.runs if run != tenant]
                                self.tenants.discard(tenant)
self.runs.append(tenant)
-> runs with the data of a gone tenant
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Tenants:
    """Deletes a tenant with its runs, while its users may start new ones."""

    def __init__(self) -> None:
        self.tenants = {"acme"}
        self.runs: list[str] = []

    async def start(self, tenant: str) -> None:
        if tenant in self.tenants:
            await external("reserve a worker")
            self.runs.append(tenant)

    async def delete(self, tenant: str) -> None:
        await external("stop the runs")
        self.runs = [run for run in self.runs if run != tenant]
        self.tenants.discard(tenant)


class _RecheckingTenants(_Tenants):
    async def start(self, tenant: str) -> None:
        await external("reserve a worker")
        if tenant in self.tenants:
            self.runs.append(tenant)


async def _start_or_delete(tenants: _Tenants, user: int) -> None:
    await (tenants.delete("acme") if user else tenants.start("acme"))


def _no_orphans(tenants: _Tenants) -> None:
    assert set(tenants.runs) <= tenants.tenants, "runs with the data of a gone tenant"


PATTERN = Pattern(
    id="K07",
    title="run started while its tenant is deleted",
    mechanism=(
        "The tenant was there when the run was asked for and is gone when it starts."
    ),
    fix="Look again in the step that starts it.",
    areas=(Area.ENGINE_REGISTRY,),
    detectors=("explorer", "checkers"),
    source="https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/",
    vulnerable=visits(_Tenants, _start_or_delete, _no_orphans),
    safe=visits(_RecheckingTenants, _start_or_delete, _no_orphans),
    module=__name__,
    hosted=Hosted(shown=lambda tenants, _: (tenants.runs, tenants.tenants)),
)
