"""P20: default headers of a shared client changed per call.

alice                           bob
                                got = await client.files(NAMES[user])
                                self.headers["Authorization"] = user
                                await external("resolve the host")
got = await client.files(NAMES[user])
self.headers["Authorization"] = user
await external("resolve the host")
                                return await self.get()
                                sent = self.headers | (headers or {})
                                return f"files of {sent['Authorization']}"
return await self.get()
sent = self.headers | (headers or {})
return f"files of {sent['Authorization']}"
return got
-> bob got files of alice
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Client:
    """An HTTP client that all requests share; the upstream answers whoever is named."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    async def get(self, headers: dict[str, str] | None = None) -> str:
        sent = self.headers | (headers or {})
        return f"files of {sent['Authorization']}"

    async def files(self, user: str) -> str:
        self.headers["Authorization"] = user
        await external("resolve the host")
        return await self.get()


class _PerCallClient(_Client):
    async def files(self, user: str) -> str:
        await external("resolve the host")
        return await self.get({"Authorization": user})


async def _list_files(client: _Client, user: int) -> str:
    got = await client.files(NAMES[user])
    assert got == f"files of {NAMES[user]}", f"{NAMES[user]} got {got}"
    return got


PATTERN = Pattern(
    id="P20",
    title="default headers of a shared client changed per call",
    mechanism=(
        "A call writes its token into the headers of the shared client, and another "
        "call goes out with it."
    ),
    fix="Give headers to the call.",
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "access", "swarm"),
    source="https://cwe.mitre.org/data/definitions/567.html",
    vulnerable=visits(_Client, _list_files),
    safe=visits(_PerCallClient, _list_files),
    module=__name__,
    hosted=Hosted(),
)
