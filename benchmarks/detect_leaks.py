"""What the leak watchers cost: a look at the memory, and a check-in of a pool.

Run ``python -m benchmarks.detect_leaks``. It needs what the integration tests need: the
packages of the ``services`` and ``app`` extras. Targets: a look at the application with
10,000 live entries takes at most 50 ms; the question at a check-in at most 1 ms.
"""

import asyncio
import gc
import os
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Callable

from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.main import create_app
from app.settings import Settings
from test_framework.canary import Mint, users_named
from test_framework.clients.hygiene import PoolHygiene
from test_framework.detect.leaks import survey
from test_framework.detect.leaks.modules import own_modules
from test_framework.detect.leaks.named import Named
from test_framework.services import running_services

ROUNDS = 15
CHECKINS = 200
ENTRIES = (0, 10_000, 100_000)


def milliseconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median CPU time of some work in ms."""
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return 1e3 * statistics.median(taken)


def look_at_memory() -> None:
    """Print what one look costs, by how much the service holds."""
    print(
        "| entries of users held | objects met | collection, ms | walk, ms | "
        "with 1,000 identifiers, ms |"
    )
    print("|--:|--:|--:|--:|--:|")
    named = Named({user: [str(uuid.uuid4())] for user in range(1000)})
    canary = Mint(8842).mint(7, 3)
    settings = Settings(
        database_url=SecretStr("postgresql://localhost/none"),
        redis_url=SecretStr("redis://localhost"),
        signing_keys=SecretStr("k" * 40),
    )
    app = create_app(settings)
    for entries in ENTRIES:
        app.state.cache = {
            f"key-{n}": {"id": n, "text": f"note {n}"} for n in range(entries)
        }
        app.state.cache["last"] = {"id": -1, "text": canary}
        roots = [*own_modules(["app"]).items(), ("app", app)]
        found = survey(roots, recognise=users_named)
        if [holding.users for holding in found.residue] != [(7,)]:
            sys.exit(f"the walk found {found.residue}")
        collection = milliseconds(gc.collect)
        whole = milliseconds(lambda r=roots: survey(r, recognise=users_named))
        known = milliseconds(
            lambda r=roots: survey(
                r, recognise=lambda text: [*users_named(text), *named.find(text)]
            )
        )
        print(
            f"| {entries:,} | {found.objects:,} | {collection:.1f} | "
            f"{whole - collection:.1f} | {known - collection:.1f} |"
        )


async def per_checkin(engine: AsyncEngine) -> float:
    """Return the least wall time of one checkout, SELECT 1 and check-in, in ms."""
    taken = []
    for _ in range(CHECKINS):
        started = time.perf_counter()
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
        taken.append(time.perf_counter() - started)
    # The least: whatever else the machine does only ever adds.
    return 1e3 * min(taken)


async def look_at_checkins(url: str) -> None:
    """Print what a check-in costs with and without the question."""
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    await per_checkin(engine)
    plain = await per_checkin(engine)
    with PoolHygiene(settings=["app.user_id"]) as hygiene:
        await per_checkin(engine)
        watched = await per_checkin(engine)
    if hygiene.alarms():
        sys.exit(f"a sound pool was blamed: {hygiene.alarms()}")
    await engine.dispose()
    print("\n| SELECT 1 of a pooled session | ms |")
    print("|---|--:|")
    print(f"| plain | {plain:.2f} |")
    print(f"| with PoolHygiene | {watched:.2f} |")
    print(f"| the question itself | {watched - plain:.2f} |")


def run(work: Callable[[str], Awaitable[None]]) -> None:
    """Run work on a real Postgres."""
    with running_services(("postgres",), environ=os.environ) as services:
        asyncio.run(work(services.database_url or ""))


if __name__ == "__main__":
    look_at_memory()
    run(look_at_checkins)
