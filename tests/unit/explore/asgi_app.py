"""What the tests of Asgi share: small apps, and one visit in the order of plain asyncio."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from test_framework.explore import (
    Asgi,
)
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.schedule import Fidelity
from test_framework.explore.schedulers import Stock

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Handler = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]
Visit = Callable[[Asgi], Awaitable[object]]


async def answer(
    send: Send,
    body: bytes = b"",
    status: int = 200,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """Send a whole reply."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read(receive: Receive) -> bytes:
    """Return the whole content of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def mirror(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer with what was asked."""
    assert scope["type"] == "http"
    body = await read(receive)
    said = {
        "method": scope["method"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": [
            [name.decode(), value.decode()] for name, value in scope["headers"]
        ],
        "body": body.decode(),
        "scheme": scope["scheme"],
    }
    await answer(send, json.dumps(said).encode())


def run(
    app: Handler,
    visit: Visit,
    fidelity: Fidelity = Fidelity.FIFO,
    loop: ExplorationLoop | None = None,
    **options: Any,  # noqa: ANN401  # options of Asgi
) -> Any:  # noqa: ANN401  # what visit returns
    """Let one visit happen in the order of plain asyncio; return its result."""

    async def main() -> object:
        async with Asgi(app, **options) as asgi:
            return await visit(asgi)

    return (loop or ExplorationLoop(fidelity)).run(main(), Stock().begin)
