"""A10: impersonation not taken back.

alice
if not user:
await support.look(NAMES[user])
with self.impersonate(user):
self.acting_as = user
await external("SELECT account")
<- cancelled
-> acts as alice from now on
"""

import contextlib
from collections.abc import Iterator

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Support:
    """A support worker looks at accounts with the rights of their owners."""

    def __init__(self) -> None:
        self.acting_as = "worker"

    @contextlib.contextmanager
    def impersonate(self, user: str) -> Iterator[None]:
        self.acting_as = user
        yield
        self.acting_as = "worker"

    async def look(self, user: str) -> None:
        with self.impersonate(user):
            await external("SELECT account")


class _RestoringSupport(_Support):
    @contextlib.contextmanager
    def impersonate(self, user: str) -> Iterator[None]:
        self.acting_as = user
        try:
            yield
        finally:
            self.acting_as = "worker"


async def _look(support: _Support, user: int) -> None:
    if not user:
        await support.look(NAMES[user])


def _is_worker_again(support: _Support) -> None:
    assert support.acting_as == "worker", "acts as alice from now on"


PATTERN = Pattern(
    id="A10",
    title="impersonation not taken back",
    mechanism=(
        "A cancellation skips the line that switches back to the worker's own rights."
    ),
    fix="Switch back in finally.",
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "swarm"),
    source="https://cwe.mitre.org/data/definitions/271.html",
    vulnerable=visits(_Support, _look, _is_worker_again),
    safe=visits(_RestoringSupport, _look, _is_worker_again),
    needs=CANCELLED_USERS,
    module=__name__,
    hosted=Hosted(shown=lambda support, _: support.acting_as),
)
