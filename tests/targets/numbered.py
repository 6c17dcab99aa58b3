"""The notes service with notes that are read by their numbers, in plain ASGI.

``GET /notes/{number}`` answers the note to its owner; with ``NUMBERED_FOR=anyone`` to
whoever is logged in, which is broken object-level authorization. Numbers count up, or
are hexadecimal with ``NUMBERED_IN=hex``.
"""

import json
import os

from tests.targets.notes import Message, Notes


class Numbered(Notes):
    """Keeps each note with its owner under a number."""

    def __init__(self) -> None:
        super().__init__()
        self._by_number: dict[str, tuple[str, str]] = {}

    def _route(self, scope: Message, body: bytes) -> tuple[int, object]:
        status, answer = super()._route(scope, body)
        headers = dict(scope["headers"])
        user = headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
        if status == 201:  # a note was created
            number = str(len(self._by_number) + 1)
            if os.environ.get("NUMBERED_IN") == "hex":
                number = f"{int(number) * 0x9E3779B97F4A7C15 % 2**64:016x}"
            text = json.loads(body)["text"]
            self._by_number[number] = (user, text)
            return status, {"id": number}
        if status == 404 and scope["method"] == "GET":
            number = scope["path"].removeprefix("/notes/")
            owner, text = self._by_number.get(number, ("", ""))
            if owner and (user == owner or os.environ.get("NUMBERED_FOR") == "anyone"):
                return 200, {"id": number, "text": text}
        return status, answer


def create_app() -> Numbered:
    """Return the service."""
    return Numbered()
