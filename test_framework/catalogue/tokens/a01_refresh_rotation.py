"""A01: parallel refresh-token rotation.

alice                           bob
token = browser.token
await external("decide that the access token is too old")
rotated = await browser.family.rotate(token)
current = await self.current.get("token")
                                token = browser.token
                                await external("decide that the access token is too o...
if token != current:
await self.current.set("token", token + 1)
                                rotated = await browser.family.rotate(token)
                                current = await self.current.get("token")
return token + 1
browser.token = max(browser.token, rotated)
return rotated is not None
                                if token != current:
                                return None
-> an honest tab is taken for a thief
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import Store, visits
from test_framework.explore import external


class _Family:
    """Refresh tokens: each is good for one use; a second one looks like theft."""

    def __init__(self) -> None:
        self.current = Store(token=0)

    async def rotate(self, token: int) -> int | None:
        current = await self.current.get("token")
        if token != current:
            return None
        await self.current.set("token", token + 1)
        return token + 1


class _GracefulFamily(_Family):
    async def rotate(self, token: int) -> int | None:
        if await self.current.swap("token", token, token + 1):
            return token + 1
        # The same browser, within the grace time, is given what its other tab has got.
        current: int = await self.current.get("token")
        return current if current == token + 1 else None


class _Browser:
    """Two tabs that share one refresh token."""

    def __init__(self, family: _Family) -> None:
        self.family = family
        self.token = 0


def _browser() -> _Browser:
    return _Browser(_Family())


def _graceful_browser() -> _Browser:
    return _Browser(_GracefulFamily())


async def _refresh_tab(browser: _Browser, user: int) -> bool:  # noqa: ARG001  # any tab
    token = browser.token
    await external("decide that the access token is too old")
    rotated = await browser.family.rotate(token)
    assert rotated is not None, "an honest tab is taken for a thief"
    browser.token = max(browser.token, rotated)  # never back to an older one
    return rotated is not None


PATTERN = Pattern(
    id="A01",
    title="parallel refresh-token rotation",
    mechanism=(
        "Two tabs refresh with the same token, the second looks like theft, and the "
        "user is logged out."
    ),
    fix="Rotate atomically, with a time of grace.",
    areas=(Area.USER_CONTEXT,),
    detectors=(
        "explorer",
        "checkers",
    ),
    source="https://github.com/nightscout/nocturne/pull/326",
    vulnerable=visits(_browser, _refresh_tab),
    safe=visits(_graceful_browser, _refresh_tab),
    module=__name__,
    hosted=Hosted(),
    beyond={"swarm": "both tabs are of one user"},
)
