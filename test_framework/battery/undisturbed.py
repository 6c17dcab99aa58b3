"""Gives back what is held, whoever cancels meanwhile."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def undisturbed(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Await to the end; a cancellation that comes meanwhile is raised after it.

    ``asyncio.shield`` alone goes on without anybody who waits for it: a connection
    would be used again while the answer is still on its way.

    Raises:
        asyncio.CancelledError: After the end, if somebody cancelled meanwhile.
    """
    task = asyncio.ensure_future(coroutine)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
