"""Intents, node sets and leases of controllers.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ROLE = "isolation_app"
OWN = "user_id = nullif(current_setting('app.user_id', true), '')::uuid"
CONTROL = "current_setting('app.scope', true) = 'control'"
USERS_ONLY = ("intents", "node_sets", "nodes")

TABLES = (
    """
    CREATE TABLE intents (
        id uuid PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
        goal text NOT NULL,
        idempotency_key text,
        phase text NOT NULL CHECK (phase IN ('pending', 'applied', 'refused')),
        node_set text,
        replicas integer,
        problem text,
        version bigint NOT NULL DEFAULT 1,
        epoch bigint,
        created_at timestamptz NOT NULL DEFAULT now(),
        settled_at timestamptz,
        UNIQUE (user_id, idempotency_key)
    )
    """,
    "CREATE INDEX intents_newest ON intents (user_id, created_at DESC)",
    """
    CREATE TABLE node_sets (
        user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
        name text NOT NULL,
        replicas integer NOT NULL CHECK (replicas BETWEEN 0 AND 100),
        generation bigint NOT NULL DEFAULT 1,
        observed_generation bigint NOT NULL DEFAULT 0,
        ready_replicas integer NOT NULL DEFAULT 0,
        lease_holder text,
        lease_token bigint NOT NULL DEFAULT 0,
        lease_expires_at timestamptz,
        version bigint NOT NULL DEFAULT 1,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (user_id, name)
    )
    """,
    """
    CREATE TABLE nodes (
        user_id uuid NOT NULL,
        node_set text NOT NULL,
        ordinal integer NOT NULL,
        epoch bigint NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (user_id, node_set, ordinal),
        FOREIGN KEY (user_id, node_set) REFERENCES node_sets (user_id, name)
            ON DELETE CASCADE
    )
    """,
    # What needs work, by key alone: the one table that a leader reads for all users.
    """
    CREATE TABLE control_keys (
        user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
        kind text NOT NULL CHECK (kind IN ('intent', 'node-set')),
        name text NOT NULL,
        revision bigint NOT NULL DEFAULT 1,
        settled bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (user_id, kind, name)
    )
    """,
    "CREATE INDEX control_keys_open ON control_keys (created_at) "
    "WHERE settled < revision",
    # Of nobody: who leads the controllers of all users. It holds no user's data.
    """
    CREATE TABLE leaderships (
        name text PRIMARY KEY,
        epoch bigint NOT NULL,
        holder text NOT NULL,
        elected_at timestamptz NOT NULL DEFAULT now()
    )
    """,
)


def upgrade() -> None:
    for statement in TABLES:
        op.execute(statement)
    for table in (*USERS_ONLY, "control_keys"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY own_rows ON {table} USING ({OWN}) WITH CHECK ({OWN})"
        )
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}")
    # The controllers' scope lists keys; what a key stands for opens to its user alone.
    op.execute(
        f"CREATE POLICY listed_keys ON control_keys FOR SELECT USING ({CONTROL})"
    )
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON leaderships TO {ROLE}")


def downgrade() -> None:
    for table in ("leaderships", "control_keys", "nodes", "node_sets", "intents"):
        op.execute(f"DROP TABLE {table}")
