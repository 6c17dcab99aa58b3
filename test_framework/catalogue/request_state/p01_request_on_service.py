"""P01: request state on a shared service.

alice                           bob
                                got = await mailbox.letters(NAMES[user])
                                self.user = user
                                await external("verify the session")
got = await mailbox.letters(NAMES[user])
self.user = user
await external("verify the session")
                                return f"letters of {self.user}"
return f"letters of {self.user}"
return got
-> bob got letters of alice
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Mailbox:
    """Made once when the service starts."""

    def __init__(self) -> None:
        self.user = ""

    async def letters(self, user: str) -> str:
        self.user = user
        await external("verify the session")
        return f"letters of {self.user}"


class _StatelessMailbox(_Mailbox):
    async def letters(self, user: str) -> str:
        await external("verify the session")
        return f"letters of {user}"


async def _read_letters(mailbox: _Mailbox, user: int) -> str:
    got = await mailbox.letters(NAMES[user])
    assert got == f"letters of {NAMES[user]}", f"{NAMES[user]} got {got}"
    return got


PATTERN = Pattern(
    id="P01",
    title="request state on a shared service",
    mechanism=(
        "A handler keeps its user on the service object and reads it back after an "
        "await, when it is the user of a later request."
    ),
    fix="Pass it as an argument.",
    areas=(Area.AGENT_STATE, Area.USER_CONTEXT),
    detectors=("explorer", "access", "swarm"),
    source="https://github.com/inclusionAI/Avernet/pull/877",
    vulnerable=visits(_Mailbox, _read_letters),
    safe=visits(_StatelessMailbox, _read_letters),
    module=__name__,
    hosted=Hosted(),
)
