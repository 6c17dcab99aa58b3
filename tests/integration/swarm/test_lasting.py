"""What Postgres and Redis still hold at the end is told; what was given back is not."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from test_framework.core import AlarmRecord, WatchRecord
from test_framework.swarm.identities import Identities
from test_framework.swarm.lasting import find_lasting, look_at_connections
from test_framework.swarm.target import Target

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Stage:
    """A service that is nothing but its connections.

    Attributes:
        target: Where it is looked at.
        alice: Her identity.
        sql: A session of the service.
        redis: A connection of the service.
    """

    def __init__(self, target: Target, alice: str, sql: Any, redis: Any) -> None:  # noqa: ANN401  # the drivers' own
        self.target = target
        self.alice = alice
        self.sql = sql
        self.redis = redis

    async def look(self, *, spare: int = 64) -> tuple[list[AlarmRecord], WatchRecord]:
        """Return what is said at the end, with the watch."""
        identities = Identities({7: [self.alice]})
        *alarms, watch = await find_lasting(
            self.target, identities, before=self.before, spare=spare, pause_s=0
        )
        assert isinstance(watch, WatchRecord)
        return [alarm for alarm in alarms if isinstance(alarm, AlarmRecord)], watch

    async def begin(self) -> None:
        """Look at what is held before the first user."""
        self.before = await look_at_connections(self.target)


@pytest_asyncio.fixture
async def stage(database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    """Return a service with one session and one connection."""
    url = database_url.replace("+asyncpg", "")
    sql = await asyncpg.connect(url)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(sql.close)
        client = Redis.from_url(redis_url)
        stack.push_async_callback(client.aclose)
        pool: Any = client.connection_pool
        redis = await pool.get_connection()
        stack.push_async_callback(redis.disconnect)
        target = Target("http://127.0.0.1:1", "none", database_url, redis_url)
        stage = Stage(target, f"alice-{secrets.token_hex(4)}", sql, redis)
        await stage.begin()
        yield stage


async def say(stage: Stage, *words: str) -> None:
    """Send one command to Redis."""
    await stage.redis.send_command(*words)
    await stage.redis.read_response()


@pytest.mark.power
async def test_an_advisory_lock_of_an_idle_session_is_told(stage: Stage) -> None:
    """A leader may mean it, so it is a warning."""
    await stage.sql.execute("SELECT pg_advisory_lock(7)")
    # Idle for longer than a leader that renews what it has.
    await asyncio.sleep(1.1)

    (alarm,), _ = await stage.look()

    assert (alarm.rule, alarm.level) == ("connection-left", "warning")
    assert alarm.claim.startswith("1 advisory lock(s) are held")


async def test_an_advisory_lock_that_is_looked_after_is_none_that_was_left(
    stage: Stage,
) -> None:
    """A leader was elected while the users were there, and renews its session."""
    await stage.sql.execute("SELECT pg_advisory_lock(7)")
    await asyncio.sleep(1.1)
    await stage.sql.execute("SELECT 1")

    alarms, _ = await stage.look()

    assert alarms == []


@pytest.mark.power
@pytest.mark.parametrize(
    ("words", "name"), [(("MULTI",), "MULTI"), (("WATCH", "k"), "WATCH")]
)
async def test_a_redis_connection_within_a_transaction_is_found(
    stage: Stage, words: tuple[str, ...], name: str
) -> None:
    """The next user of the connection would be within it."""
    await say(stage, *words)

    (alarm,), _ = await stage.look()

    assert (alarm.rule, alarm.level) == ("pool-state-kept", "error")
    assert alarm.site == f"Redis {name}"


@pytest.mark.power
async def test_keys_of_users_without_expiry_are_told(stage: Stage) -> None:
    """They are told as one pattern with the users that it names."""
    await say(stage, "SET", f"session:{stage.alice}", "1")

    (alarm,), _ = await stage.look()

    await say(stage, "DEL", f"session:{stage.alice}")
    assert (alarm.rule, alarm.level) == ("key-without-expiry", "warning")
    assert (alarm.site, alarm.users) == ("session:{user}", (7,))


@pytest.mark.power
async def test_connections_that_pile_up_are_told(
    stage: Stage, database_url: str
) -> None:
    """More than pools keep is a leak of connections."""
    url = database_url.replace("+asyncpg", "")
    settings = {"application_name": "leaking"}
    opened = [await asyncpg.connect(url, server_settings=settings) for _ in range(4)]

    (alarm,), _ = await stage.look(spare=3)
    quiet, _ = await stage.look(spare=4)

    for connection in opened:
        await connection.close()
    assert (alarm.rule, alarm.site, alarm.count) == (
        "connection-left",
        "Postgres leaking",
        4,
    )
    assert quiet == []


@asynccontextmanager
async def accounts(stage: Stage) -> AsyncIterator[tuple[Any, Any]]:
    """Yield two sessions of a service that has a table of accounts."""
    async with AsyncExitStack() as stack:
        sessions = []
        for name in ("transfers", "reports"):
            settings = {"application_name": name}
            session = await asyncpg.connect(
                stage.target.database_url, server_settings=settings
            )
            # What a test left open ends with its session.
            stack.callback(session.terminate)
            sessions.append(session)
        await stage.sql.execute(
            "CREATE TABLE accounts (owner text, balance int);"
            "INSERT INTO accounts VALUES ('alice', 1), ('nobody', 1)"
        )
        stack.push_async_callback(stage.sql.execute, "DROP TABLE accounts")
        holder, waiter = sessions
        yield holder, waiter


async def started_waiting(stage: Stage, pid: int) -> None:
    """Return once a session waits for another; its statement was sent before."""
    async with asyncio.timeout(10):
        # Nothing but the server knows, and it tells nobody by itself.
        while not await stage.sql.fetchval(  # noqa: ASYNC110  # see above
            "SELECT cardinality(pg_blocking_pids($1))", pid
        ):
            await asyncio.sleep(0.01)


@pytest.mark.power
async def test_who_waits_for_a_forgotten_transaction_is_told(stage: Stage) -> None:
    """Both sessions are named, with what they said, and not with what users wrote."""
    async with accounts(stage) as (holder, waiter):
        update = "UPDATE accounts SET balance = 7 WHERE owner = 'alice'"
        stage.alice = "alice"
        head, pid = holder.get_server_pid(), waiter.get_server_pid()
        await holder.execute("BEGIN")
        await holder.execute(update)
        waiting = asyncio.create_task(waiter.execute(update))
        await started_waiting(stage, waiter.get_server_pid())

        (alarm,), _ = await stage.look()

        await holder.execute("ROLLBACK")
        await waiting
    assert (alarm.rule, alarm.level, alarm.users) == (
        "database-lock-left",
        "error",
        (7,),
    )
    assert f"session {pid} of 'reports'" in alarm.claim
    assert f"waits for session {head} of 'transfers'" in alarm.claim
    assert alarm.site == "Postgres reports accounts"
    assert [line.rpartition("; it ")[2] for line in alarm.evidence] == [
        "runs: UPDATE accounts SET balance = ? WHERE owner = ?",
        "ran last: UPDATE accounts SET balance = ? WHERE owner = ?",
    ]
    assert "RowExclusiveLock on accounts" in alarm.evidence[1]
    assert "'alice'" not in repr(alarm)


@pytest.mark.power
async def test_those_behind_a_waiting_session_are_of_its_queue(stage: Stage) -> None:
    """One forgotten transaction is one alarm, however many stand behind it."""
    async with accounts(stage) as (holder, waiter):
        await holder.execute("BEGIN; LOCK TABLE accounts IN SHARE MODE")
        lock = "BEGIN; LOCK TABLE accounts; COMMIT"
        waiting = [asyncio.create_task(waiter.execute(lock))]
        await started_waiting(stage, waiter.get_server_pid())
        waiting.append(asyncio.create_task(stage.sql.execute(lock)))
        third = await asyncpg.connect(stage.target.database_url)
        stage.sql, second = third, stage.sql
        await started_waiting(stage, second.get_server_pid())

        (alarm,), _ = await stage.look()

        await holder.execute("ROLLBACK")
        await asyncio.gather(*waiting)
        stage.sql = second
        await third.close()
    assert (alarm.level, alarm.count, len(alarm.evidence)) == ("error", 2, 3)
    assert "and 1 more wait for session" in alarm.claim


@pytest.mark.power
async def test_a_transaction_that_keeps_locks_is_told(stage: Stage) -> None:
    """Nobody waits yet; that it is open is told as residue, here what it keeps."""
    async with accounts(stage) as (holder, _):
        await holder.execute("BEGIN; DELETE FROM accounts WHERE owner = 'nobody'")

        (alarm,), _ = await stage.look()

        await holder.execute("ROLLBACK")
    assert (alarm.rule, alarm.level) == ("database-lock-left", "warning")
    assert alarm.site == "Postgres transfers accounts"


async def test_ended_transactions_and_readers_raise_no_alarm(stage: Stage) -> None:
    """A reader stands in nobody's way, and what was committed is given back."""
    async with accounts(stage) as (writer, reader):
        await reader.execute("BEGIN; SELECT * FROM accounts")
        await writer.execute("BEGIN; UPDATE accounts SET balance = 1; COMMIT")

        alarms, _ = await stage.look()

        await reader.execute("ROLLBACK")
    assert alarms == []


