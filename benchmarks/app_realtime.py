"""What events cost: appending beside a bare counter, fan-out, and sockets that storm in.

Everything is in one process over a real Redis, so rates are of one core, and the ratio is
what to read on a machine that others use as well.
"""

import argparse
import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

from app.cache import connect
from app.realtime import EventLog, Hub, follow
from test_framework.services import running_services

_PLAIN = """
local seq = redis.call('INCR', KEYS[1])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 2000, seq .. '-0', 'event', ARGV[1])
redis.call('PUBLISH', KEYS[3], seq)
return seq
"""


async def _rate(
    work: Callable[[], Awaitable[object]], count: int, at_once: int
) -> float:
    """Return how often a second something can be done, by so many at one time."""

    async def again() -> None:
        for _ in range(count // at_once):
            await work()

    started = time.perf_counter()
    await asyncio.gather(*(again() for _ in range(at_once)))
    return count / (time.perf_counter() - started)


async def _follow(hub: Hub, log: EventLog, user_id: str, count: int) -> None:
    events = follow(hub, log, user_id, after=0)
    seen = 0
    async with contextlib.aclosing(events):
        async for batch in events:
            seen += len(batch)
            if seen >= count:
                return


async def measure(url: str, count: int, users: int) -> list[tuple[str, str]]:
    """Return what was measured, by name."""
    async with (
        connect(url, connections=100) as redis,
        connect(url, connections=1, timeout_s=None) as subscriber,
    ):
        log, hub, user_id = EventLog(redis), Hub(subscriber), str(uuid4())
        plain = redis.register_script(_PLAIN)
        text = '{"type": "x", "run_id": "r", "thread_id": "t", "data": {}}'

        async def append_plain() -> None:
            await plain(keys=["plain", "plain events", "plain wake"], args=[text])

        async def append() -> None:
            await log.append(user_id, "x", run_id="r", thread_id="t", data={})

        await append_plain()
        await append()
        bare = max([await _rate(append_plain, count, 50) for _ in range(3)])
        whole = max([await _rate(append, count, 50) for _ in range(3)])
        await hub.start(lambda _: None)
        try:
            ids = [str(uuid4()) for _ in range(users)]
            each = max(1, count // users)
            following = [
                asyncio.create_task(_follow(hub, log, one, each))
                for one in ids
                for _ in range(2)
            ]
            await asyncio.sleep(0.1)
            started = time.perf_counter()

            async def emit(one: str) -> None:
                for _ in range(each):
                    await log.append(one, "x", run_id="r", thread_id="t", data={})

            await asyncio.gather(*(emit(one) for one in ids))
            await asyncio.gather(*following)
            fan_out = 2 * each * users / (time.perf_counter() - started)
            started = time.perf_counter()
            await asyncio.gather(
                *(_follow(hub, log, one, each) for one in ids for _ in range(10))
            )
            storm = 10 * users / (time.perf_counter() - started)
        finally:
            await hub.close()
    return [
        ("bare counter, stream and wake-up, a second", f"{bare:,.0f}"),
        ("events appended, a second", f"{whole:,.0f}"),
        ("... times the bare one's cost", f"{bare / whole:.2f}"),
        (
            f"events delivered to 2 followers of {users} users, a second",
            f"{fan_out:,.0f}",
        ),
        (
            f"followers caught up when {10 * users} come at once, a second",
            f"{storm:,.0f}",
        ),
    ]


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--users", type=int, default=100)
    options = parser.parse_args()
    with running_services(("redis",)) as services:
        rows = asyncio.run(
            measure(str(services.redis_url), options.count, options.users)
        )
    print("| realtime, one process | measured |\n|---|--:|")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
