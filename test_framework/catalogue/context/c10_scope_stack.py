"""C10: scopes of an error tracker interleave.

alice                           bob
                                with tracker.scope(NAMES[user]):
                                self.stack.append(user)
                                await external("charge the card")
with tracker.scope(NAMES[user]):
self.stack.append(user)
await external("charge the card")
                                got = tracker.capture("decline")
                                return f"{message} of {self.stack[-1]}"
                                self.stack.pop()
got = tracker.capture("decline")
return f"{message} of {self.stack[-1]}"
self.stack.pop()
-> alice is told as decline of bob
"""

from collections.abc import Iterator
from contextlib import contextmanager

from test_framework.catalogue.context import current_user
from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Tracker:
    """An error tracker that keeps a stack of scopes for the whole process."""

    def __init__(self) -> None:
        self.stack: list[str] = []

    @contextmanager
    def scope(self, user: str) -> Iterator[None]:
        self.stack.append(user)
        try:
            yield
        finally:
            self.stack.pop()

    def capture(self, message: str) -> str:
        return f"{message} of {self.stack[-1]}"


class _TaskTracker(_Tracker):
    @contextmanager
    def scope(self, user: str) -> Iterator[None]:
        token = current_user.set(user)
        try:
            yield
        finally:
            current_user.reset(token)

    def capture(self, message: str) -> str:
        return f"{message} of {current_user.get()}"


async def _fail_in_scope(tracker: _Tracker, user: int) -> str:
    with tracker.scope(NAMES[user]):
        await external("charge the card")
        got = tracker.capture("decline")
        assert got == f"decline of {NAMES[user]}", f"{NAMES[user]} is told as {got}"
        return got


PATTERN = Pattern(
    id="C10",
    title="scopes of an error tracker interleave",
    mechanism=(
        "Requests push and pop scopes on one stack, so a report carries the scope that "
        "was pushed last."
    ),
    fix="Keep the scope in a ContextVar.",
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "swarm", "checkers"),
    source="https://github.com/getsentry/sentry-python/issues/147",
    vulnerable=visits(_Tracker, _fail_in_scope),
    safe=visits(_TaskTracker, _fail_in_scope),
    module=__name__,
    hosted=Hosted(),
)
