"""L12: options of a call set on the shared client.

alice                           bob
                                await model.complete(NAMES[user])
                                self.api_key = f"key of {user}"
                                await external("wait for a slot")
await model.complete(NAMES[user])
self.api_key = f"key of {user}"
await external("wait for a slot")
                                self.billed.append((user, self.api_key))
self.billed.append((user, self.api_key))
-> the call of bob is paid with the key of alice
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Model:
    """A client of a model provider; the provider bills the key."""

    def __init__(self) -> None:
        self.api_key = ""
        self.billed: list[tuple[str, str]] = []

    async def complete(self, user: str) -> None:
        self.api_key = f"key of {user}"
        await external("wait for a slot")
        self.billed.append((user, self.api_key))


class _ArgumentModel(_Model):
    async def complete(self, user: str) -> None:
        api_key = f"key of {user}"
        await external("wait for a slot")
        self.billed.append((user, api_key))


async def _complete(model: _Model, user: int) -> None:
    await model.complete(NAMES[user])


def _keys_of(model: _Model, user: int) -> list[str]:
    return [key for caller, key in model.billed if caller == NAMES[user]]


def _callers_pay(model: _Model) -> None:
    for user, key in model.billed:
        assert key == f"key of {user}", f"the call of {user} is paid with the {key}"


PATTERN = Pattern(
    id="L12",
    title="options of a call set on the shared client",
    mechanism=(
        "The key of the tenant is written into the client, and the call that awaits a "
        "slot goes out with the key of whoever wrote last."
    ),
    fix=("Pass what differs between calls as arguments."),
    areas=(Area.AGENT_STATE, Area.USER_CONTEXT),
    detectors=("explorer", "access", "swarm"),
    source="https://cwe.mitre.org/data/definitions/488.html",
    vulnerable=visits(_Model, _complete, _callers_pay),
    safe=visits(_ArgumentModel, _complete, _callers_pay),
    module=__name__,
    hosted=Hosted(shown=_keys_of),
)
