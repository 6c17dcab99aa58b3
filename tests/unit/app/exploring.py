"""What the explored suites of the service share: clients that leave, once or twice."""

import asyncio
from collections.abc import Awaitable

from test_framework.explore import Report, external

USERS_ALONE = "user[[]?]"
"""The tasks of users without those that they start, which no client can cancel."""


async def left_twice(work: Awaitable[object]) -> None:
    """Do some work in a task that is cancelled at two instants, whichever they are.

    A fault of the explorer is one cancellation. Two meet when a client disconnects and
    the server, or a timeout around it, ends the request meanwhile.
    """
    task = asyncio.current_task()
    assert task is not None

    async def leave(task: "asyncio.Task[object]") -> None:
        for _ in range(2):
            await external("leave")
            task.cancel()

    leaving = asyncio.create_task(leave(task))
    try:
        await work
    finally:
        leaving.cancel()


def assert_found(report: Report, kind: str, words: str = "") -> None:
    """Check that a twin's mistake was found, as this kind of failure."""
    assert report.witness is not None, report.text()
    failure = report.witness.failure
    assert failure.kind == kind, report.text()
    assert words in failure.message, report.text()
