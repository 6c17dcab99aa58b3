"""A service with one path that blocks its loop and a sibling that does not."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

NAP_S = 0.03


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    """Sleep as the path says, then answer."""
    if scope["type"] == "lifespan":
        await receive()
        # Harms nobody: no user is there yet.
        nap()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/blocks":
        nap()
    else:
        await asyncio.to_thread(nap)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def nap() -> None:
    """Block for a moment."""
    time.sleep(NAP_S)  # noqa: TID251  # the defect that is looked for
