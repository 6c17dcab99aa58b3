"""Sessions, transactions and pipelines that more than one task works with."""

import asyncio

from test_framework.explore import external


class Wire:
    """Refuses a second reader, as StreamReader and asyncpg do."""

    def __init__(self) -> None:
        self.is_reading = False

    async def call(self, request: str) -> str:
        """Send a request and read its reply; one at a time."""
        if self.is_reading:
            raise RuntimeError("another operation is in progress")
        self.is_reading = True
        try:
            await external(request)
            return f"reply to {request}"
        finally:
            self.is_reading = False


class Database:
    """Keeps one connection for everybody."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.lock = asyncio.Lock()

    async def query(self, statement: str) -> str:
        """Run a statement."""
        return await self.wire.call(statement)
