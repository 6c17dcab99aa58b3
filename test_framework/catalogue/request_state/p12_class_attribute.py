"""P12: class attribute used as state of an instance.

alice                           bob
got = await factory.tools_of(NAMES[user])
agent = self.agent()
agent.tools.append(f"mailbox of {user}")
await external("call the model")
return list(agent.tools)
return got
                                got = await factory.tools_of(NAMES[user])
                                agent = self.agent()
                                agent.tools.append(f"mailbox of {user}")
                                await external("call the model")
                                return list(agent.tools)
-> bob may use ['mailbox of alice', 'mailbox of bob']
"""

from test_framework.catalogue.pattern import ANY_ORDER, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Factory:
    """Makes an agent for each run; the class is made with the program."""

    def __init__(self) -> None:
        class Agent:
            tools: list[str] = []  # noqa: RUF012  # the bug

        self.agent: type = Agent

    async def tools_of(self, user: str) -> list[str]:
        agent = self.agent()
        agent.tools.append(f"mailbox of {user}")
        await external("call the model")
        return list(agent.tools)


class _InstanceFactory(_Factory):
    def __init__(self) -> None:
        class Agent:
            def __init__(self) -> None:
                self.tools: list[str] = []

        self.agent = Agent


async def _run_agent(factory: _Factory, user: int) -> list[str]:
    got = await factory.tools_of(NAMES[user])
    assert got == [f"mailbox of {NAMES[user]}"], f"{NAMES[user]} may use {got}"
    return got


PATTERN = Pattern(
    id="P12",
    title="class attribute used as state of an instance",
    mechanism=(
        "A list that stands in the class body is one list for all objects of the "
        "class, though each run makes its own object."
    ),
    fix="Set it in __init__, or give the dataclass field a default_factory.",
    areas=(Area.AGENT_STATE, Area.ENGINE_REGISTRY),
    detectors=("explorer", "access", "swarm", "static"),
    source="https://docs.astral.sh/ruff/rules/mutable-class-default/",
    vulnerable=visits(_Factory, _run_agent),
    safe=visits(_InstanceFactory, _run_agent),
    module=__name__,
    needs=ANY_ORDER,
    hosted=Hosted(),
)
