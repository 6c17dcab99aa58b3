"""L08: shared prompt edited for one user.

alice                           bob
read = await assistant.answer(NAMES[user])
messages = self.base()
return self.prompt
messages.append(f"you talk to {user}")
await external("call the model")
return list(messages)
return read
                                read = await assistant.answer(NAMES[user])
                                messages = self.base()
                                return self.prompt
                                messages.append(f"you talk to {user}")
                                await external("call the model")
                                return list(messages)
-> the model reads ['be kind', 'you talk to alice', 'you talk to bob']
"""

from test_framework.catalogue.pattern import ANY_ORDER, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Assistant:
    """Has a system prompt and adds to it."""

    def __init__(self) -> None:
        self.prompt = ["be kind"]

    def base(self) -> list[str]:
        return self.prompt

    async def answer(self, user: str) -> list[str]:
        messages = self.base()
        messages.append(f"you talk to {user}")
        await external("call the model")
        return list(messages)


class _CopyingAssistant(_Assistant):
    def base(self) -> list[str]:
        return list(self.prompt)


async def _talk(assistant: _Assistant, user: int) -> list[str]:
    read = await assistant.answer(NAMES[user])
    assert read == ["be kind", f"you talk to {NAMES[user]}"], f"the model reads {read}"
    return read


PATTERN = Pattern(
    id="L08",
    title="shared prompt edited for one user",
    mechanism=(
        "The system prompt is a list in the module, and each run appends what it "
        "knows about its user; the model reads it to all later ones."
    ),
    fix=("Copy the prompt for each run."),
    areas=(Area.AGENT_STATE, Area.USER_CONTEXT),
    detectors=("explorer", "access", "swarm"),
    source="https://cwe.mitre.org/data/definitions/488.html",
    vulnerable=visits(_Assistant, _talk),
    safe=visits(_CopyingAssistant, _talk),
    module=__name__,
    needs=ANY_ORDER,
    hosted=Hosted(),
)
