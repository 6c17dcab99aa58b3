"""Connections that go from one user to the next, with what was left on them."""

from collections import deque

from test_framework.explore import external


class Connection:
    """Answers in the order of the requests, whoever reads; as Redis and HTTP/1.1 do."""

    def __init__(self) -> None:
        self.replies: deque[str] = deque()
        self.tenant = ""

    async def call(self, request: str) -> str:
        """Send a request and read the next reply."""
        await external("send")
        self.replies.append(f"reply to {request}")
        await external("receive")
        return self.replies.popleft()
