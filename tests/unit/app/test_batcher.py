"""Batches: when they go out, and what becomes of members that are poison."""

import asyncio
from collections.abc import Mapping

import pytest

from app.llm import (
    Batcher,
    ModelError,
    ModelRejectedError,
    ModelUnavailableError,
)


class Provider:
    """Does batches; refuses any with poison in it.

    Attributes:
        batches: What came.
        error: What every batch meets.
        silent: Items that are not answered.
    """

    def __init__(self) -> None:
        """Have seen nothing."""
        self.batches: list[list[str]] = []
        self.error: Exception | None = None
        self.silent: set[str] = set()

    async def __call__(self, items: Mapping[int, str]) -> Mapping[int, str]:
        """Do a batch."""
        self.batches.append(list(items.values()))
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        if any("poison" in item for item in items.values()):
            message = "refused"
            raise ModelRejectedError(message)
        return {n: item.upper() for n, item in items.items() if item not in self.silent}


async def _submit_all(batcher: Batcher[str, str], items: list[str]) -> list[object]:
    return list(
        await asyncio.gather(*map(batcher.submit, items), return_exceptions=True)
    )


async def test_batch_goes_out_when_full() -> None:
    """A full batch does not wait for its time, the rest of the calls does."""
    provider = Provider()
    batcher = Batcher(provider, max_items=2, max_wait_s=0.01)

    assert await _submit_all(batcher, ["a", "b", "c"]) == ["A", "B", "C"]
    assert provider.batches == [["a", "b"], ["c"]]


async def test_poison_fails_its_member_alone() -> None:
    """Seven users get their results while the eighth hears that the item is refused."""
    provider = Provider()
    batcher = Batcher(provider, max_items=8)
    items = [*"abcde", "poison", *"fg"]

    results = await _submit_all(batcher, items)

    assert isinstance(results.pop(5), ModelRejectedError)
    assert results == list("ABCDEFG")
    assert len(provider.batches) == 7  # 8, twice 4, twice 2, twice 1


async def test_failing_batch_tells_each_member() -> None:
    """Every member gets an error object of its own: tracebacks name callers."""
    provider = Provider()
    provider.error = ModelUnavailableError("down")
    batcher = Batcher(provider, max_items=3)

    results = await _submit_all(batcher, ["a", "b", "c"])

    assert [str(result) for result in results] == ["down"] * 3
    assert len({id(result) for result in results}) == 3
    assert len(provider.batches) == 1


async def test_member_without_result_is_told() -> None:
    """A provider that leaves one out leaves no caller waiting."""
    provider = Provider()
    provider.silent = {"b"}

    results = await _submit_all(Batcher(provider, max_items=3), ["a", "b", "c"])

    assert results[::2] == ["A", "C"]
    assert isinstance(results[1], ModelError)


async def test_crash_of_the_processing_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A mistake in the code ends in an error for each, and a line in the log."""
    provider = Provider()
    provider.error = ZeroDivisionError()

    results = await _submit_all(Batcher(provider, max_items=2), ["a", "b"])

    assert [str(result) for result in results] == [
        "The batch failed (ZeroDivisionError)."
    ] * 2
    assert all(isinstance(result, ModelError) for result in results)
    assert "ZeroDivisionError" in caplog.text or not caplog.records


async def test_member_who_leaves_before_is_not_sent() -> None:
    """Who is cancelled before the batch goes out is not in it."""
    provider = Provider()
    batcher = Batcher(provider, max_items=3, max_wait_s=0.01)
    leaving = asyncio.create_task(batcher.submit("a"))
    await asyncio.sleep(0)

    leaving.cancel()
    await asyncio.wait({leaving})
    result = await batcher.submit("b")

    assert (result, provider.batches) == ("B", [["b"]])


async def test_closed_batcher_tells_those_who_wait() -> None:
    """Closing ends batches that are under way and takes no more items."""
    never = asyncio.Event()

    async def process(items: Mapping[int, str]) -> Mapping[int, str]:
        await never.wait()
        return items

    batcher = Batcher(process, max_items=2, max_wait_s=60)
    waiting = [asyncio.create_task(batcher.submit(item)) for item in "abc"]
    await asyncio.sleep(0)

    await batcher.aclose()

    for end in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(end, ModelError)
    with pytest.raises(ModelError, match="stops"):
        await batcher.submit("d")