async def test_a_queue_that_stood_before_raises_no_alarm(stage: Stage) -> None:
    """A standby waits for the lock of its leader from the start."""
    async with accounts(stage) as (leader, standby):
        await leader.execute("SELECT pg_advisory_lock(8)")
        waiting = asyncio.create_task(standby.execute("SELECT pg_advisory_lock(8)"))
        await started_waiting(stage, standby.get_server_pid())
        await stage.begin()

        alarms, _ = await stage.look()

        await leader.execute("SELECT pg_advisory_unlock(8)")
        await waiting
    assert alarms == []


async def test_what_was_given_back_raises_no_alarm(stage: Stage) -> None:
    """Unlocked, executed, unwatched and with an expiry: nothing lasts."""
    await stage.sql.execute("SELECT pg_advisory_lock(7); SELECT pg_advisory_unlock(7)")
    await stage.sql.execute("BEGIN; SELECT pg_advisory_xact_lock(7); COMMIT")
    for words in (["WATCH", "k"], ["MULTI"], ["GET", "k"], ["EXEC"]):
        await say(stage, *words)
    await say(stage, "SET", f"session:{stage.alice}", "1", "EX", "60")
    await say(stage, "SET", "nobody's", "1")

    alarms, watch = await stage.look()

    await say(stage, "DEL", f"session:{stage.alice}", "nobody's")
    assert alarms == []
    assert watch.unwatched == ()


