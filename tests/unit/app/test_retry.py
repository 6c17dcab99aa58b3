"""Coming back: as late as asked for, and not for ever."""

import random

import pytest

from app.llm import ModelBusyError, ModelUnavailableError, Retry


class Provider:
    """Is busy so many times.

    Attributes:
        slept: What was waited, in seconds.
    """

    def __init__(self, *errors: Exception) -> None:
        """Meet calls with these errors, then answer."""
        self._errors = list(errors)
        self.slept: list[float] = []

    async def __call__(self) -> str:
        """Answer."""
        if self._errors:
            raise self._errors.pop(0)
        return "answer"

    async def sleep(self, seconds: float) -> None:
        """Wait no longer than it takes to write it down."""
        self.slept.append(seconds)

    def retry(self) -> Retry:
        """Return the policy under test."""
        return Retry(
            attempts=3, longest_wait_s=10, rng=random.Random(1), sleep=self.sleep
        )


def _busy(after_s: float | None) -> ModelBusyError:
    return ModelBusyError("busy", retry_after_s=after_s)


async def test_named_time_is_waited() -> None:
    """Never earlier than the provider asks, and a little later than others."""
    provider = Provider(_busy(2.0), _busy(3.0))

    assert await provider.retry().run(provider) == "answer"

    first, second = provider.slept
    assert 2.0 <= first <= 2.25
    assert 3.0 <= second <= 3.25


async def test_unnamed_time_doubles() -> None:
    """Without a time the waits grow, each drawn within its half."""
    provider = Provider(_busy(None), _busy(None))

    assert await provider.retry().run(provider) == "answer"

    first, second = provider.slept
    assert 0.25 <= first <= 0.5 <= second <= 1.0


@pytest.mark.parametrize(
    ("errors", "slept"),
    [
        ([_busy(1.0)] * 3, 2),
        ([_busy(60.0)], 0),
        ([ModelUnavailableError()], 0),
    ],
    ids=["always busy", "asks too much", "down"],
)
async def test_retries_are_bounded(errors: list[Exception], slept: int) -> None:
    """The last error is told when attempts or patience are used up."""
    provider = Provider(*errors)

    with pytest.raises(type(errors[0])):
        await provider.retry().run(provider)

    assert len(provider.slept) == slept
