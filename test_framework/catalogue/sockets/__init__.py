"""WebSocket registries: who is connected, and who is it that a name stands for."""

from test_framework.explore import external


class Socket:
    """A connection of a user and what was sent over it."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.frames: list[str] = []
        self.is_open = True

    async def send(self, frame: str) -> None:
        """Send one frame."""
        await external("send")
        self.frames.append(frame)
