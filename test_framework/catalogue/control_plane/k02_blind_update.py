"""K02: update without a version check.

alice                           bob
                                await objects.patch(("owner", "limit")[user], "set")
                                found = await self.api.get("workspace")
await objects.patch(("owner", "limit")[user], "set")
found = await self.api.get("workspace")
                                await self.api.set("workspace", found | {key: value})
await self.api.set("workspace", found | {key: value})
-> a change is lost
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import Store, visits


class _Objects:
    """An API server: controllers read an object and write it back."""

    def __init__(self) -> None:
        self.api = Store(workspace={"owner": "", "limit": ""})

    async def patch(self, key: str, value: str) -> None:
        found = await self.api.get("workspace")
        await self.api.set("workspace", found | {key: value})


class _VersionedObjects(_Objects):
    async def patch(self, key: str, value: str) -> None:
        while True:
            found = await self.api.get("workspace")
            if await self.api.swap("workspace", found, found | {key: value}):
                return


async def _patch(objects: _Objects, user: int) -> None:
    await objects.patch(("owner", "limit")[user], "set")


def _both_patched(objects: _Objects) -> None:
    found = objects.api.data["workspace"]
    assert found == {"owner": "set", "limit": "set"}, "a change is lost"


PATTERN = Pattern(
    id="K02",
    title="update without a version check",
    mechanism=(
        "Two controllers write whole objects back, and the last one undoes the other."
    ),
    fix="Send the version that was read, and try again on conflict.",
    areas=(Area.ENGINE_REGISTRY,),
    detectors=("explorer", "checkers"),
    source="https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions",
    vulnerable=visits(_Objects, _patch, _both_patched),
    safe=visits(_VersionedObjects, _patch, _both_patched),
    module=__name__,
    hosted=Hosted(shown=lambda objects, _: objects.api.data["workspace"]),
)
