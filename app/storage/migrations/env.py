"""Alembic's entry point: runs on the connection that ``app.storage.migrate`` holds."""

from alembic import context

from app.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata
)
# The connection is in a transaction already; all migrations commit together or not.
with context.begin_transaction():
    context.run_migrations()
