"""The tables of alerts, for tests that begin with empty ones."""

from sqlalchemy import delete, table, text
from sqlalchemy.ext.asyncio import AsyncEngine

TABLES = [table(name) for name in ("alert_notices", "alert_batches", "alert_episodes")]


async def forget_alerts(engine: AsyncEngine) -> None:
    """Remove all alerts that earlier tests left."""
    async with engine.begin() as connection:
        await connection.execute(
            text("SELECT set_config('app.scope', 'monitoring', true)")
        )
        for rows in TABLES:
            await connection.execute(delete(rows))
