"""P22: memoised without the user in the key.

alice                           bob
_user.set(NAMES[user])
got = await dashboards.render("invoices")
key = self.key(page)
return page
if key not in self.known:
await external("SELECT")
self.known[key] = f"{page} of {_user.get()}"
return self.known[key]
return got
                                _user.set(NAMES[user])
                                got = await dashboards.render("invoices")
                                key = self.key(page)
                                return page
                                if key not in self.known:
                                return self.known[key]
-> bob sees the invoices of alice
"""

from contextvars import ContextVar

from test_framework.catalogue.pattern import ANY_ORDER, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external

_user: ContextVar[str] = ContextVar("user")


class _Dashboards:
    """Remembers what a page looks like; who is asking is in a ContextVar."""

    def __init__(self) -> None:
        self.known: dict[object, str] = {}

    def key(self, page: str) -> object:
        return page

    async def render(self, page: str) -> str:
        key = self.key(page)
        if key not in self.known:
            await external("SELECT")
            self.known[key] = f"{page} of {_user.get()}"
        return self.known[key]


class _KeyedDashboards(_Dashboards):
    def key(self, page: str) -> object:
        return page, _user.get()


async def _look(dashboards: _Dashboards, user: int) -> str:
    _user.set(NAMES[user])
    got = await dashboards.render("invoices")
    assert got == f"invoices of {NAMES[user]}", f"{NAMES[user]} sees the {got}"
    return got


PATTERN = Pattern(
    id="P22",
    title="memoised without the user in the key",
    mechanism=(
        "The result of a function is remembered by its arguments, and the user is none "
        "of them; the second user gets what was made for the first."
    ),
    fix="Make the user a part of the key.",
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "access", "swarm", "timing", "static"),
    source="https://docs.astral.sh/ruff/rules/cached-instance-method/",
    vulnerable=visits(_Dashboards, _look),
    safe=visits(_KeyedDashboards, _look),
    module=__name__,
    needs=ANY_ORDER,
    hosted=Hosted(),
)
