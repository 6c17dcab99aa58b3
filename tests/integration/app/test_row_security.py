"""Row-level security: the database itself refuses what code above gets wrong."""

import contextlib
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import delete, func, insert, make_url, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.security import Role
from app.settings import Settings
from app.storage import (
    StorageError,
    add_nodes,
    check_role,
    list_open_keys,
    open_engine,
)
from app.storage.grant import grant
from app.storage.tables import metadata
from tests.integration.app.service import Service, running

pytestmark = [pytest.mark.integration, pytest.mark.slow]
# Policies, anchors and refusals are nobody's; anchored heads are for auditors alone.
TABLES = sorted(
    name
    for name, table in metadata.tables.items()
    if "user_id" in table.columns and name != "audit_anchored_heads"
)
WRITTEN_ONCE = {"audit_log", "audit_heads", "audit_links"}
USERS_ONLY = sorted(set(TABLES) - {"users", "refresh_tokens"})


async def _full_of_ada(service: Service, settings: Settings) -> str:
    """Give one user a row in every table and return the user's id."""
    async with service.member() as ada:
        thread = await ada.new("/threads", title="t")
        await ada.new(f"/threads/{thread}/messages", content="m")
        await ada.new("/documents", title="d", body="b")
        run = await ada.new(f"/threads/{thread}/runs", goal="g")
        async with ada.http.stream("GET", f"/runs/{run}/events") as events:
            await events.aread()
        await grant(settings, ada.username, Role.AUDITOR)
        intent = await ada.http.post("/intents", json={"goal": "run 1 node in web"})
        assert intent.status_code == 202, intent.text
        scaled = await ada.http.post("/node-sets/web/scale", json={"by": 1})
        assert scaled.status_code == 200, scaled.text
        async with service.context(ada.user_id) as context:
            await add_nodes(context, "web", [0], epoch=1)
        return ada.user_id


@pytest.mark.parametrize("table", TABLES)
async def test_other_users_rows_are_invisible(settings: Settings, table: str) -> None:
    """A query without any condition returns the own rows, in every table."""
    async with running(settings) as service:
        ada = await _full_of_ada(service, settings)
        async with service.member() as bob, service.context(bob.user_id) as context:
            owners = await context.database.scalars(
                select(metadata.tables[table].c.user_id)
            )

            assert set(owners) <= {bob.user_id}
        async with service.context(ada) as context:
            own = select(func.count()).select_from(metadata.tables[table])
            assert (await context.database.scalar(own) or 0) > 0


@pytest.mark.parametrize("table", sorted(set(TABLES) - WRITTEN_ONCE))
async def test_other_users_rows_cannot_change(settings: Settings, table: str) -> None:
    """An update or delete without any condition touches no other user's row."""
    async with running(settings) as service:
        ada, rows = await _full_of_ada(service, settings), metadata.tables[table]
        async with service.member() as bob, service.context(bob.user_id) as context:
            touched = await context.database.scalars(
                update(rows).values(created_at=func.now()).returning(rows.c.user_id)
            )
            assert set(touched) <= {bob.user_id}
            gone = await context.database.scalars(
                delete(rows).where(rows.c.user_id == ada).returning(rows.c.user_id)
            )
            assert list(gone) == []


async def test_row_for_another_user_is_refused(settings: Settings) -> None:
    """A row that names another user as its owner cannot be written."""
    rows = metadata.tables["documents"]
    async with (
        running(settings) as service,
        service.member() as ada,
        service.member() as bob,
    ):
        with pytest.raises(DBAPIError, match="row-level security"):
            async with service.context(bob.user_id) as context:
                await context.database.execute(
                    insert(rows).values(
                        id=str(uuid4()), user_id=ada.user_id, title="x", body="x"
                    )
                )


async def test_message_cannot_enter_foreign_thread(settings: Settings) -> None:
    """The foreign key names the owner too: no row hangs under a foreign thread."""
    rows = metadata.tables["messages"]
    async with (
        running(settings) as service,
        service.member() as ada,
        service.member() as bob,
    ):
        thread = await ada.new("/threads", title="t")
        with pytest.raises(DBAPIError, match="foreign key"):
            async with service.context(bob.user_id) as context:
                await context.database.execute(
                    insert(rows).values(
                        id=str(uuid4()),
                        user_id=bob.user_id,
                        thread_id=thread,
                        role="user",
                        content="x",
                    )
                )


async def test_audit_trail_cannot_be_rewritten(settings: Settings) -> None:
    """Not even the own entries of the trail can be changed or deleted."""
    async with running(settings) as service, service.member() as ada:
        await ada.new("/threads", title="t")
        for statement in (
            "UPDATE audit_log SET action = 'x'",
            "DELETE FROM audit_log",
            "UPDATE audit_links SET seq = seq + 1",
            "DELETE FROM audit_links",
            "UPDATE audit_heads SET seq = 0",
            "DELETE FROM audit_heads",
        ):
            with pytest.raises(DBAPIError, match="permission denied"):
                async with service.context(ada.user_id) as context:
                    await context.database.execute(text(statement))


