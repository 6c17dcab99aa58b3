"""What the explored suites of the service share: clients that leave, once or twice."""

import asyncio
from collections.abc import Awaitable

from test_framework.explore import Report, external

USERS_ALONE = "user[?]"
"""The tasks of users without those that they start, which no client can cancel."""


async def left(work: Awaitable[object], *, times: int) -> None:
    """Do some work in a task that is cancelled so often, at whichever instants.

    A fault of the explorer is one cancellation, as soon as a task waits or when its
    answer has come. This one also comes in between, when what is awaited has gone a
    part of its way. Two come when a client disconnects and the server, or a timeout
    around it, ends the request meanwhile.
    """
    task = asyncio.current_task()
    assert task is not None

    async def leave(task: "asyncio.Task[object]") -> None:
        for _ in range(times):
            await external("leave")
            task.cancel()

    leaving = asyncio.create_task(leave(task))
    try:
        await work
    except asyncio.CancelledError:
        # As it was meant to be: for the explorer nobody was cancelled.
        pass
    finally:
        leaving.cancel()


def assert_found(report: Report, kind: str, words: str = "") -> None:
    """Check that a twin's mistake was found, as this kind of failure."""
    assert report.witness is not None, report.text()
    failure = report.witness.failure
    assert failure.kind == kind, report.text()
    assert words in failure.message, report.text()
