"""A08: one-time token spent twice.

alice                           bob
                                await invitations.join(NAMES[user])
                                if await self.consume():
                                team = await self.codes.get("code")
await invitations.join(NAMES[user])
if await self.consume():
team = await self.codes.get("code")
                                await self.codes.pop("code")
await self.codes.pop("code")
                                return team
                                self.members.append(user)
return team
self.members.append(user)
-> a stranger joined the team
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, Store, visits


class _Invitations:
    """An invitation lets one person in."""

    def __init__(self) -> None:
        self.codes = Store(code="team of carol")
        self.members: list[str] = []

    async def consume(self) -> object:
        team = await self.codes.get("code")
        await self.codes.pop("code")
        return team

    async def join(self, user: str) -> None:
        if await self.consume():
            self.members.append(user)


class _AtomicInvitations(_Invitations):
    async def consume(self) -> object:
        return await self.codes.pop("code")


async def _join(invitations: _Invitations, user: int) -> None:
    await invitations.join(NAMES[user])


def _one_joined(invitations: _Invitations) -> None:
    assert len(invitations.members) == 1, "a stranger joined the team"


PATTERN = Pattern(
    id="A08",
    title="one-time token spent twice",
    mechanism="The token is read and then deleted, and two find it.",
    fix=("Delete it and look at what was deleted, with DELETE RETURNING or GETDEL."),
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "checkers"),
    source="https://github.com/juanifioren/django-oidc-provider/issues/410",
    vulnerable=visits(_Invitations, _join, _one_joined),
    safe=visits(_AtomicInvitations, _join, _one_joined),
    module=__name__,
    hosted=Hosted(shown=lambda invitations, _: len(invitations.members)),
)