@pytest.mark.parametrize("table", TABLES)
async def test_session_without_user_sees_nothing(
    settings: Settings, table: str
) -> None:
    """A transaction that forgot to set its user sees an empty database."""
    async with running(settings) as service:
        await _full_of_ada(service, settings)
        async with service.parts.engine.connect() as connection:
            rows = await connection.execute(select(metadata.tables[table]))

            assert rows.all() == []


@pytest.mark.parametrize("table", USERS_ONLY)
async def test_auth_scope_sees_no_user_data(settings: Settings, table: str) -> None:
    """The scope for logging in opens accounts and tokens, nothing else."""
    async with running(settings) as service:
        await _full_of_ada(service, settings)
        async with service.parts.sessions.for_auth() as session:
            rows = await session.execute(select(metadata.tables[table]))

            assert rows.all() == []


@pytest.mark.parametrize("table", sorted(set(TABLES) - {"control_keys"}))
async def test_control_scope_lists_keys_alone(settings: Settings, table: str) -> None:
    """The scope of the controllers shows which things are whose, and none of them."""
    async with running(settings) as service:
        ada = await _full_of_ada(service, settings)
        async with service.parts.sessions.for_control() as session:
            rows = await session.execute(select(metadata.tables[table]))
            keys = await list_open_keys(session, limit=10_000)

            assert rows.all() == []
            assert {key.kind for key in keys if key.user_id == ada} == {
                "intent",
                "node-set",
            }


async def test_control_scope_changes_no_key(settings: Settings) -> None:
    """Not even a key can be written within the scope of the controllers."""
    rows = metadata.tables["control_keys"]
    async with running(settings) as service:
        await _full_of_ada(service, settings)
        async with service.parts.sessions.for_control() as session:
            for statement in (update(rows).values(settled=9), delete(rows)):
                touched = await session.execute(statement.returning(rows.c.user_id))

                assert touched.all() == []


async def test_user_does_not_survive_in_connection(settings: Settings) -> None:
    """The next transaction on the same connection starts without a user."""
    one_connection = settings.model_copy(update={"database_pool_size": 1})
    async with running(one_connection) as service:
        ada = await _full_of_ada(service, settings)
        async with service.context(ada) as context:
            pid = await context.database.scalar(text("SELECT pg_backend_pid()"))
        async with service.parts.engine.connect() as connection:
            again, user_id, scope = (
                await connection.execute(
                    text(
                        "SELECT pg_backend_pid(), current_setting('app.user_id', true),"
                        " current_setting('app.scope', true)"
                    )
                )
            ).one()

    assert again == pid
    assert (user_id or "", scope or "") == ("", "")


async def test_plain_logins_are_enough(settings: Settings) -> None:
    """An owner that may only create roles migrates, and a mere member serves.

    In a database of its own, which is dropped afterwards.
    """
    name = f"plain_{uuid4().hex}"
    root = create_async_engine(
        settings.owner_database_url, isolation_level="AUTOCOMMIT", poolclass=NullPool
    )
    url = make_url(settings.owner_database_url).set(database=name)

    def as_user(user: str) -> SecretStr:
        changed = url.set(drivername="postgresql", username=user, password="p")
        return SecretStr(changed.render_as_string(hide_password=False))

    async with root.connect() as connection, contextlib.AsyncExitStack() as stack:

        async def run(*statements: str) -> None:
            for statement in statements:
                await connection.execute(text(statement))

        stack.push_async_callback(run, f"DROP ROLE {name}_owner", f"DROP ROLE {name}")
        stack.push_async_callback(run, f"DROP DATABASE {name}")
        await run(
            f"CREATE ROLE {name}_owner LOGIN PASSWORD 'p' CREATEROLE",
            f"CREATE ROLE {name} LOGIN PASSWORD 'p' IN ROLE isolation_app",
            f"CREATE DATABASE {name} OWNER {name}_owner",
        )
        plain = settings.model_copy(
            update={
                "migration_database_url": as_user(f"{name}_owner"),
                "database_url": as_user(name),
            }
        )
        async with running(plain) as service, service.member() as ada:
            assert (await ada.http.get("/me")).json()["username"] == ada.username


async def test_absent_postgres_is_one_sentence(settings: Settings) -> None:
    """A start without Postgres names the server and the setting, not the password."""
    url = SecretStr("postgresql://ada:hunter2@127.0.0.1:1/app")
    wrong = settings.model_copy(update={"database_url": url})

    with pytest.raises(StorageError, match=r"127\.0\.0\.1:1 .* DATABASE_URL") as caught:
        async with running(wrong):
            pass

    assert "hunter2" not in str(caught.value)


async def test_service_refuses_superuser(settings: Settings) -> None:
    """A role that row-level security does not bind must not serve requests."""
    url = settings.owner_database_url
    owner = url.partition("://")[2].partition(":")[0]
    engine = open_engine(url, pool_size=1, pool_timeout_s=5, role=owner)
    try:
        with pytest.raises(StorageError, match="can bypass row-level security"):
            await check_role(engine)
    finally:
        await engine.dispose()
