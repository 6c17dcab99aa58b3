"""K01: engine made twice from a stale list.

alice                           bob
                                await reconciler.reconcile("acme")
                                if tenant not in self.engines.values():
                                name = self.name(tenant)
                                return f"{tenant}-{next(self.numbers)}"
                                await external("POST engine")
await reconciler.reconcile("acme")
if tenant not in self.engines.values():
name = self.name(tenant)
return f"{tenant}-{next(self.numbers)}"
await external("POST engine")
                                self.engines[name] = tenant
self.engines[name] = tenant
-> ['acme-0', 'acme-1'] run for one tenant
"""

import itertools

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Reconciler:
    """Keeps one engine for each tenant."""

    def __init__(self) -> None:
        self.engines: dict[str, str] = {}
        self.numbers = itertools.count()

    def name(self, tenant: str) -> str:
        return f"{tenant}-{next(self.numbers)}"

    async def reconcile(self, tenant: str) -> None:
        if tenant not in self.engines.values():
            name = self.name(tenant)
            await external("POST engine")
            self.engines[name] = tenant


class _NamingReconciler(_Reconciler):
    def name(self, tenant: str) -> str:
        return tenant


async def _reconcile(reconciler: _Reconciler, user: int) -> None:  # noqa: ARG001  # two passes
    await reconciler.reconcile("acme")


def _one_engine(reconciler: _Reconciler) -> None:
    engines = list(reconciler.engines)
    assert len(engines) == 1, f"{engines} run for one tenant"


PATTERN = Pattern(
    id="K01",
    title="engine made twice from a stale list",
    mechanism=(
        "A reconciler asks its cache which engines there are, and the cache has not "
        "seen yet what another pass is making."
    ),
    fix=(
        "Name what is to be made after its owner, so that making it twice is making "
        "it once."
    ),
    areas=(Area.ENGINE_REGISTRY,),
    detectors=("explorer", "checkers"),
    source="https://github.com/ray-project/kuberay/issues/715",
    vulnerable=visits(_Reconciler, _reconcile, _one_engine),
    safe=visits(_NamingReconciler, _reconcile, _one_engine),
    module=__name__,
    hosted=Hosted(shown=lambda reconciler, _: len(reconciler.engines)),
)
