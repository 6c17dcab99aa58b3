"""Documents from before there were passages are found after the migration."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.settings import Settings
from app.storage.migrate import SCRIPTS, migrate
from app.storage.passages import PASSAGE_CHARS

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest_asyncio.fixture
async def empty_database(settings: Settings) -> AsyncIterator[str]:
    """Return the URL of a database of its own."""
    name = f"migrated_{uuid4().hex}"
    owner = create_async_engine(
        settings.owner_database_url, poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    async with owner.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
        yield (
            make_url(settings.owner_database_url)
            .set(database=name)
            .render_as_string(hide_password=False)
        )
        await connection.execute(text(f"DROP DATABASE {name}"))


def _go_back(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.downgrade(config, "0002")


async def test_old_documents_get_passages(empty_database: str) -> None:
    """Going back removes the passages, going forward again makes them of what there is."""
    await migrate(empty_database)
    engine = create_async_engine(empty_database, poolclass=NullPool)
    user_id, document_id, body = str(uuid4()), str(uuid4()), "about soup " * 100
    async with engine.begin() as connection:
        await connection.run_sync(_go_back)
        await connection.execute(
            text("INSERT INTO users VALUES (:user_id, 'ada', '-')"),
            {"user_id": user_id},
        )
        await connection.execute(
            text(
                "INSERT INTO documents (id, user_id, title, body) VALUES "
                "(:id, :user_id, 't', :body), (gen_random_uuid(), :user_id, 't', '')"
            ),
            {"id": document_id, "user_id": user_id, "body": body},
        )

    await migrate(empty_database)

    async with engine.connect() as connection:
        rows = (
            await connection.execute(
                text(
                    "SELECT user_id::text, document_id::text, text FROM passages "
                    "ORDER BY position"
                )
            )
        ).all()
        forced = await connection.scalar(
            text(
                "SELECT bool_and(relforcerowsecurity) FROM pg_class "
                "WHERE relname IN ('documents', 'passages')"
            )
        )
    await engine.dispose()
    assert [row[:2] for row in rows] == [(user_id, document_id)] * 2
    assert "".join(row.text for row in rows) == body
    assert len(rows[0].text) == PASSAGE_CHARS
    assert forced, "the migration left row-level security open"
