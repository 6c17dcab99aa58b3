"""Parts of an answer that is being written: whole, in order, and few."""

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import count

import pytest

from app.agents.writing import TELL_EVERY_S, read_telling
from app.llm import ModelError, Reply

TEXT = [f"{number} " for number in range(100)]


async def _stream(pieces: Sequence[str | Reply]) -> AsyncIterator[str | Reply]:
    for piece in pieces:
        yield piece


async def _told(
    pieces: Sequence[str | Reply], times: Iterator[float]
) -> tuple[list[str], Reply]:
    """Read a stream by a clock; return the parts that were told and the reply."""
    parts: list[str] = []

    async def tell(part: str) -> None:
        parts.append(part)

    return parts, await read_telling(_stream(pieces), tell, clock=times.__next__)


async def test_parts_are_the_text_without_gaps() -> None:
    """However slowly it comes, the parts and what is left are the text in its order."""
    reply = Reply("".join(TEXT))
    for step_s in (0.3, 1.0, 7.0):
        times = (step_s * number for number in count())

        parts, last = await _told([*TEXT, reply], times)

        assert last is reply
        assert reply.content.startswith("".join(parts))
        assert len(reply.content) - len("".join(parts)) <= len("".join(TEXT[-5:]))


async def test_parts_are_told_once_a_second_at_most() -> None:
    """A hundred pieces within twenty seconds are twenty parts at most, and not none."""
    asked = iter(range(10_000))
    times = (0.1 * next(asked) for _ in count())

    parts, _ = await _told([*TEXT, Reply("")], times)

    spent_s = 0.1 * next(asked)
    assert 2 <= len(parts) <= spent_s / TELL_EVERY_S


async def test_answer_that_is_there_at_once_is_not_told() -> None:
    """Its text is in the reply, and costs no event."""
    parts, reply = await _told([*TEXT, Reply("all")], (5.0 for _ in count()))

    assert (parts, reply.content) == ([], "all")


async def test_stream_without_a_reply_is_an_error() -> None:
    """What was told so far is no answer."""
    with pytest.raises(ModelError, match="without a reply"):
        await _told(TEXT, (0.0 for _ in count()))