async def test_what_was_held_before_raises_no_alarm(stage: Stage) -> None:
    """A leader that held its lock before the first user goes on to."""
    await stage.sql.execute("SELECT pg_advisory_lock(7)")
    await stage.begin()

    assert (await stage.look())[0] == []


async def test_missing_rights_are_told_in_one_sentence(stage: Stage) -> None:
    """Neither Postgres nor Redis must show everything to everybody."""
    name = f"small_{secrets.token_hex(4)}"
    await stage.sql.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'small'")
    await say(
        stage, *f"ACL SETUSER {name} on >small ~* +@all -client|list -pttl".split()
    )
    sql, redis = (
        urlsplit(str(url))
        for url in (stage.target.database_url, stage.target.redis_url)
    )
    login = f"{name}:small@"
    stage.target = Target(
        stage.target.base_url,
        "none",
        sql._replace(
            scheme="postgresql", netloc=f"{login}{sql.hostname}:{sql.port}"
        ).geturl(),
        redis._replace(netloc=f"{login}{redis.hostname}:{redis.port}").geturl(),
    )
    await say(stage, "SET", f"session:{stage.alice}", "1", "EX", "60")

    alarms, watch = await stage.look()

    await stage.sql.execute(f"DROP ROLE {name}")
    await say(stage, "ACL", "DELUSER", name)
    assert alarms == []
    assert ["pg_read_all_stats" in one for one in watch.unwatched] == [
        True,
        False,
        False,
    ]
    assert [one.partition(":")[0] for one in watch.unwatched[1:]] == [
        "clients of Redis",
        "expiry of keys",
    ]
    assert "small@" not in repr(watch)
