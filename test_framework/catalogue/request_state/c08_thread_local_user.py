"""C08: threading.local as request-local.

alice                           bob
                                got = await settings.theme(NAMES[user])
                                self.enter(user)
                                self._local.user = user
                                await external("SELECT theme")
got = await settings.theme(NAMES[user])
self.enter(user)
self._local.user = user
await external("SELECT theme")
                                return f"theme of {self.current()}"
                                user: str = self._local.user
                                return user
return f"theme of {self.current()}"
user: str = self._local.user
return user
return got
-> bob got theme of alice
"""

import threading

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.request_state.p02_global_user import (
    ContextSettings,
    Settings,
    read_theme,
)
from test_framework.catalogue.world import visits


class _ThreadSettings(Settings):
    """Written for threads: one request, one thread."""

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    def enter(self, user: str) -> None:
        self._local.user = user

    def current(self) -> str:
        user: str = self._local.user
        return user


PATTERN = Pattern(
    id="C08",
    title="threading.local as request-local",
    mechanism=(
        "Code that came from threads keeps the user in a threading.local, but all "
        "requests of a loop share its thread."
    ),
    fix="Use a ContextVar.",
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "access", "swarm"),
    source="https://github.com/openedx/openedx-platform/issues/38740",
    vulnerable=visits(_ThreadSettings, read_theme),
    safe=visits(ContextSettings, read_theme),
    module=__name__,
    hosted=Hosted(),
)
