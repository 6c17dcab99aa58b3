"""C11: frozen execution context with a shared dict inside.

alice                           bob
                                got = await agents.run(NAMES[user])
                                context = self.context(user)
                                return _ExecutionContext(user, self.defaults)
                                context.metadata["thread"] = f"thread of {user}"
                                await external("plan the run")
got = await agents.run(NAMES[user])
context = self.context(user)
return _ExecutionContext(user, self.defaults)
context.metadata["thread"] = f"thread of {user}"
await external("plan the run")
                                return context.metadata["thread"]
return context.metadata["thread"]
return got
-> bob got thread of alice
"""

from dataclasses import dataclass

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


@dataclass(frozen=True)
class _ExecutionContext:
    """Frozen, which does not freeze what it refers to."""

    user: str
    metadata: dict[str, str]


class _Agents:
    """Starts runs with the metadata that all runs begin with."""

    def __init__(self) -> None:
        self.defaults = {"model": "small"}

    def context(self, user: str) -> _ExecutionContext:
        return _ExecutionContext(user, self.defaults)

    async def run(self, user: str) -> str:
        context = self.context(user)
        context.metadata["thread"] = f"thread of {user}"
        await external("plan the run")
        return context.metadata["thread"]


class _CopyingAgents(_Agents):
    def context(self, user: str) -> _ExecutionContext:
        return _ExecutionContext(user, dict(self.defaults))


async def _run_agent(agents: _Agents, user: int) -> str:
    got = await agents.run(NAMES[user])
    assert got == f"thread of {NAMES[user]}", f"{NAMES[user]} got {got}"
    return got


PATTERN = Pattern(
    id="C11",
    title="frozen execution context with a shared dict inside",
    mechanism=("Every run gets an immutable context whose metadata is the same dict."),
    fix="Copy the defaults for each run.",
    areas=(Area.AGENT_STATE, Area.USER_CONTEXT),
    detectors=("explorer", "access", "swarm"),
    source="https://cwe.mitre.org/data/definitions/374.html",
    vulnerable=visits(_Agents, _run_agent),
    safe=visits(_CopyingAgents, _run_agent),
    module=__name__,
    hosted=Hosted(),
)
