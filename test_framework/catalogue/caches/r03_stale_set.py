"""R03: stale value cached after invalidation.

alice                           bob
if user:
await addresses.read()
if "address" not in self.cache:
address = await self.table.get("address")
                                if user:
                                await addresses.write("new street")
                                await self.table.set("address", address)
await external("decode")
                                self.cache.pop("address", None)
                                self.version += 1
self.cache["address"] = address
return self.cache["address"]
-> stale for ever
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import Store, visits
from test_framework.explore import external


class _Addresses:
    """A cache before a table; writers drop the cached value."""

    def __init__(self) -> None:
        self.table = Store(address="old street")
        self.cache: dict[str, str] = {}
        self.version = 0

    async def read(self) -> str:
        if "address" not in self.cache:
            address = await self.table.get("address")
            await external("decode")
            self.cache["address"] = address
        return self.cache["address"]

    async def write(self, address: str) -> None:
        await self.table.set("address", address)
        self.cache.pop("address", None)
        self.version += 1


class _VersionedAddresses(_Addresses):
    async def read(self) -> str:
        if "address" in self.cache:
            return self.cache["address"]
        version = self.version
        address: str = await self.table.get("address")
        await external("decode")
        if version == self.version:
            self.cache["address"] = address
        return address


async def _read_or_move(addresses: _Addresses, user: int) -> None:
    if user:
        await addresses.write("new street")
    else:
        await addresses.read()


def _address(addresses: _Addresses, user: int) -> object:  # noqa: ARG001  # of all
    return addresses.cache.get("address", addresses.table.data["address"])


def _cache_is_fresh(addresses: _Addresses) -> None:
    cached = addresses.cache.get("address")
    assert cached in (None, addresses.table.data["address"]), "stale for ever"


PATTERN = Pattern(
    id="R03",
    title="stale value cached after invalidation",
    mechanism=(
        "A reader that began before the write puts the old value into the cache after "
        "the writer cleared it."
    ),
    fix="Compare a version before storing.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "checkers"),
    source="https://www.usenix.org/conference/nsdi13/technical-sessions/presentation/nishtala",
    vulnerable=visits(_Addresses, _read_or_move, _cache_is_fresh),
    safe=visits(_VersionedAddresses, _read_or_move, _cache_is_fresh),
    module=__name__,
    hosted=Hosted(shown=_address),
)
