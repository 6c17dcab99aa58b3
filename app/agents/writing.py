"""An answer while it is being written, told in parts and not in pieces.

A model sends a word at a time, and an event is a script of Redis, kept for days and sent
to every socket of its user. So what has come is told together, at most once a second: an
answer that takes less costs no event, and a run no more of them than it takes seconds.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable

from app.llm import ModelError, Reply

TELL_EVERY_S = 1.0
"""The least time from the first piece to a part, and between two parts, in seconds."""


async def read_telling(
    pieces: AsyncIterator[str | Reply],
    tell: Callable[[str], Awaitable[None]],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Reply:
    """Return the reply at the end of a stream, and tell of its text on the way.

    The parts are the text in its order without gaps. What comes after the last one is
    not told: it is in the reply.

    Args:
        pieces: The stream; the caller closes it.
        tell: Takes the next part of the text.
        clock: Tells the time, in seconds.

    Raises:
        ModelError: The stream has no reply.
    """
    untold: list[str] = []
    told_at: float | None = None
    async for piece in pieces:
        if isinstance(piece, Reply):
            return piece
        untold.append(piece)
        if told_at is None:
            told_at = clock()  # not before: the wait for an answer is no part of it
        if clock() - told_at >= TELL_EVERY_S:
            await tell("".join(untold))
            untold.clear()
            told_at = clock()
    message = "The model's stream ended without a reply. Try again."
    raise ModelError(message)
