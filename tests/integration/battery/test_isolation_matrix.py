"""The isolation matrix on a live Postgres, and through sessions sound and broken."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from click.testing import CliRunner
from sqlalchemy.ext.asyncio import create_async_engine

from app.settings import Settings
from app.storage import SessionFactory
from test_framework.battery.isolation import (
    PUBLISHED,
    SCENARIOS,
    PostgresLevel,
    run_matrix,
    run_sessions_matrix,
)
from test_framework.battery.isolation.matrix import AUTOCOMMIT, SHARED
from test_framework.cli.matrix import matrix
from test_framework.core import TargetError, UsageError, Verdict
from tests.integration.app.service import running
from tests.targets import sessions

# One task holds three connections by design, which the watch of locks would tell.
pytestmark = [pytest.mark.integration, pytest.mark.detect]

RC, RR, SER = PostgresLevel


@pytest_asyncio.fixture
async def dsn(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Address of the Postgres of the tests, for the factories as well."""
    monkeypatch.setenv("MATRIX_DATABASE_URL", database_url)
    yield database_url
    await sessions.dispose()


async def tables(dsn: str) -> list[str]:
    """Return the tables of the matrix that are there."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        "select relname from pg_class where relname like 'isolation_matrix_%' "
        "and relkind = 'r'"
    )
    await connection.close()
    return [row["relname"] for row in rows]


async def test_matrix_equals_the_published_table(dsn: str) -> None:
    """All 42 cells are as in Hermitage, and nothing is left behind."""
    found = await run_matrix(dsn)

    assert {level: found.allowed(level) for level in found.levels} == PUBLISHED
    assert (len(found.cells), found.verdict) == (42, Verdict.VALID)
    assert await tables(dsn) == []


@pytest.mark.parametrize(
    ("factory", "level"),
    [
        (sessions.repeatable_read, RR),
        (sessions.serializable, SER),
    ],
)
async def test_sound_sessions_show_their_level(
    dsn: str, factory: Callable[[], Any], level: PostgresLevel
) -> None:
    """Through a factory of any shape the cells are those of the level it sets."""
    found = await run_sessions_matrix(factory, dsn, level)

    assert (found.problems, found.levels) == ((), (level,))
    assert found.allowed(level) == PUBLISHED[level]


async def test_service_sessions_are_as_sound_as_postgres(settings: Settings) -> None:
    """The reference service opens its sessions for a user, under a role of its own."""
    async with running(settings) as service:
        factory = SessionFactory(service.parts.engine)

        found = await run_sessions_matrix(
            lambda: factory.for_user("somebody"),
            settings.owner_database_url,
        )

    assert found.problems == ()
    assert found.allowed(RC) == PUBLISHED[RC]


async def test_autocommit_is_caught_twice(dsn: str) -> None:
    """The sessions give themselves away, and what was rolled back is read."""
    found = await run_sessions_matrix(sessions.autocommit, dsn)

    assert found.problems == (AUTOCOMMIT,)
    broken = {cell.scenario.id for cell in found.cells if cell.is_broken}
    assert {"G0", "G1a", "G1b", "G1c", "OTV"} & broken >= {"G1a", "G1b", "G1c"}
    assert found.verdict is Verdict.INVALID


async def test_pool_that_is_too_small_is_told(dsn: str) -> None:
    """Three transactions need three sessions; who waits for one is told."""
    engine = create_async_engine(
        dsn.replace("postgresql://", "postgresql+asyncpg://"),
        pool_size=1,
        max_overflow=0,
        pool_timeout=0.1,
    )
    try:
        with pytest.raises(TargetError, match="QueuePool limit"):
            await run_sessions_matrix(engine.connect, dsn)
    finally:
        await engine.dispose()
    assert await tables(dsn) == []


async def test_role_without_rights_is_told(dsn: str) -> None:
    """Whoever may not make a table is told that the matrix needs to."""
    admin = await asyncpg.connect(dsn)
    try:
        await admin.execute(
            "create role matrix_reader login password 'x' in role pg_monitor"
        )
        await admin.execute("revoke create on schema public from public")
        url = dsn.replace(dsn[len("postgresql://") : dsn.index("@")], "matrix_reader:x")
        with pytest.raises(TargetError, match="role that may create tables"):
            await run_matrix(url)
    finally:
        await admin.execute("drop role if exists matrix_reader")
        await admin.close()


async def test_role_that_may_not_look_takes_longer(dsn: str) -> None:
    """Whoever cannot see what waits goes by the time, to the same table."""
    admin = await asyncpg.connect(dsn)
    try:
        await admin.execute("create role matrix_maker login password 'x'")
        await admin.execute("grant create on schema public to matrix_maker")
        url = dsn.replace(dsn[len("postgresql://") : dsn.index("@")], "matrix_maker:x")

        found = await run_sessions_matrix(sessions.repeatable_read, url)
    finally:
        await admin.execute("drop owned by matrix_maker; drop role matrix_maker")
        await admin.close()

    assert found.allowed(RR) == PUBLISHED[RR]


async def test_nobody_at_the_address_is_told() -> None:
    """A wrong address is one sentence."""
    with pytest.raises(TargetError, match="Postgres does not answer"):
        await run_matrix("postgresql://nobody@127.0.0.1:1/none")


async def test_factory_of_something_else_is_told(dsn: str) -> None:
    """What is no session is named by its type."""
    with pytest.raises(UsageError, match="gave a int"):
        await run_sessions_matrix(lambda: 3, dsn)


def test_command_ends_by_its_verdict(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 for what is as published, 1 for a factory with one session for everybody."""
    monkeypatch.setenv("MATRIX_DATABASE_URL", database_url)
    # The command runs a loop of its own, which nobody could close a pool in later.
    monkeypatch.setenv("MATRIX_UNPOOLED", "1")
    monkeypatch.setattr(sessions, "_ENGINES", {})
    monkeypatch.setattr(sessions, "_SHARED", [])
    runner = CliRunner()
    factory = "tests.targets.sessions:shared"

    sound = runner.invoke(matrix, [database_url, "--level", "serializable"])
    broken = runner.invoke(matrix, [database_url, "--sessions", factory])

    assert (sound.exit_code, broken.exit_code) == (0, 1)
    assert "Of 14 cells none is broken." in sound.output
    assert f"PROBLEM  {SHARED}" in broken.output
    assert "BROKEN   READ COMMITTED let G1a happen" in broken.output
    assert all(one.id in sound.output for one in SCENARIOS)


