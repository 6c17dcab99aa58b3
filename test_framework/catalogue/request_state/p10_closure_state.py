"""P10: closure keeps state of a request.

alice                           bob
                                got = await render(NAMES[user])
                                locale = f"language of {user}"
                                await external("load the template")
got = await render(NAMES[user])
locale = f"language of {user}"
await external("load the template")
                                return locale
return locale
return got
-> bob got language of alice
"""

from collections.abc import Awaitable, Callable

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external

Render = Callable[[str], Awaitable[str]]


def _renderer() -> Render:
    """Make the view function that all requests call."""
    locale = ""

    async def render(user: str) -> str:
        nonlocal locale
        locale = f"language of {user}"
        await external("load the template")
        return locale

    return render


def _stateless_renderer() -> Render:
    async def render(user: str) -> str:
        locale = f"language of {user}"
        await external("load the template")
        return locale

    return render


async def _render_page(render: Render, user: int) -> str:
    got = await render(NAMES[user])
    assert got == f"language of {NAMES[user]}", f"{NAMES[user]} got {got}"
    return got


PATTERN = Pattern(
    id="P10",
    title="closure keeps state of a request",
    mechanism=(
        "A view made by a factory keeps a value in a nonlocal variable, of which there "
        "is one for all requests."
    ),
    fix="Make it a local of the view.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "access", "swarm"),
    source="https://cwe.mitre.org/data/definitions/488.html",
    vulnerable=visits(_renderer, _render_page),
    safe=visits(_stateless_renderer, _render_page),
    module=__name__,
    hosted=Hosted(),
)
