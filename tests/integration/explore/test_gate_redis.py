"""Exploration over a real Redis: orders of requests are decided, found and repeated."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import redis.asyncio

from test_framework.core import UsageError
from test_framework.explore import Conclusion, Scenario, explore, replay

pytestmark = [pytest.mark.integration, pytest.mark.slow]

Client = redis.asyncio.Redis
User = Callable[[Client, int], Coroutine[Any, Any, None]]


async def visits(client: Client) -> int:
    """Return the counter."""
    return int(await client.get("gate:visits") or 0)


async def add_by_reading_and_writing(client: Client, user: int) -> None:  # noqa: ARG001  # the face of a user
    """Count a visit in two requests."""
    await client.set("gate:visits", await visits(client) + 1)


async def add_at_once(client: Client, user: int) -> None:  # noqa: ARG001  # the face of a user
    """Count a visit in one request."""
    await client.incr("gate:visits")


def counting(redis_url: str, user: User) -> Scenario[Client]:
    """Return a scenario in which each user is counted once."""

    @contextlib.asynccontextmanager
    async def setup() -> AsyncIterator[Client]:
        client = Client.from_url(redis_url)
        try:
            await client.set("gate:visits", 0)
            yield client
            assert await visits(client) == 2
        finally:
            await client.aclose()

    return Scenario(setup, user, users=2)


@pytest.mark.power
def test_gate_finds_an_update_lost_in_redis(redis_url: str) -> None:
    """GET and SET of two users overlap in some order, and it is repeated."""
    scenario = counting(redis_url, add_by_reading_and_writing)

    report = explore(scenario, io="gate", seed=1)

    assert report.conclusion is Conclusion.FOUND, report.text()
    assert report.witness is not None
    assert report.witness.schedule.io == "gate"
    outcome = replay(scenario, report.witness.schedule.token())
    assert outcome.failure == report.witness.failure


@pytest.mark.power
def test_story_lists_which_request_of_which_user_left_when(redis_url: str) -> None:
    """Each with the line of the program, and nothing of what clients do to send it."""
    report = explore(counting(redis_url, add_by_reading_and_writing), io="gate", seed=1)

    assert report.witness is not None
    story = report.witness.story
    assert {line.task for line in story} == {"main", "user[0]", "user[1]"}
    sent = [
        (line.task, request, line.code)
        for line in story
        for request in line.requests
        if line.task != "main" and "gate:visits" in request
    ]
    # Both have read before the first of them writes.
    reads, writes = sent[:2], sent[2:]
    reading = 'return int(await client.get("gate:visits") or 0)'
    writing = 'await client.set("gate:visits", await visits(client) + 1)'
    users = ("user[0]", "user[1]")
    assert sorted(reads) == [(user, "GET gate:visits", reading) for user in users]
    assert sorted(writes) == [(user, "SET gate:visits", writing) for user in users]
    neighbours = itertools.pairwise((line.task, line.stop) for line in story)
    assert all(one != other for one, other in neighbours)
    assert "?" not in report.witness.text()


def test_gate_is_quiet_where_redis_counts_by_itself(redis_url: str) -> None:
    """INCR is one request, so no order loses one."""
    report = explore(counting(redis_url, add_at_once), io="gate", schedules=40, seed=1)

    assert report.witness is None, report.text()
    assert report.distinct > 5
    # Nor is it a proof of what Redis does with two requests at once.
    assert any("one at a time" in note for note in report.notes)


@pytest.mark.power
def test_live_finds_a_lost_update_and_does_not_claim_to_repeat_it(
    redis_url: str,
) -> None:
    """Noise is enough for this one; the report says that no schedule was kept.

    Over 12 seeds a run failed with odds of 0.1, so 200 runs miss it with 1e-9.
    """
    scenario = counting(redis_url, add_by_reading_and_writing)

    report = explore(scenario, io="live", schedules=200, budget="20s", seed=1)

    assert report.conclusion is Conclusion.FOUND, report.text()
    assert "cannot be repeated" in report.text()
    assert "Replay" not in report.text()
    assert report.witness is not None
    with pytest.raises(UsageError, match="real time"):
        replay(scenario, report.witness.schedule)


def test_live_is_quiet_where_redis_counts_by_itself(redis_url: str) -> None:
    """INCR loses nothing under noise either, and the verdict is no proof."""
    scenario = counting(redis_url, add_at_once)

    report = explore(scenario, io="live", schedules=20, budget="20s", seed=1)

    assert report.conclusion is Conclusion.SAMPLED, report.text()
    assert report.schedules == 20
