"""Brings the database up to date; ``python -m app.storage.migrate`` does only that.

Workers and replicas start at one time, so a Postgres advisory lock lets one of them
migrate while the others wait, and then find nothing to do.
"""

import asyncio
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.security import Secret, Secrets
from app.settings import Settings, SettingsError
from app.storage.engine import StorageError, connect_error, connector

SCRIPTS = Path(__file__).parent / "migrations"
# Any constant will do, as long as nothing else in the database locks the same one.
_LOCK = 7_463_524_190


async def migrate(url: str, *, password: Secret | None = None) -> None:
    """Apply all migrations that are missing.

    Args:
        url: The database, as a role that may create tables and roles.
        password: What takes the place of the password in it.

    Raises:
        StorageError: Postgres cannot be reached, or refuses.
    """
    engine = create_async_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"async_creator_fn": connector(password)},
    )
    try:
        await _apply(engine)
    except (OSError, DBAPIError) as exc:
        raise connect_error(engine.url, exc) from exc
    finally:
        await engine.dispose()


async def _apply(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK}
        )
        await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _main() -> int:
    try:
        settings = Settings.from_environment()
        password = Secrets.of(settings).owner(settings)
        asyncio.run(migrate(settings.owner_database_url, password=password))
    except (SettingsError, StorageError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
