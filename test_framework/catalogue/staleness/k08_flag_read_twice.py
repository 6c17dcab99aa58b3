"""K08: feature flag read twice.

alice                           bob
if user:
await flags.save("diary")
body = f"sealed {text}" if self.encrypts else text
await external("reserve space")
                                if user:
                                await external("the operator")
                                flags.encrypts = True
self.stored.append((body, self.encrypts))
-> plain text taken for sealed
"""

from test_framework.catalogue.pattern import Area, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Flags:
    """A feature flag that an operator turns on: data of a user is then encrypted."""

    def __init__(self) -> None:
        self.encrypts = False
        self.stored: list[tuple[str, bool]] = []

    async def save(self, text: str) -> None:
        body = f"sealed {text}" if self.encrypts else text
        await external("reserve space")
        self.stored.append((body, self.encrypts))


class _ReadOnceFlags(_Flags):
    async def save(self, text: str) -> None:
        encrypts = self.encrypts
        body = f"sealed {text}" if encrypts else text
        await external("reserve space")
        self.stored.append((body, encrypts))


async def _save_or_turn_on(flags: _Flags, user: int) -> None:
    if user:
        await external("the operator")
        flags.encrypts = True
    else:
        await flags.save("diary")


def _label_fits_body(flags: _Flags) -> None:
    for body, is_sealed in flags.stored:
        assert body.startswith("sealed") == is_sealed, "plain text taken for sealed"


PATTERN = Pattern(
    id="K08",
    title="feature flag read twice",
    mechanism=(
        "Two branches of one request ask for the flag and get different answers."
    ),
    fix="Read it once, at the start of the request.",
    areas=(Area.AGENT_STATE, Area.USER_CONTEXT),
    detectors=("explorer", "access"),
    source="https://cwe.mitre.org/data/definitions/367.html",
    vulnerable=visits(_Flags, _save_or_turn_on, _label_fits_body),
    safe=visits(_ReadOnceFlags, _save_or_turn_on, _label_fits_body),
    module=__name__,
)
