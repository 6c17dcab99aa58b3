"""P16: index kept across await.

alice                           bob
gone = await lobby.leave(NAMES[user])
index = self.waiting.index(user)
await external("tell the friends")
                                gone = await lobby.leave(NAMES[user])
                                index = self.waiting.index(user)
                                await external("tell the friends")
return self.waiting.pop(index)
                                return self.waiting.pop(index)
-> bob threw carol out
"""

from test_framework.catalogue.pattern import Area, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Lobby:
    """Players wait for a match and may leave."""

    def __init__(self) -> None:
        self.waiting = list(NAMES)

    async def leave(self, user: str) -> str:
        index = self.waiting.index(user)
        await external("tell the friends")
        return self.waiting.pop(index)


class _NamedLobby(_Lobby):
    async def leave(self, user: str) -> str:
        await external("tell the friends")
        return self.waiting.pop(self.waiting.index(user))


async def _leave(lobby: _Lobby, user: int) -> None:
    gone = await lobby.leave(NAMES[user])
    assert gone == NAMES[user], f"{NAMES[user]} threw {gone} out"


PATTERN = Pattern(
    id="P16",
    title="index kept across await",
    mechanism=(
        "A position is found, something is awaited, and another user stands at that "
        "position."
    ),
    fix="Look it up again after the await.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "access"),
    source="https://cwe.mitre.org/data/definitions/367.html",
    vulnerable=visits(_Lobby, _leave),
    safe=visits(_NamedLobby, _leave),
    module=__name__,
)
