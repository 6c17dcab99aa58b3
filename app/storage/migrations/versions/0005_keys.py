"""Signing keys and secrets.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ROLE = "isolation_app"
KEYS = "current_setting('app.scope', true) = 'keys'"

# The private half of a retired key is gone. One key signs, and one comes next, for each
# root secret that keys are sealed under.
STATEMENTS = (
    """
    CREATE TABLE signing_keys (
        kid text PRIMARY KEY,
        root text NOT NULL,
        public bytea NOT NULL,
        tag bytea NOT NULL,
        sealed bytea,
        state text NOT NULL CHECK (state IN ('next', 'active', 'retired')),
        published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        activated_at timestamptz,
        retired_at timestamptz,
        CHECK ((sealed IS NULL) = (state = 'retired')),
        CHECK ((activated_at IS NULL) = (state = 'next')),
        CHECK ((retired_at IS NOT NULL) = (state = 'retired'))
    )
    """,
    """
    CREATE UNIQUE INDEX signing_keys_one_of_a_state ON signing_keys (root, state)
    WHERE state <> 'retired'
    """,
    "ALTER TABLE signing_keys ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE signing_keys FORCE ROW LEVEL SECURITY",
    f"CREATE POLICY keys ON signing_keys USING ({KEYS}) WITH CHECK ({KEYS})",
    f"GRANT SELECT, INSERT, UPDATE, DELETE ON signing_keys TO {ROLE}",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE signing_keys")
