"""L11: callbacks registered for everybody.

alice                           bob
                                name = NAMES[user]
                                got = await library.run(name)
                                got: list[str] = []
                                self.callbacks.append(got.append)
                                await self.generate(user, got.append)
                                await external("next token")
name = NAMES[user]
got = await library.run(name)
got: list[str] = []
self.callbacks.append(got.append)
await self.generate(user, got.append)
await external("next token")
                                for callback in self.callbacks:
                                callback(f"token for {user}")
                                for callback in self.callbacks:
                                callback(f"token for {user}")
                                for callback in self.callbacks:
                                await external("the answer is read")
for callback in self.callbacks:
callback(f"token for {user}")
for callback in self.callbacks:
callback(f"token for {user}")
for callback in self.callbacks:
await external("the answer is read")
                                self.callbacks.remove(got.append)
                                return got
self.callbacks.remove(got.append)
return got
-> alice got ['token for bob', 'token for alice']
"""

from collections.abc import Callable

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external

Callback = Callable[[str], None]


class _Library:
    """Tells callbacks about tokens."""

    def __init__(self) -> None:
        self.callbacks: list[Callback] = []

    async def generate(self, user: str, own: Callback) -> None:  # noqa: ARG002  # the twin's
        await external("next token")
        for callback in self.callbacks:
            callback(f"token for {user}")

    async def run(self, user: str) -> list[str]:
        got: list[str] = []
        self.callbacks.append(got.append)
        try:
            await self.generate(user, got.append)
            await external("the answer is read")
        finally:
            self.callbacks.remove(got.append)
        return got


class _PassingLibrary(_Library):
    async def generate(self, user: str, own: Callback) -> None:
        await external("next token")
        own(f"token for {user}")


async def _run(library: _Library, user: int) -> list[str]:
    name = NAMES[user]
    got = await library.run(name)
    assert got == [f"token for {name}"], f"{name} got {got}"
    return got


PATTERN = Pattern(
    id="L11",
    title="callbacks registered for everybody",
    mechanism=(
        "A run registers its callback with the library, which calls all of them for "
        "every token of every run."
    ),
    fix=("Pass the callbacks of a run along with its call."),
    areas=(Area.AGENT_STATE, Area.WEBSOCKET),
    detectors=("explorer", "access", "swarm"),
    source="https://python.langchain.com/docs/concepts/callbacks/",
    vulnerable=visits(_Library, _run),
    safe=visits(_PassingLibrary, _run),
    module=__name__,
    hosted=Hosted(),
)
