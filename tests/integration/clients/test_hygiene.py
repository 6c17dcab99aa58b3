"""What a pool hands from one user's session to the next is found; what ended is not."""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from test_framework.clients.hygiene import PoolHygiene
from test_framework.clients.hygiene.state import _STATE
from test_framework.core import AlarmRecord, UsageError
from test_framework.detect import make_detector, operation_scope

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
HERE = "tests/integration/clients/test_hygiene.py:"


@pytest_asyncio.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Return a pool of one connection, which everybody gets in turn."""
    url = database_url.replace("postgresql://", "postgresql+asyncpg://")
    engine = create_async_engine(url, pool_size=1, max_overflow=0)
    yield engine
    await engine.dispose()


async def send(engine: AsyncEngine, *statements: str, **values: str) -> None:
    """Send statements in one transaction of one user."""
    async with AsyncSession(engine) as session:
        for statement in statements:
            await session.execute(text(statement), values)
        await session.commit()


async def alarms_of(engine: AsyncEngine, *statements: str) -> list[AlarmRecord]:
    """Return what is said of a user who sent statements."""
    with PoolHygiene() as hygiene:
        await send(engine, *statements)
    assert hygiene.coverage().facts == {"checkins": 1}
    return hygiene.alarms()


VULNERABLE = [
    (
        "SELECT set_config('app.user_id', 'alice', false)",
        "setting app.user_id",
        "error",
    ),
    ("SET app.tenant = 'alice'", "setting app.tenant", "error"),
    ("SET search_path = alice, public", "setting search_path", "error"),
    ("SET statement_timeout = 7000", "setting statement_timeout", "warning"),
    ("SELECT pg_advisory_lock(7)", "advisory lock 0:7", "error"),
    ("CREATE TEMP TABLE basket (item int)", "temporary table basket", "error"),
    ("LISTEN alice", "LISTEN alice", "error"),
    ("PREPARE mine AS SELECT 1", "prepared statement mine", "error"),
    ("DECLARE mine CURSOR WITH HOLD FOR SELECT 1", "cursor mine", "error"),
]
SAFE = [
    "SELECT set_config('app.user_id', 'alice', true)",
    "SET LOCAL app.tenant = 'alice'",
    # As every session has it: what asyncpg does to jit when it looks types up.
    "SELECT set_config('jit', (SELECT reset_val FROM pg_settings WHERE name = 'jit'), false)",
    "SET LOCAL search_path = alice, public",
    "SELECT pg_advisory_xact_lock(7)",
    "CREATE TEMP TABLE basket (item int) ON COMMIT DROP",
    "DECLARE mine CURSOR FOR SELECT 1",
    "NOTIFY alice",
    "SELECT 1",
]


@pytest.mark.power
@pytest.mark.parametrize(("statement", "what", "level"), VULNERABLE)
async def test_state_of_a_session_that_the_pool_keeps_is_found(
    engine: AsyncEngine, statement: str, what: str, level: str
) -> None:
    """Each kind is named with the line of the service that sent it."""
    (alarm,) = await alarms_of(engine, statement)

    assert alarm.rule == "pool-state-kept"
    assert alarm.level == level
    assert f"hands its {what} to" in alarm.claim
    assert alarm.site.startswith(HERE)
    assert any("in send" in line for line in alarm.evidence)


@pytest.mark.parametrize("statement", SAFE)
async def test_what_ends_with_its_transaction_raises_no_alarm(
    engine: AsyncEngine, statement: str
) -> None:
    """The transaction's own sibling of each kind is left alone."""
    assert await alarms_of(engine, statement) == []


async def test_what_a_user_takes_back_raises_no_alarm(engine: AsyncEngine) -> None:
    """Unlocked, reset and dropped is not left."""
    alarms = await alarms_of(
        engine,
        "SELECT pg_advisory_lock(7)",
        "SELECT pg_advisory_unlock(7)",
        "SET search_path = alice",
        "RESET search_path",
    )

    assert alarms == []


@pytest.mark.power
async def test_the_next_user_would_have_been_alice(engine: AsyncEngine) -> None:
    """The alarm is about a real handing on: Bob reads what Alice had set."""
    with PoolHygiene() as hygiene:
        await send(engine, "SELECT set_config('app.user_id', 'alice', false)")
        async with engine.connect() as bob:
            seen = await bob.scalar(text("SELECT current_setting('app.user_id', true)"))

    assert seen == "alice"
    # It is told once, not again for Bob, who changed nothing.
    assert [alarm.count for alarm in hygiene.alarms()] == [1]


async def test_the_same_line_is_one_alarm_with_all_operations(
    engine: AsyncEngine,
) -> None:
    """Two users who are set by one line have one cause."""
    with PoolHygiene(settings=["app.user_id"]) as hygiene:
        for operation, name in ((1, "alice"), (2, "bob")):
            with operation_scope(operation):
                await send(
                    engine, "SELECT set_config('app.user_id', :name, false)", name=name
                )

    (alarm,) = hygiene.alarms()
    assert (alarm.count, alarm.operations) == (2, (1, 2))
    assert "alice" not in repr(alarm)


async def test_a_setting_named_by_a_parameter_is_learned(engine: AsyncEngine) -> None:
    """Where the name is no part of the statement, it is read from its parameters."""
    with PoolHygiene() as hygiene:
        await send(
            engine,
            "SELECT set_config(:name, :value, false)",
            name="app.user_id",
            value="alice.smith",
        )

    assert hygiene.settings == {"app.user_id"}
    assert len(hygiene.alarms()) == 1


