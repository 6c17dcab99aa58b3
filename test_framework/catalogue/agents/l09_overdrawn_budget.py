"""L09: token budget overdrawn.

alice                           bob
                                await budget.complete()
                                if self.left >= 60:
                                await external("call the model")
await budget.complete()
if self.left >= 60:
await external("call the model")
                                self.left -= 60
self.left -= 60
-> -20 tokens are left
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Budget:
    """Tokens that a tenant may use; a call costs what it turns out to cost."""

    def __init__(self) -> None:
        self.left = 100

    async def complete(self) -> None:
        if self.left >= 60:
            await external("call the model")
            self.left -= 60


class _ReservingBudget(_Budget):
    async def complete(self) -> None:
        if self.left >= 60:
            self.left -= 60
            await external("call the model")


async def _complete(budget: _Budget, user: int) -> None:  # noqa: ARG001  # any user of the tenant
    await budget.complete()


def _not_overdrawn(budget: _Budget) -> None:
    assert budget.left >= 0, f"{budget.left} tokens are left"


PATTERN = Pattern(
    id="L09",
    title="token budget overdrawn",
    mechanism=(
        "The budget is checked before the call and booked after it, so that parallel "
        "calls all pass."
    ),
    fix="Reserve first, settle later.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "access", "checkers"),
    source="https://cwe.mitre.org/data/definitions/770.html",
    vulnerable=visits(_Budget, _complete, _not_overdrawn),
    safe=visits(_ReservingBudget, _complete, _not_overdrawn),
    module=__name__,
    hosted=Hosted(shown=lambda budget, _: budget.left),
)
