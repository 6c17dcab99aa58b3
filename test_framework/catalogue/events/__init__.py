"""Events on their way to clients: buffered, broadcast, overtaken, missed."""

from test_framework.explore import external


class Socket:
    """A connection of a user and what was sent over it."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.frames: list[str] = []

    async def send(self, frame: str) -> None:
        """Send one frame."""
        await external("send")
        self.frames.append(frame)
