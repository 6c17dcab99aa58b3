"""The telling of answers with its protection removed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from app.llm import Reply

_untold: list[str] = []


async def read_into_one_buffer(
    pieces: AsyncIterator[str | Reply], tell: Callable[[str], Awaitable[None]]
) -> Reply:
    """Gather what has come where all runs gather it."""
    async for piece in pieces:
        if isinstance(piece, Reply):
            return piece
        _untold.append(piece)
        await asyncio.sleep(0.01)  # as long as a model thinks
        part = "".join(_untold)
        _untold.clear()
        await tell(part)
    raise AssertionError
