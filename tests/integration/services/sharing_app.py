"""A service that keeps who asks on an object of all, and a sibling that does not."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

WORK_S = 0.1


class Greeter:
    """One for all requests."""

    def __init__(self) -> None:
        self.name = b""

    async def greet(self, name: bytes) -> bytes:
        """Return a greeting, of whoever asked last."""
        self.name = name
        await asyncio.sleep(WORK_S)
        return b"hello " + self.name

    async def greet_rightly(self, name: bytes) -> bytes:
        """Return a greeting."""
        await asyncio.sleep(WORK_S)
        return b"hello " + name


greeter = Greeter()


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    """Greet as the path says."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    name = scope["query_string"]
    is_right = scope["path"] == "/right"
    greet = greeter.greet_rightly if is_right else greeter.greet
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": await greet(name)})
