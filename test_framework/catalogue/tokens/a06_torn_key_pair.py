"""A06: certificate and key of different ages.

alice                           bob
if user:
await external("a client connects")
                                if user:
                                await store.rotate()
                                self.pair["certificate"] = 2
                                await external("write the key file")
pair = store.pair
                                self.pair["key"] = 2
                                return None
-> the handshake of every client fails
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Store:
    """Certificate and key of the service."""

    def __init__(self) -> None:
        self.pair = {"certificate": 1, "key": 1}

    async def rotate(self) -> None:
        self.pair["certificate"] = 2
        await external("write the key file")
        self.pair["key"] = 2


class _SwappingStore(_Store):
    async def rotate(self) -> None:
        pair = {"certificate": 2, "key": 2}
        await external("write the key file")
        self.pair = pair


async def _rotate_or_load(store: _Store, user: int) -> dict[str, int] | None:
    if user:
        await store.rotate()
    else:
        await external("a client connects")
        pair = store.pair
        assert pair["certificate"] == pair["key"], "the handshake of every client fails"
        return pair
    return None


PATTERN = Pattern(
    id="A06",
    title="certificate and key of different ages",
    mechanism=(
        "A rotation replaces the certificate and then the key, and who loads both "
        "meanwhile gets a pair that does not fit."
    ),
    fix=("Make the new pair aside and swap one reference."),
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer",),
    source="https://cwe.mitre.org/data/definitions/362.html",
    vulnerable=visits(_Store, _rotate_or_load),
    safe=visits(_SwappingStore, _rotate_or_load),
    module=__name__,
    hosted=Hosted(),
)
