"""A14: shared outbound cookie jar.

alice                           bob
got = await client.fetch(NAMES[user])
jar = self.jar()
return self.cookies
await external("GET /mails")
session = jar.setdefault("session", user)
return f"mails of {session}"
return got
                                got = await client.fetch(NAMES[user])
                                jar = self.jar()
                                return self.cookies
                                await external("GET /mails")
                                session = jar.setdefault("session", user)
                                return f"mails of {session}"
-> bob reads the mails of alice
"""

from test_framework.catalogue.pattern import ANY_ORDER, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Client:
    """Calls a provider that knows its callers by a cookie."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}

    def jar(self) -> dict[str, str]:
        return self.cookies

    async def fetch(self, user: str) -> str:
        jar = self.jar()
        await external("GET /mails")
        session = jar.setdefault("session", user)  # Set-Cookie, unless one came
        return f"mails of {session}"


class _ForgetfulClient(_Client):
    def jar(self) -> dict[str, str]:
        return {}


async def _fetch(client: _Client, user: int) -> str:
    got = await client.fetch(NAMES[user])
    assert got == f"mails of {NAMES[user]}", f"{NAMES[user]} reads the {got}"
    return got


PATTERN = Pattern(
    id="A14",
    title="shared outbound cookie jar",
    mechanism=(
        "One HTTP client calls the same provider for all users and keeps the cookies "
        "of its answers; the call of the next user carries the session of the one "
        "before."
    ),
    fix=("Give each user a client, or the shared one a jar that keeps nothing."),
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "swarm", "static"),
    source="https://github.com/encode/httpx/issues/1359",
    vulnerable=visits(_Client, _fetch),
    safe=visits(_ForgetfulClient, _fetch),
    module=__name__,
    needs=ANY_ORDER,
    hosted=Hosted(),
)
