"""C09: callback runs in the context of whoever registered it.

alice                           bob
                                current_user.set(NAMES[user])
                                auditor.log(f"{NAMES[user]} logged in")
                                self.pending.append((current_user.get(), line))
                                if self._timer is None:
                                self._timer = asyncio.get_running_loop().call_later(1...
                                await asyncio.sleep(2)
current_user.set(NAMES[user])
auditor.log(f"{NAMES[user]} logged in")
self.pending.append((current_user.get(), line))
if self._timer is None:
await asyncio.sleep(2)
                                self._timer = None
                                self.written += [(self.actor(entry), entry[1]) for en...
                                return current_user.get()
                                return current_user.get()
                                self.pending.clear()
-> 'alice logged in' is booked on bob
"""

import asyncio

from test_framework.catalogue.context import current_user
from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits


class _Auditor:
    """Writes log lines in batches: the first line of a batch arms the timer."""

    def __init__(self) -> None:
        self.pending: list[tuple[str, str]] = []
        self.written: list[tuple[str, str]] = []
        self._timer: asyncio.TimerHandle | None = None

    def log(self, line: str) -> None:
        self.pending.append((current_user.get(), line))
        if self._timer is None:
            # call_later keeps the context of whoever happens to call it.
            self._timer = asyncio.get_running_loop().call_later(1, self._flush)

    def actor(self, entry: tuple[str, str]) -> str:  # noqa: ARG002  # the twin reads it
        return current_user.get()

    def _flush(self) -> None:
        self._timer = None
        self.written += [(self.actor(entry), entry[1]) for entry in self.pending]
        self.pending.clear()


class _BindingAuditor(_Auditor):
    def actor(self, entry: tuple[str, str]) -> str:
        return entry[0]


async def _act_and_wait(auditor: _Auditor, user: int) -> None:
    current_user.set(NAMES[user])
    auditor.log(f"{NAMES[user]} logged in")
    await asyncio.sleep(2)


def _actors_of(auditor: _Auditor, user: int) -> list[str]:
    line = f"{NAMES[user]} logged in"
    return [actor for actor, written in auditor.written if written == line]


def _actors_are_right(auditor: _Auditor) -> None:
    assert len(auditor.written) == 2, "a line is lost"
    for actor, line in auditor.written:
        assert line == f"{actor} logged in", f"{line!r} is booked on {actor}"


PATTERN = Pattern(
    id="C09",
    title="callback runs in the context of whoever registered it",
    mechanism=(
        "A timer armed in one request flushes the lines of all, and the ContextVar in "
        "it names the first."
    ),
    fix="Bind the actor when the line is made.",
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "access", "swarm"),
    source="https://docs.python.org/3/library/contextvars.html#asyncio-support",
    vulnerable=visits(_Auditor, _act_and_wait, _actors_are_right),
    safe=visits(_BindingAuditor, _act_and_wait, _actors_are_right),
    module=__name__,
    hosted=Hosted(shown=_actors_of),
)
