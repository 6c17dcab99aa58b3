"""Probes: what tells of one user whether the service serves it.

By default what the user has read before and got its own canary from, sent again as
bytes; an audit file may bring a hook of its own (``probe``), for a service whose reads
say little. A probe counts only when it succeeded before the fault, the steady state
that has to come back.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from test_framework.clients.http import send_again
from test_framework.core import UsageError

if TYPE_CHECKING:
    from test_framework.clients.routes import WireRequest
    from test_framework.swarm.plan import Hook
    from test_framework.swarm.scene import Scene
    from test_framework.swarm.user import User

PROBE_LIMIT_S = 5.0
"""Whoever waits longer is not served."""

PROBED_READS = 3
STEADY_TRIES = 3

Probe = Callable[[], Awaitable[bool]]
"""Tells whether its user is served now."""


async def find_probes(scene: "Scene") -> dict[int, Probe]:
    """Return a probe of each user who is served now, by the number of the user.

    Raises:
        UsageError: The hook ``probe`` is wrong.
    """
    found: dict[int, Probe] = {}

    async def look(user: "User") -> None:
        probe = await _steady_probe(scene, user)
        if probe is not None:
            found[user.index] = probe

    await asyncio.gather(*(look(user) for user in scene.users))
    return dict(sorted(found.items()))


async def _steady_probe(scene: "Scene", user: "User") -> Probe | None:
    hook = scene.plan.probe
    if hook is not None:
        probe = _hooked(user, hook)
        for _ in range(STEADY_TRIES):
            if await probe():
                return probe
        return None
    steady: list[WireRequest] = []
    for _, request in sorted(user.caller.reads.items()):
        if len(steady) < PROBED_READS and await _is_answered(scene, user, request):
            steady.append(request)
    return _reading(scene, user, steady) if steady else None


def _hooked(user: "User", hook: "Hook") -> Probe:
    async def probe() -> bool:
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                await hook(user)
        except UsageError:
            raise
        except Exception:  # noqa: BLE001  # whatever it raises: the user is not served
            return False
        return True

    return probe


def _reading(scene: "Scene", user: "User", requests: "list[WireRequest]") -> Probe:
    async def probe() -> bool:
        answers = await asyncio.gather(
            *(_is_answered(scene, user, request) for request in requests)
        )
        return all(answers)

    return probe


async def _is_answered(scene: "Scene", user: "User", request: "WireRequest") -> bool:
    operation = await send_again(
        scene.recorder, user.caller, request, timeout_s=PROBE_LIMIT_S
    )
    return operation.outcome == "ok"
