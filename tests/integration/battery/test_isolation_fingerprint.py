"""The level of a live Postgres is named from what load shows."""

import asyncpg
import pytest
from click.testing import CliRunner

from test_framework.battery.isolation import PostgresLevel, fingerprint
from test_framework.battery.isolation.matrix import AUTOCOMMIT, SHARED
from test_framework.cli.matrix import matrix
from test_framework.core import UsageError
from tests.targets import sessions

# Eight clients hold a connection each and take a lock of rows in turn.
pytestmark = [pytest.mark.integration, pytest.mark.detect]

RC, RR, SER = PostgresLevel


async def test_read_skew_names_read_committed(database_url: str) -> None:
    """The default level gives itself away at the first look, and nothing is left.

    700 transactions of a busy machine show read skew more than twenty times; none in
    seven looks would be far below one in a million.
    """
    found = await fingerprint(database_url)

    assert found.level is RC
    assert {"G-single", "lost-update", "internal"} & set(found.proof)
    connection = await asyncpg.connect(database_url)
    left = await connection.fetchval(
        "select count(*) from pg_class where relname like 'isolation_matrix_%'"
    )
    await connection.close()
    assert left == 0


async def test_serializable_raises_no_alarm(database_url: str) -> None:
    """However short the load: at SERIALIZABLE nothing is ever found."""
    found = await fingerprint(database_url, level=SER, seconds=1)

    assert (found.level, found.proof) == (SER, ())
    assert found.committed > 0


async def test_sessions_of_wrong_level_are_named(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a service's sessions it is their level that counts."""
    monkeypatch.setenv("MATRIX_DATABASE_URL", database_url)
    try:
        found = await fingerprint(database_url, sessions=sessions.autocommit)
        shared = await fingerprint(database_url, sessions=sessions.shared)
    finally:
        await sessions.dispose()

    assert found.level in {RC, None}
    assert found.problems == (AUTOCOMMIT,)
    assert (shared.level, shared.problems) == (None, (SHARED,))


def test_command_names_the_level(database_url: str) -> None:
    """Exit 1 where a level is weaker than the one that is relied on, and else 0."""
    runner = CliRunner()
    options = [database_url, "--fingerprint"]

    plain = runner.invoke(matrix, options)
    kept = runner.invoke(matrix, [*options, "--level", "read committed"])

    assert (plain.exit_code, kept.exit_code) == (0, 0)
    assert plain.output.startswith("READ COMMITTED: ")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
async def test_every_level_is_named_each_time(database_url: str, seed: int) -> None:
    """Twenty runs of each level are right, and SERIALIZABLE is never accused."""
    for level in PostgresLevel:
        found = await fingerprint(database_url, level=level, seed=seed)
        assert (level, found.level, found.seconds < 10) == (level, level, True)


async def test_load_of_no_time_is_refused() -> None:
    """Nothing would be seen, so nothing could be named."""
    with pytest.raises(UsageError, match="seconds=0"):
        await fingerprint("postgresql://nowhere", seconds=0)
