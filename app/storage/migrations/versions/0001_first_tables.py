"""The first tables, the service's role and row-level security.

Revision ID: 0001
Revises:
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROLE = "isolation_app"

# Roles belong to the whole server: another database of it may create the same role at
# this moment, which our lock does not see. It is never altered here: an operator's
# choice stands, and the service checks at its start that the role cannot bypass.
CREATE_ROLE = f"""
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
        CREATE ROLE {ROLE} NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$
"""

# A superuser may become any role. Another login becomes it only as a member, which it
# can make itself if it created the role; if not, that is for the operator to grant.
GRANT_ROLE = f"""
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT {ROLE} TO %I', current_user);
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    NULL;
END
$$
"""

TABLES = """
CREATE TABLE users (
    user_id uuid PRIMARY KEY,
    username text NOT NULL UNIQUE,
    password_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    family_id uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    spent_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family_id);

CREATE TABLE threads (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    title text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (user_id, id)
);
CREATE INDEX threads_newest ON threads (user_id, created_at DESC);

CREATE TABLE messages (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    thread_id uuid NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    role text NOT NULL CHECK (role IN ('user', 'agent')),
    content text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (user_id, thread_id) REFERENCES threads (user_id, id) ON DELETE CASCADE
);
CREATE INDEX messages_in_thread ON messages (user_id, thread_id, position);

CREATE TABLE documents (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    title text NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX documents_newest ON documents (user_id, created_at DESC);

CREATE TABLE runs (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    thread_id uuid NOT NULL,
    request_id text NOT NULL,
    goal text NOT NULL,
    status text NOT NULL
        CHECK (status IN ('running', 'completed', 'failed', 'cancelled')),
    result text,
    error text,
    cancel_requested boolean NOT NULL DEFAULT false,
    events_after bigint NOT NULL,
    deadline_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    FOREIGN KEY (user_id, thread_id) REFERENCES threads (user_id, id) ON DELETE CASCADE
);
CREATE INDEX runs_newest ON runs (user_id, created_at DESC);
CREATE INDEX runs_in_thread ON runs (user_id, thread_id);

CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id uuid NOT NULL,
    request_id text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_log_of_user ON audit_log (user_id, at);
"""

OWN = "user_id = nullif(current_setting('app.user_id', true), '')::uuid"
AUTH = "current_setting('app.scope', true) = 'auth'"
USERS_ONLY = ("threads", "messages", "documents", "runs")
AUTH_TOO = ("users", "refresh_tokens")


def _statements() -> list[str]:
    statements = [CREATE_ROLE, GRANT_ROLE]
    statements += [part for part in TABLES.split(";") if part.strip()]
    statements.append(f"GRANT USAGE ON SCHEMA public TO {ROLE}")
    for table in (*USERS_ONLY, *AUTH_TOO, "audit_log"):
        statements += [
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            # Forced: it binds the table's owner as well.
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
        ]
    for table in USERS_ONLY:
        statements += [
            f"CREATE POLICY own_rows ON {table} USING ({OWN}) WITH CHECK ({OWN})",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}",
        ]
    for table in AUTH_TOO:
        rule = f"({OWN} OR {AUTH})"
        statements += [
            f"CREATE POLICY own_rows ON {table} USING {rule} WITH CHECK {rule}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}",
        ]
    statements += [
        # Adding and reading only: a trail that its writer can change proves nothing.
        f"CREATE POLICY own_rows ON audit_log USING ({OWN}) WITH CHECK ({OWN})",
        f"GRANT SELECT, INSERT ON audit_log TO {ROLE}",
    ]
    return statements


def upgrade() -> None:
    for statement in _statements():
        op.execute(statement)


def downgrade() -> None:
    for table in ("audit_log", "runs", "documents", "messages", "threads"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP TABLE refresh_tokens")
    op.execute("DROP TABLE users")
    # The role may serve other databases of this server, so it stays.
