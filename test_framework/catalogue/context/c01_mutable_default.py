"""C01: mutable default of a ContextVar.

alice                           bob
got = await pads.think(NAMES[user])
pad = self.open()
return self.pad.get()
pad.append(f"thought of {user}")
await external("call the model")
return list(pad)
return got
                                got = await pads.think(NAMES[user])
                                pad = self.open()
                                return self.pad.get()
                                pad.append(f"thought of {user}")
                                await external("call the model")
                                return list(pad)
-> bob reads ['thought of alice', 'thought of bob']
"""

from contextvars import ContextVar

from test_framework.catalogue.pattern import ANY_ORDER, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Scratchpads:
    """Each context is thought to have its own scratchpad."""

    def __init__(self) -> None:
        # Made where the program starts, as a module does.
        self.pad: ContextVar[list[str]] = ContextVar("pad", default=[])  # noqa: B039  # the bug

    def open(self) -> list[str]:
        return self.pad.get()

    async def think(self, user: str) -> list[str]:
        pad = self.open()
        pad.append(f"thought of {user}")
        await external("call the model")
        return list(pad)


class _FreshScratchpads(_Scratchpads):
    def open(self) -> list[str]:
        pad: list[str] = []
        self.pad.set(pad)
        return pad


async def _think(pads: _Scratchpads, user: int) -> list[str]:
    got = await pads.think(NAMES[user])
    assert got == [f"thought of {NAMES[user]}"], f"{NAMES[user]} reads {got}"
    return got


PATTERN = Pattern(
    id="C01",
    title="mutable default of a ContextVar",
    mechanism=(
        "The default of a ContextVar is one object for all contexts that have not set "
        "it; changing it in place changes it for all."
    ),
    fix="Leave the default out, and set a new object on entry.",
    areas=(Area.USER_CONTEXT, Area.AGENT_STATE),
    detectors=("explorer", "access", "swarm", "static"),
    source="https://docs.astral.sh/ruff/rules/mutable-contextvar-default/",
    vulnerable=visits(_Scratchpads, _think),
    safe=visits(_FreshScratchpads, _think),
    module=__name__,
    needs=ANY_ORDER,
    hosted=Hosted(),
)
