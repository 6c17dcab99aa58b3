"""Alerts.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ROLE = "isolation_app"
TABLES = ("alert_episodes", "alert_batches", "alert_notices")

# About the service and none of its users, so without a user_id: no user's transaction
# sees a row, since the policies ask for a scope that only the alerts' store sets.
CREATE = (
    """
    CREATE TABLE alert_episodes (
        fingerprint text PRIMARY KEY,
        rule text NOT NULL,
        component text NOT NULL,
        tier text NOT NULL CHECK (tier IN ('critical', 'warning', 'trend')),
        summary text NOT NULL,
        state text NOT NULL CHECK (state IN ('pending', 'firing', 'resolved')),
        episode bigint NOT NULL DEFAULT 0,
        pending_since timestamptz NOT NULL,
        seen_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE alert_batches (
        key uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        rule text NOT NULL,
        tier text NOT NULL,
        created_at timestamptz NOT NULL,
        leased_until timestamptz NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        closed_at timestamptz
    )
    """,
    "CREATE INDEX alert_batches_open ON alert_batches (created_at)"
    " WHERE closed_at IS NULL",
    """
    CREATE TABLE alert_notices (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        fingerprint text NOT NULL REFERENCES alert_episodes,
        episode bigint NOT NULL,
        event text NOT NULL CHECK (event IN ('firing', 'resolved')),
        summary text NOT NULL,
        happened_at timestamptz NOT NULL,
        batch uuid REFERENCES alert_batches ON DELETE CASCADE,
        UNIQUE (fingerprint, episode, event)
    )
    """,
    "CREATE INDEX alert_notices_waiting ON alert_notices (id) WHERE batch IS NULL",
    "CREATE INDEX alert_notices_in_batch ON alert_notices (batch)",
)


def upgrade() -> None:
    for statement in CREATE:
        op.execute(statement)
    rule = "(current_setting('app.scope', true) = 'monitoring')"
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY operators ON {table} USING {rule} WITH CHECK {rule}")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}")


def downgrade() -> None:
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
