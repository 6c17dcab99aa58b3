"""K04: deleted object resurrected by a late event.

alice                           bob
                                key = _Key("ci", uid=1)
                                if user:
                                await cache.on_delete(key)
                                self.deleted.add(key.uid)
                                self.keys.pop(key.name, None)
key = _Key("ci", uid=1)
if user:
await cache.on_change(key)
await external("SELECT permissions")
if not self.is_gone(key):
return False
self.keys[key.name] = key
-> a deleted key opens the door
"""

from dataclasses import dataclass

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


@dataclass(frozen=True)
class _Key:
    name: str
    uid: int


class _KeyCache:
    """API keys, as a watch of the database tells of them."""

    def __init__(self) -> None:
        self.keys: dict[str, _Key] = {}
        self.deleted: set[int] = set()

    def is_gone(self, key: _Key) -> bool:  # noqa: ARG002  # looked up by the twin
        return False

    async def on_change(self, key: _Key) -> None:
        await external("SELECT permissions")
        if not self.is_gone(key):
            self.keys[key.name] = key

    async def on_delete(self, key: _Key) -> None:
        self.deleted.add(key.uid)
        self.keys.pop(key.name, None)


class _UidKeyCache(_KeyCache):
    def is_gone(self, key: _Key) -> bool:
        return key.uid in self.deleted


async def _change_or_delete(cache: _KeyCache, user: int) -> None:
    key = _Key("ci", uid=1)
    if user:
        await cache.on_delete(key)
    else:
        await cache.on_change(key)


def _deleted_is_gone(cache: _KeyCache) -> None:
    for key in cache.keys.values():
        assert key.uid not in cache.deleted, "a deleted key opens the door"


PATTERN = Pattern(
    id="K04",
    title="deleted object resurrected by a late event",
    mechanism=("A change that is handled slowly puts back what was deleted meanwhile."),
    fix="Remember the uid of what was deleted and compare it.",
    areas=(Area.ENGINE_REGISTRY,),
    detectors=("explorer", "checkers"),
    source="https://github.com/kubernetes/kubernetes/issues/26084",
    vulnerable=visits(_KeyCache, _change_or_delete, _deleted_is_gone),
    safe=visits(_UidKeyCache, _change_or_delete, _deleted_is_gone),
    module=__name__,
    hosted=Hosted(shown=lambda cache, _: [*cache.keys]),
)
