"""O09: what a user has left stays in the process.

alice                           bob
await desk.write(NAMES[user])
number, draft = len(self.drafts), f"draft of {user}"
self.open.add(number)
self.drafts.append(draft)
await external("the user writes")
self.log_out(number, draft)
self.open.discard(number)
                                await desk.write(NAMES[user])
                                number, draft = len(self.drafts), f"draft of {user}"
                                self.open.add(number)
                                self.drafts.append(draft)
                                await external("the user writes")
                                self.log_out(number, draft)
                                self.open.discard(number)
-> ['draft of alice', 'draft of bob'] can still be read
"""

from test_framework.catalogue.pattern import ANY_ORDER, Area, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Desk:
    """Keeps a draft for each session that is open."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.drafts: list[str] = []

    def log_out(self, number: int, draft: str) -> None:  # noqa: ARG002  # the twin's
        self.open.discard(number)

    async def write(self, user: str) -> None:
        number, draft = len(self.drafts), f"draft of {user}"
        self.open.add(number)
        self.drafts.append(draft)
        try:
            await external("the user writes")
        finally:
            self.log_out(number, draft)


class _TidyDesk(_Desk):
    def log_out(self, number: int, draft: str) -> None:
        super().log_out(number, draft)
        self.drafts.remove(draft)


async def _write(desk: _Desk, user: int) -> None:
    await desk.write(NAMES[user])


def _nothing_is_left(desk: _Desk) -> None:
    assert not desk.drafts, f"{desk.drafts} can still be read"


PATTERN = Pattern(
    id="O09",
    title="what a user has left stays in the process",
    mechanism=(
        "Logging out closes the session and leaves its data where it was, within "
        "reach of whoever looks through the process next."
    ),
    fix=("Remove what belongs to a session when it ends, in finally."),
    areas=(Area.USER_CONTEXT, Area.AGENT_STATE),
    detectors=("explorer", "leaks"),
    source="https://cwe.mitre.org/data/definitions/226.html",
    vulnerable=visits(_Desk, _write, _nothing_is_left),
    safe=visits(_TidyDesk, _write, _nothing_is_left),
    module=__name__,
    needs=ANY_ORDER,
)
