"""The pool of Redis connections, after the network has cut them."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from redis.asyncio import Redis

from app.cache import connect
from test_framework.faults import Proxy, proxying

pytestmark = [pytest.mark.integration]

CONNECTIONS = 5
LIMIT_S = 20.0


async def _fill(redis: Redis) -> None:
    """Open every connection of the pool: all are needed at one time."""
    await asyncio.gather(
        *(redis.blpop([f"nothing-{n}"], timeout=0.1) for n in range(CONNECTIONS))
    )


async def _failures(redis: Redis) -> list[BaseException]:
    answers = await asyncio.gather(
        *(redis.ping() for _ in range(2 * CONNECTIONS)),
        return_exceptions=True,
    )
    return [answer for answer in answers if isinstance(answer, BaseException)]


def _after_a_cut(
    redis_url: str, cut: Callable[[Proxy], object], make: Callable[[str], Redis]
) -> list[BaseException]:
    """Return what fails once idle connections were cut, on the loop of the service."""
    with proxying(redis_url) as proxy:

        async def go() -> list[BaseException]:
            redis = make(proxy.url)
            try:
                async with asyncio.timeout(LIMIT_S):
                    await _fill(redis)
                    cut(proxy)
                    await _gone(proxy)
                    return await _failures(redis)
            finally:
                await redis.aclose()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(go())


async def _gone(proxy: Proxy) -> None:
    """Wait until the loop has heard of it."""
    while proxy.counts().open:  # noqa: ASYNC110  # another thread's
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)


def _sturdy(url: str) -> Redis:
    return connect(url, connections=CONNECTIONS)


def _plain(url: str) -> Redis:
    """Return the twin: the connections as redis-py has them."""
    redis = _sturdy(url)
    pool = redis.connection_pool
    pool.connection_class = pool.connection_class.__mro__[2]
    return redis


@pytest.mark.parametrize("cut", [Proxy.reset, Proxy.close])
def test_cut_connections_fail_no_command(
    redis_url: str, cut: Callable[[Proxy], object]
) -> None:
    """Idle connections that the server reset or closed are made anew, unseen."""
    assert _after_a_cut(redis_url, cut, _sturdy) == []


@pytest.mark.power
def test_connections_of_the_twin_fail_commands(redis_url: str) -> None:
    """Without it each idle connection fails one command, with no Redis error."""
    failures = _after_a_cut(redis_url, Proxy.reset, _plain)

    assert failures
    assert {type(failure) for failure in failures} == {RuntimeError}
