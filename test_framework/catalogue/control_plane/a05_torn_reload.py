"""A05: policy reload torn.

alice                           bob
if user:
await policy.reload()
self.barred.clear()
for rule in (("bob", "salaries"), ("carol", "salaries")):
await external("next rule")
                                if user:
                                await external("GET /salaries")
                                is_barred = ("bob", "salaries") in policy.barred
self.barred.add(rule)
for rule in (("bob", "salaries"), ("carol", "salaries")):
await external("next rule")
self.barred.add(rule)
for rule in (("bob", "salaries"), ("carol", "salaries")):
return True
-> bob reads salaries
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Policy:
    """Who is barred from what; reloaded when an operator changes it."""

    def __init__(self) -> None:
        self.barred = {("bob", "salaries")}

    async def reload(self) -> None:
        self.barred.clear()
        for rule in (("bob", "salaries"), ("carol", "salaries")):
            await external("next rule")
            self.barred.add(rule)


class _SwappingPolicy(_Policy):
    async def reload(self) -> None:
        barred = set()
        for rule in (("bob", "salaries"), ("carol", "salaries")):
            await external("next rule")
            barred.add(rule)
        self.barred = barred


async def _reload_or_ask(policy: _Policy, user: int) -> bool:
    if user:
        await external("GET /salaries")
        is_barred = ("bob", "salaries") in policy.barred
        assert is_barred, "bob reads salaries"
        return is_barred
    await policy.reload()
    return True


PATTERN = Pattern(
    id="A05",
    title="policy reload torn",
    mechanism=(
        "Rules are cleared and read again one by one, and a request in between finds "
        "them missing."
    ),
    fix="Build the new rules aside and swap one reference.",
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "checkers"),
    source="https://cwe.mitre.org/data/definitions/362.html",
    vulnerable=visits(_Policy, _reload_or_ask),
    safe=visits(_SwappingPolicy, _reload_or_ask),
    module=__name__,
    hosted=Hosted(),
)
