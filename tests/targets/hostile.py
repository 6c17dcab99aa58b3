"""Services that behave badly, each in one way, in plain ASGI.

``HOSTILE`` names the way for ``GET /notes``: ``endless`` (a body without an end) or
``raw500`` (an error answer after which the server hangs up unannounced, for writes
that are malformed).
"""

import asyncio
import os
from typing import Any

from tests.targets.notes import Message, Notes


class Hostile(Notes):
    """The notes service with one bad habit."""

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI
        """Answer one request."""
        habit = os.environ.get("HOSTILE")
        what = (scope["type"], scope.get("method"), scope.get("path"))
        if habit == "endless" and what == ("http", "GET", "/notes"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send(
                    {
                        "type": "http.response.body",
                        "body": b"x" * 2**20,
                        "more_body": True,
                    }
                )
                await asyncio.sleep(0)
        if habit == "raw500" and what == ("http", "POST", "/notes"):
            body = b""
            while (message := await receive()).get("more_body"):
                body += message["body"]
            body += message.get("body", b"")
            if b'"text"' not in body:
                await send(
                    {"type": "http.response.start", "status": 500, "headers": []}
                )
                await send({"type": "http.response.body", "body": b"oops"})
                # As Starlette does after its own answer: uvicorn then hangs up.
                message_text = "the handler failed"
                raise RuntimeError(message_text)

            async def again() -> Message:
                return {"type": "http.request", "body": body, "more_body": False}

            await super().__call__(scope, again, send)
            return
        await super().__call__(scope, receive, send)


def create_app() -> Hostile:
    """Return the service."""
    return Hostile()
