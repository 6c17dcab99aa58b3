"""P21: cached object handed out and edited.

alice                           bob
profile = await templates.profile(NAMES[user])
profile = self.hand_out()
return self.cached
profile.setdefault("name", user)
await external("render")
return profile
return profile
                                profile = await templates.profile(NAMES[user])
                                profile = self.hand_out()
                                return self.cached
                                profile.setdefault("name", user)
                                await external("render")
                                return profile
-> bob is called alice
"""

from test_framework.catalogue.pattern import ANY_ORDER, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Templates:
    """Caches the default profile, which each user fills in."""

    def __init__(self) -> None:
        self.cached = {"language": "en"}

    def hand_out(self) -> dict[str, str]:
        return self.cached

    async def profile(self, user: str) -> dict[str, str]:
        profile = self.hand_out()
        profile.setdefault("name", user)
        await external("render")
        return profile


class _CopyingTemplates(_Templates):
    def hand_out(self) -> dict[str, str]:
        return dict(self.cached)


async def _open_profile(templates: _Templates, user: int) -> dict[str, str]:
    profile = await templates.profile(NAMES[user])
    assert profile["name"] == NAMES[user], f"{NAMES[user]} is called {profile['name']}"
    return profile


PATTERN = Pattern(
    id="P21",
    title="cached object handed out and edited",
    mechanism=(
        "A cache returns the same mutable object to everybody, and one of them fills "
        "in what is theirs."
    ),
    fix="Return copies, or values that cannot be changed.",
    areas=(Area.USER_CONTEXT, Area.AGENT_STATE),
    detectors=("explorer", "access", "swarm"),
    source="https://cwe.mitre.org/data/definitions/374.html",
    vulnerable=visits(_Templates, _open_profile),
    safe=visits(_CopyingTemplates, _open_profile),
    module=__name__,
    needs=ANY_ORDER,
    hosted=Hosted(),
)
