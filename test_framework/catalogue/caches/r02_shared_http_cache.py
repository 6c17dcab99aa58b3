"""R02: answer for one user kept by a cache for all.

alice                           bob
got = await proxy.get("/me", NAMES[user])
if url in self.kept:
await external("forward the request")
answer, headers = f"page of {user}", self.headers()
return {}
if headers.get("Cache-Control") != "private":
self.kept[url] = answer
return answer
return got
                                got = await proxy.get("/me", NAMES[user])
                                if url in self.kept:
                                return self.kept[url]
-> bob sees the page of alice
"""

from test_framework.catalogue.pattern import ANY_ORDER, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Proxy:
    """Keeps answers by their URL, unless they say that they are private."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def headers(self) -> dict[str, str]:
        return {}

    async def get(self, url: str, user: str) -> str:
        if url in self.kept:
            return self.kept[url]
        await external("forward the request")
        answer, headers = f"page of {user}", self.headers()
        if headers.get("Cache-Control") != "private":
            self.kept[url] = answer
        return answer


class _PrivateProxy(_Proxy):
    def headers(self) -> dict[str, str]:
        return {"Cache-Control": "private"}


async def _open_page(proxy: _Proxy, user: int) -> str:
    got = await proxy.get("/me", NAMES[user])
    assert got == f"page of {NAMES[user]}", f"{NAMES[user]} sees the {got}"
    return got


PATTERN = Pattern(
    id="R02",
    title="answer for one user kept by a cache for all",
    mechanism=(
        "A proxy keeps an answer by its URL, for the service has not said that it "
        "differs from user to user."
    ),
    fix=("Send Cache-Control: private or no-store with what belongs to a user."),
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "swarm"),
    source="CVE-2023-30861",
    vulnerable=visits(_Proxy, _open_page),
    safe=visits(_PrivateProxy, _open_page),
    module=__name__,
    needs=ANY_ORDER,
    hosted=Hosted(),
)
