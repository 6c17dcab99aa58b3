"""P02: module-global "current user".

alice                           bob
                                got = await settings.theme(NAMES[user])
                                self.enter(user)
                                request["user"] = user
                                await external("SELECT theme")
got = await settings.theme(NAMES[user])
self.enter(user)
request["user"] = user
await external("SELECT theme")
                                return f"theme of {self.current()}"
                                return request["user"]
return f"theme of {self.current()}"
return request["user"]
return got
-> bob got theme of alice
"""

from contextvars import ContextVar

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external

request: dict[str, str] = {}


class Settings:
    """Remembers in the module who is asking."""

    def __init__(self) -> None:
        request.clear()

    def enter(self, user: str) -> None:
        """Say who is asking."""
        request["user"] = user

    def current(self) -> str:
        """Return who is asking."""
        return request["user"]

    async def theme(self, user: str) -> str:
        """Return the theme of whoever is asking."""
        self.enter(user)
        await external("SELECT theme")
        return f"theme of {self.current()}"


current_user: ContextVar[str] = ContextVar("current_user")


class ContextSettings(Settings):
    """Every task has its own value of a ContextVar."""

    def enter(self, user: str) -> None:
        """Say who is asking."""
        current_user.set(user)

    def current(self) -> str:
        """Return who is asking."""
        return current_user.get()


async def read_theme(settings: Settings, user: int) -> str:
    """Ask for the own theme; fail when it is not."""
    got = await settings.theme(NAMES[user])
    assert got == f"theme of {NAMES[user]}", f"{NAMES[user]} got {got}"
    return got


PATTERN = Pattern(
    id="P02",
    title='module-global "current user"',
    mechanism=(
        "A module variable says who is asking; all requests write the same one."
    ),
    fix="Use a ContextVar, of which every task has its own value.",
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "access", "leaks", "swarm"),
    source="https://github.com/openedx/openedx-platform/issues/38740",
    vulnerable=visits(Settings, read_theme),
    safe=visits(ContextSettings, read_theme),
    module=__name__,
    hosted=Hosted(),
)
