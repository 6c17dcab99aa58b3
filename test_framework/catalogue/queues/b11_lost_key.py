"""B11: change dropped while its key is worked on.

alice                           bob
                                reconciler.wanted = ("team only", "private")[user]
                                await reconciler.notify()
                                if self.is_running:
                                self.is_running = True
                                await self.apply()
                                wanted = self.wanted
                                await external("PUT access rule")
reconciler.wanted = ("team only", "private")[user]
await reconciler.notify()
if self.is_running:
                                self.actual = wanted
                                self.is_running = False
-> others still see it
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Reconciler:
    """Brings a workspace to what its owner wants; one pass at a time."""

    def __init__(self) -> None:
        self.wanted = self.actual = "public"
        self.is_running = False

    async def apply(self) -> None:
        wanted = self.wanted
        await external("PUT access rule")
        self.actual = wanted

    async def notify(self) -> None:
        if self.is_running:
            return
        self.is_running = True
        await self.apply()
        self.is_running = False


class _RepeatingReconciler(_Reconciler):
    async def notify(self) -> None:
        if self.is_running:
            return
        self.is_running = True
        while self.actual != self.wanted:
            await self.apply()
        self.is_running = False


async def _want(reconciler: _Reconciler, user: int) -> None:
    reconciler.wanted = ("team only", "private")[user]
    await reconciler.notify()


def _is_as_wanted(reconciler: _Reconciler) -> None:
    assert reconciler.actual == reconciler.wanted, "others still see it"


PATTERN = Pattern(
    id="B11",
    title="change dropped while its key is worked on",
    mechanism=(
        "A change that comes while its object is being reconciled is taken for done."
    ),
    fix="Look again after each pass, or mark the key dirty.",
    areas=(Area.ENGINE_REGISTRY,),
    detectors=("explorer", "checkers"),
    source="https://pkg.go.dev/k8s.io/client-go/util/workqueue",
    vulnerable=visits(_Reconciler, _want, _is_as_wanted),
    safe=visits(_RepeatingReconciler, _want, _is_as_wanted),
    module=__name__,
    hosted=Hosted(shown=lambda reconciler, _: (reconciler.wanted, reconciler.actual)),
)
