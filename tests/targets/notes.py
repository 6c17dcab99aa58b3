"""A small sound service in plain ASGI: notes of users, nothing to install.

``POST /login`` {name} -> {token, user_id}; ``POST /notes`` {text}; ``GET /notes``;
``DELETE /notes``.
Environment variables make it fail in one way each: ``NOTES_REFUSE_LOGIN``,
``NOTES_DIE_AFTER`` (requests), ``NOTES_SERIAL`` (one request at a time, each for so many
milliseconds), ``NOTES_LEAK_WHILE`` (a file: as long as it exists, users get the latest
note of all), ``NOTES_KEEP_IDS`` (ids of notes outlive their users). ``NOTES_WORK`` is how many milliseconds each takes beside the others.
"""

import asyncio
import json
import os
import uuid
from pathlib import Path
from typing import Any

Message = dict[str, Any]


class Notes:
    """The service; its state is its own and goes with it."""

    def __init__(self) -> None:
        self._users: dict[str, str] = {}
        self._notes: dict[str, list[str]] = {}
        self._handled = 0
        self._latest: list[str] = []
        self.issued: list[uuid.UUID] = []
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI
        """Answer one request."""
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"].removeprefix("lifespan.")
                await send({"type": f"lifespan.{kind}.complete"})
                if kind == "shutdown":
                    return
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self._handled += 1
        if self._handled > int(os.environ.get("NOTES_DIE_AFTER", "1000000")):
            os._exit(7)
        if "NOTES_SERIAL" in os.environ:
            async with self._turn:
                await asyncio.sleep(float(os.environ["NOTES_SERIAL"]) / 1000)
        status, answer = self._route(scope, body)
        await asyncio.sleep(float(os.environ.get("NOTES_WORK", "2")) / 1000)
        content = json.dumps(answer).encode()
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(content)).encode()),
                ],
            }
        )
        await send({"type": "http.response.body", "body": content})

    def _route(self, scope: Message, body: bytes) -> tuple[int, object]:
        what = f"{scope['method']} {scope['path']}"
        if what == "POST /login":
            if "NOTES_REFUSE_LOGIN" in os.environ:
                return 403, {"detail": "nobody may enter"}
            # The token is the user's id, signed by nobody: enough for a test.
            user = str(uuid.uuid5(uuid.NAMESPACE_URL, json.loads(body)["name"]))
            return 200, {"token": user, "user_id": user}
        headers = dict(scope["headers"])
        user = headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
        if not user:
            return 401, {"detail": "log in first"}
        if what == "GET /notes":
            leak = os.environ.get("NOTES_LEAK_WHILE")
            latest = self._latest if leak and Path(leak).exists() else []
            return 200, [*self._notes.get(user, []), *latest]
        if what == "DELETE /notes":
            return 200, len(self._notes.pop(user, []))
        if what == "POST /notes":
            try:
                text = json.loads(body)["text"]
            except (ValueError, KeyError):
                return 422, {"detail": "text is missing"}
            self._notes.setdefault(user, []).append(text)
            if "NOTES_LEAK_WHILE" in os.environ:
                self._latest = [text]
            number = uuid.uuid4()
            if "NOTES_KEEP_IDS" in os.environ:
                self.issued.append(number)
            return 201, {"id": str(number), "text": text}
        return 404, {"detail": "there is nothing here"}


def create_app() -> Notes:
    """Return the service."""
    return Notes()
