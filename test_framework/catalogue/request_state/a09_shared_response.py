"""A09: cookie of another user in the response.

alice                           bob
                                cookie = (await server.log_in(NAMES[user]))["Set-Cook...
                                response = self.make_response()
                                return self.response
                                response["Set-Cookie"] = f"session of {user}"
                                await external("the socket is writable")
cookie = (await server.log_in(NAMES[user]))["Set-Cookie"]
response = self.make_response()
return self.response
response["Set-Cookie"] = f"session of {user}"
await external("the socket is writable")
                                return dict(response)
return dict(response)
return cookie
-> bob gets the session of alice
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Server:
    """Fills in a response and sends it."""

    def __init__(self) -> None:
        self.response: dict[str, str] = {}

    def make_response(self) -> dict[str, str]:
        return self.response

    async def log_in(self, user: str) -> dict[str, str]:
        response = self.make_response()
        response["Set-Cookie"] = f"session of {user}"
        await external("the socket is writable")
        return dict(response)


class _FreshServer(_Server):
    def make_response(self) -> dict[str, str]:
        return {}


async def _log_in(server: _Server, user: int) -> str:
    cookie = (await server.log_in(NAMES[user]))["Set-Cookie"]
    assert cookie == f"session of {NAMES[user]}", f"{NAMES[user]} gets the {cookie}"
    return cookie


PATTERN = Pattern(
    id="A09",
    title="cookie of another user in the response",
    mechanism=(
        "Response objects are reused to spare allocations, and the headers of one "
        "user are still in the object when it is sent to the next."
    ),
    fix=("Make a response for each request."),
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "access", "swarm"),
    source="https://github.blog/2021-03-18-how-we-found-and-fixed-a-rare-race-condition-in-our-session-handling/",
    vulnerable=visits(_Server, _log_in),
    safe=visits(_FreshServer, _log_in),
    module=__name__,
    hosted=Hosted(),
)
