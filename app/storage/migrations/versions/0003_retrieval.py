"""Passages of documents for retrieval, with embeddings where the server has pgvector.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ROLE = "isolation_app"
OWN = "user_id = nullif(current_setting('app.user_id', true), '')::uuid"

# No index over words or embeddings: neither operator is leakproof, so under row-level
# security Postgres may not ask an index before the policy; and a nearest-neighbour
# index that is filtered afterwards would lose the user's hits among everybody's. A
# search reads the user's own passages through their key, and no others.
TABLE = """
CREATE TABLE passages (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    document_id uuid NOT NULL,
    position integer NOT NULL,
    text text NOT NULL,
    words tsvector GENERATED ALWAYS AS (to_tsvector('simple', text)) STORED,
    embedded_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (user_id, document_id, position),
    FOREIGN KEY (user_id, document_id)
        REFERENCES documents (user_id, id) ON DELETE CASCADE
)
"""

# Cut by length; documents that are written from now on are cut between words.
FILL = """
INSERT INTO passages (id, user_id, document_id, position, text)
SELECT gen_random_uuid(), user_id, id, n, substr(body, n * 800 + 1, 800)
FROM documents, generate_series(0, (length(body) - 1) / 800) AS n
WHERE body <> ''
"""

# The extension is trusted: whoever may create in the database may create it. A server
# that lacks it, or a login that may not, is served with text search.
EXTENSION = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') THEN
        CREATE EXTENSION IF NOT EXISTS vector;
    END IF;
EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported THEN
    NULL;
END
$$
"""

# Without a dimension: that is the model's, and models change.
EMBEDDING = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') THEN
        ALTER TABLE passages ADD COLUMN embedding vector;
    END IF;
END
$$
"""

STATEMENTS: tuple[str, ...] = (
    "ALTER TABLE documents ADD CONSTRAINT documents_of_user UNIQUE (user_id, id)",
    TABLE,
    # For a moment, within this transaction: forced, the policy hides all rows from us.
    "ALTER TABLE documents NO FORCE ROW LEVEL SECURITY",
    FILL,
    "ALTER TABLE documents FORCE ROW LEVEL SECURITY",
    EXTENSION,
    EMBEDDING,
    "ALTER TABLE passages ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE passages FORCE ROW LEVEL SECURITY",
    f"CREATE POLICY own_rows ON passages USING ({OWN}) WITH CHECK ({OWN})",
    f"GRANT SELECT, INSERT, UPDATE, DELETE ON passages TO {ROLE}",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE passages")
    op.execute("ALTER TABLE documents DROP CONSTRAINT documents_of_user")
    # The extension may serve others in this database, so it stays.
