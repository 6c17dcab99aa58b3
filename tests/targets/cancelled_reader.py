"""Users read their own session through one Redis client; some are cancelled.

Run as a program with the version of redis-py that is to be explored first on the path:
``python cancelled_reader.py REDIS_URL``. It prints two reports as JSON: of users who look
at what they get, and of users who do not.
CVE-2023-28858 and CVE-2023-28859: redis-py 4.5.1 gives the connection of a cancelled
command back with the reply unread, and so does 4.5.3 outside of pipelines; the next user
reads it (redis/redis-py#2624 and #2665). 4.5.5 cuts such a connection.
"""

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import redis
import redis.asyncio

from test_framework.explore import Scenario, explore


@contextlib.asynccontextmanager
async def sessions() -> AsyncIterator[Any]:
    """Fill one session for each user; the connection to read them is open."""
    client: Any = redis.asyncio.Redis.from_url(sys.argv[1], decode_responses=True)
    try:
        for user in range(2):
            await client.set(f"gate:session:{user}", f"secret of {user}")
        yield client
    finally:
        await client.close()
        await client.connection_pool.disconnect()


async def read_own(client: Any, user: int) -> None:  # noqa: ANN401  # of whichever version
    """Read the own session and look whose it is."""
    seen = await client.get(f"gate:session:{user}")
    assert seen == f"secret of {user}", f"user {user} received {seen!r}"


async def read_blindly(client: Any, user: int) -> None:  # noqa: ANN401  # of whichever version
    """Read the own session and believe what comes."""
    await client.get(f"gate:session:{user}")


def explored(user: Any) -> dict[str, Any]:  # noqa: ANN401  # of clients without types
    """Explore with cancellations and return what came out."""
    report = explore(
        Scenario(sessions, user, users=2),
        io="gate",
        cancel="user*",
        budget="20s",
        schedules=60,
        seed=1,
    )
    witness = report.witness
    faults = witness.schedule.faults if witness is not None else ()
    failure = witness.failure if witness is not None else None
    return {
        "conclusion": report.conclusion,
        "claim": report.claim,
        "kind": failure.kind if failure is not None else "",
        "message": failure.message if failure is not None else "",
        "details": failure.details if failure is not None else (),
        "suspensions": [fault.suspension for fault in faults],
    }


if __name__ == "__main__":
    answer = {
        "version": redis.__version__,
        "looking": explored(read_own),
        "blind": explored(read_blindly),
    }
    print(json.dumps(answer))  # noqa: T201  # the answer to the test