async def test_state_that_was_there_from_the_start_raises_no_alarm(
    database_url: str,
) -> None:
    """What every new connection gets is nobody's."""
    url = database_url.replace("postgresql://", "postgresql+asyncpg://")

    async def connect(**options: Any) -> asyncpg.Connection:  # noqa: ANN401  # asyncpg's own
        connection = await asyncpg.connect(**options)
        await connection.execute("SET app.instance = 'blue'; SET search_path = public")
        return connection

    engine = create_async_engine(url, connect_args={"async_creator_fn": connect})
    with PoolHygiene(settings=["app.instance"]) as hygiene:
        await send(engine, "SELECT 1")
    await engine.dispose()

    assert hygiene.alarms() == []


async def test_what_is_allowed_to_stay_raises_no_alarm(engine: AsyncEngine) -> None:
    """A name that was declared is left alone, and only that."""
    with PoolHygiene(allowed=["search_path"]) as hygiene:
        await send(engine, "SET search_path = public", "SET row_security = off")

    assert [alarm.claim.split()[6] for alarm in hygiene.alarms()] == ["row_security"]


@pytest.mark.power
async def test_a_transaction_that_the_pool_does_not_end_is_found(
    database_url: str,
) -> None:
    """A pool that does not reset hands an open transaction on."""
    url = database_url.replace("postgresql://", "postgresql+asyncpg://")
    engine = create_async_engine(url, pool_reset_on_return=None)
    with PoolHygiene() as hygiene:
        async with engine.connect() as connection:
            raw: Any = await connection.get_raw_connection()
            await raw.driver_connection.execute("BEGIN")
    await engine.dispose()

    (alarm,) = hygiene.alarms()
    assert "open transaction" in alarm.claim


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SET app.user_id = 'alice'", 0),
        ("SELECT pg_advisory_lock(7)", 0),
        ("CREATE TEMP TABLE basket (item int)", 1),
    ],
)
async def test_asyncpgs_own_pool_keeps_only_temporary_tables(
    database_url: str, statement: str, expected: int
) -> None:
    """Its reset undoes settings and locks; a table stays, and that is found."""
    with PoolHygiene(settings=["app.user_id"]) as hygiene:
        async with asyncpg.create_pool(database_url, min_size=1, max_size=1) as pool:
            await pool.execute(statement)

    assert len(hygiene.alarms()) == expected
    assert hygiene.coverage().facts["checkins"] == 1


@pytest.mark.parametrize("pause_s", [0.02, 0.05])
async def test_watching_loses_no_connection_to_cancellation(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, pause_s: float
) -> None:
    """A user who is cancelled while Postgres is asked leaves the only slot free."""
    # Never true, and known only after the sleep, which outlasts the pause.
    nap = "SELECT 'setting', '', '' FROM pg_sleep(0.1) WHERE random() > 2 UNION ALL"
    monkeypatch.setattr("test_framework.clients.hygiene.state._STATE", nap + _STATE)
    is_closing = asyncio.Event()

    async def work() -> None:
        connection = await engine.connect()
        await connection.execute(text("SELECT 1"))
        is_closing.set()
        # By itself, for "async with" shields the return.
        await connection.close()
        await asyncio.sleep(0)
        pytest.fail("the cancellation was lost")

    with PoolHygiene() as hygiene:
        user = asyncio.create_task(work())
        await is_closing.wait()
        await asyncio.sleep(pause_s)
        user.cancel()
        await asyncio.wait([user])
        async with asyncio.timeout(5):
            await send(engine, "SELECT 1")

    assert user.cancelled()
    assert hygiene.coverage().facts == {"checkins": 2}


async def test_nothing_is_watched_after_stop(engine: AsyncEngine) -> None:
    """Listeners and stand-ins are taken back."""
    methods = (asyncpg.Connection.reset, asyncpg.pool.Pool._get_new_connection)
    hygiene = PoolHygiene()
    hygiene.start()
    hygiene.stop()

    await send(engine, "SET search_path = alice")

    assert hygiene.alarms() == []
    assert methods == (asyncpg.Connection.reset, asyncpg.pool.Pool._get_new_connection)


def test_another_driver_is_told_as_not_watched() -> None:
    """A database that is no Postgres is not asked, and coverage says so."""
    engine = create_engine("sqlite://")
    with PoolHygiene() as hygiene, engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    engine.dispose()

    assert hygiene.alarms() == []
    assert hygiene.coverage().unwatched == ("connections of sqlite3 were not asked",)


def test_a_wrong_option_is_explained() -> None:
    """A text in place of a list is a mistake of the configuration."""
    with pytest.raises(UsageError, match="is no list of names"):
        make_detector("hygiene", {"settings": "app.user_id"})


async def test_examples_of_the_docs_run(database_url: str) -> None:
    """Every program of docs/detect-leaks.md does what the page says."""
    page = (ROOT / "docs" / "detect-leaks.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    url = database_url.replace("postgresql://", "postgresql+asyncpg://")
    ran = []
    for program in programs:
        names: dict[str, Any] = {}
        exec(compile(program, "docs", "exec"), names)  # noqa: S102  # our own page
        for name in [name for name in names if name.startswith("test_")]:
            takes_url = "database_url" in inspect.signature(names[name]).parameters
            await (names[name](url) if takes_url else names[name]())
            ran.append(name)

    assert len(ran) == 4
