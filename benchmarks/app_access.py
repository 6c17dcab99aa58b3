"""Cost of access control: logins asked for, roles checked, entries chained, logs verified.

Run ``python -m benchmarks.app_access``; Postgres and Redis are started unless
``DATABASE_URL`` and ``REDIS_URL`` say where they are. Each thing stands beside the plain
one in the same run, in turns; what to read is the ratio. A transaction is the service's
own, over its pool; a request goes through the application without a socket.
"""

import argparse
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import asyncpg
import httpx
from pydantic import SecretStr
from sqlalchemy import text

from app.api import Parts
from app.api.dependencies import build_context
from app.main import create_app
from app.security import Entry, Head, Permission, find_flaw, hash_entry
from app.security.audit import GENESIS
from app.settings import Settings
from app.storage import (
    Account,
    add_account,
    anchor_heads,
    read_authority,
    verify_audit,
)
from test_framework.services import running_services

USERS = 100
ROUNDS = 7
"""Rounds of which the middle one is told."""

PLAIN_TABLE = """
CREATE TABLE IF NOT EXISTS plain_log (LIKE audit_log INCLUDING ALL);
GRANT SELECT, INSERT ON plain_log TO isolation_app
"""
INSERT = text(
    "INSERT INTO plain_log (user_id, request_id, action, subject) "
    "VALUES (:user_id, 'bench', 'thing.done', 'x')"
)

Work = Callable[[str], Awaitable[object]]


@dataclass(frozen=True)
class Row:
    """One line of the table: the thing, the plain one beside it, and their cost (ms)."""

    name: str
    plain: str
    cost_ms: float
    plain_ms: float

    def __str__(self) -> str:
        """Return the line."""
        ratio = self.cost_ms / self.plain_ms
        return (
            f"| {self.name} | {self.cost_ms:.2f} | {self.plain} "
            f"| {self.plain_ms:.2f} | {ratio:.2f} |"
        )


class Bench:
    """A service and some users of it."""

    def __init__(self, parts: Parts, users: Sequence[str]) -> None:
        """Work with the parts of a running service."""
        self.parts = parts
        self.users = users

    async def beside(
        self,
        name: str,
        work: Work,
        plain_name: str,
        plain: Work,
        *,
        users: int,
        times: int,
    ) -> Row:
        """Measure two things in turns: ``times`` by each of ``users`` at one time."""
        rounds = [
            (
                await self._once(work, users, times),
                await self._once(plain, users, times),
            )
            for _ in range(ROUNDS)
        ]
        # The round whose ratio is the middle one, so that both figures belong together.
        rounds.sort(key=lambda pair: pair[0] / pair[1])
        cost_ms, plain_ms = rounds[len(rounds) // 2]
        return Row(name, plain_name, cost_ms, plain_ms)

    async def _once(self, work: Work, users: int, times: int) -> float:
        async def repeat(user_id: str) -> None:
            for _ in range(times):
                await work(user_id)

        started = time.perf_counter()
        await asyncio.gather(*map(repeat, self.users[:users]))
        return (time.perf_counter() - started) / (users * times) * 1e3

    async def plain(self, user_id: str) -> None:
        """Open a transaction and do one small thing."""
        async with self.parts.sessions.for_user(user_id) as session:
            await session.execute(text("SELECT 1"))

    async def login(self, user_id: str) -> None:
        """The same, and ask whether the login goes on."""
        async with self.parts.sessions.for_user(user_id) as session:
            await self.parts.refresh_tokens.is_live(session, user_id)
            await session.execute(text("SELECT 1"))

    async def permission(self, user_id: str) -> None:
        """The same, and ask what the user may do, holding the roles."""
        async with self.parts.sessions.for_user(user_id) as session:
            context = build_context(self.parts, user_id=user_id, request_id="bench")
            authority = await read_authority(
                context.child(session=session), self.parts.policies
            )
            authority.allows(Permission.VERIFY_AUDIT)
            await session.execute(text("SELECT 1"))

    async def insert(self, user_id: str) -> None:
        """Insert into a table like the audit log, where nothing is linked."""
        async with self.parts.sessions.for_user(user_id) as session:
            await session.execute(INSERT, {"user_id": user_id})

    async def append(self, user_id: str) -> None:
        """Insert an entry of the audit log, which is linked as it commits."""
        async with self.parts.sessions.for_user(user_id) as session:
            trail = self.parts.trails(user_id, "bench").bound_to(session)
            await trail.record("thing.done", "x")

    async def insert_as_one(self, _: str) -> None:
        """Insert rows of one user, whoever asks."""
        await self.insert(self.users[0])

    async def append_to_one(self, _: str) -> None:
        """Append to one chain, whoever asks: a hundred devices of one user."""
        await self.append(self.users[0])


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[tuple[Bench, httpx.AsyncClient]]:
    """Run the service with its users, the first of whom the client is logged in as."""
    owner = await asyncpg.connect(settings.database_url.get_secret_value())
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        parts: Parts = app.state.parts
        await owner.execute(PLAIN_TABLE)
        await owner.close()
        users = [str(uuid4()) for _ in range(USERS)]
        async with parts.sessions.for_auth() as session:
            for user_id in users:
                await add_account(session, Account(user_id, f"b-{user_id}", "none"))
                await parts.refresh_tokens.issue(session, user_id, user_id)
        token = parts.access_tokens.issue(users[0], users[0])
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://service.invalid",
            headers={"authorization": f"Bearer {token}"},
        ) as http:
            yield Bench(parts, users), http