def test_plugin_adds_a_test_for_each_cell(
    pytester: pytest.Pytester, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions of a weaker level than relied on fail by name; a sound database passes.

    One test is about the sessions, and nine are about what SERIALIZABLE forbids.
    """
    monkeypatch.setenv("MATRIX_DATABASE_URL", database_url)
    monkeypatch.setenv("MATRIX_UNPOOLED", "1")
    monkeypatch.setattr(sessions, "_ENGINES", {})
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    option = f"--isolation-matrix={database_url}"

    sound = pytester.runpytest_inprocess(option)
    broken = pytester.runpytest_inprocess(
        option,
        "--isolation-sessions=tests.targets.sessions:read_committed",
        "--isolation-level=serializable",
    )

    sound.assert_outcomes(passed=42)
    broken.assert_outcomes(passed=5, failed=10)
    broken.stdout.fnmatch_lines(
        [
            "Sessions run at READ COMMITTED and the service relies on SERIALIZABLE.*",
            "*SERIALIZABLE let G2-item happen: Two transactions read both rows*",
            "FAILED ::isolation-matrix[[]serializable-P4[]]*",
        ]
    )


def test_plugin_tells_a_wrong_level(pytester: pytest.Pytester) -> None:
    """A level that is none ends the run before anything is played."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")

    result = pytester.runpytest_inprocess(
        "--isolation-matrix=postgresql://nowhere", "--isolation-level=snapshot"
    )

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*'snapshot' is no level of Postgres*"])