async def requests_row(bench: Bench, http: httpx.AsyncClient) -> Row:
    """Measure whole requests, with the login asked for and without."""
    asking = bench.parts.refresh_tokens.is_live

    async def trust(*_: object) -> bool:
        return True

    async def request(_: str) -> None:
        (await http.get("/me")).raise_for_status()

    async def trusting(user_id: str) -> None:
        bench.parts.refresh_tokens.is_live = trust  # type: ignore[method-assign]  # the one difference
        try:
            await request(user_id)
        finally:
            bench.parts.refresh_tokens.is_live = asking  # type: ignore[method-assign]  # as it was

    return await bench.beside(
        "request, login asked for",
        request,
        "signature only",
        trusting,
        users=1,
        times=60,
    )


async def verification_row(bench: Bench) -> str:
    """Measure how fast the whole log is read and verified, and verified alone."""
    await anchor_heads(bench.parts.sessions, bench.parts.anchor_key)
    started = time.perf_counter()
    async with bench.parts.sessions.for_audit() as session:
        found = await verify_audit(session, bench.parts.anchor_key)
    read_s = time.perf_counter() - started
    if found.flaws:
        message = f"the log is not sound: {found.flaws[0]}"
        raise AssertionError(message)
    chain = _chain(20_000)
    head = Head(chain[-1].user_id, chain[-1].seq, chain[-1].hash)
    started = time.process_time()
    find_flaw(chain, head, {})
    pure_s = time.process_time() - started
    return f"| {found.entries:,} | {found.entries / read_s:,.0f} | {len(chain) / pure_s:,.0f} |"


def _chain(length: int) -> list[Entry]:
    user_id = str(uuid4())
    chain: list[Entry] = []
    previous = GENESIS
    for seq in range(1, length + 1):
        bare = Entry(seq, user_id, seq, "request", "thing.done", "x" * 36, seq, b"")
        previous = hash_entry(previous, bare)
        chain.append(replace(bare, hash=previous))
    return chain


async def measure(settings: Settings, times: int) -> None:
    """Print the tables."""
    async with running(settings) as (bench, http):
        print("| thing | ms each | beside | ms each | ratio |")
        print("|---|--:|---|--:|--:|")
        for name, work, plain_name, plain, users in (
            ("login asked for", bench.login, "transaction", bench.plain, 1),
            (
                "login asked for, 100 users",
                bench.login,
                "transaction",
                bench.plain,
                USERS,
            ),
            ("permission checked", bench.permission, "transaction", bench.plain, 1),
            (
                "permission checked, 100 users",
                bench.permission,
                "transaction",
                bench.plain,
                USERS,
            ),
            ("entry chained", bench.append, "plain insert", bench.insert, 1),
            (
                "entry chained, 100 users",
                bench.append,
                "plain insert",
                bench.insert,
                USERS,
            ),
            (
                "entry chained, 100 devices of one user",
                bench.append_to_one,
                "plain insert",
                bench.insert_as_one,
                USERS,
            ),
        ):
            each = times * 10 if users == 1 else max(times // 3, 1)
            print(
                await bench.beside(
                    name, work, plain_name, plain, users=users, times=each
                ),
                flush=True,
            )
        print(await requests_row(bench, http))
        print("\n| entries in the log | read and verified /s | verified alone /s |")
        print("|--:|--:|--:|")
        print(await verification_row(bench))


def main() -> None:
    """Start services and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=6)
    times = parser.parse_args().times
    with running_services() as services:
        settings = Settings(
            database_url=SecretStr(services.database_url),
            redis_url=SecretStr(services.redis_url),
            signing_keys=SecretStr("k" * 40),
            log_level="ERROR",
        )
        asyncio.run(measure(settings, times))


if __name__ == "__main__":
    main()
