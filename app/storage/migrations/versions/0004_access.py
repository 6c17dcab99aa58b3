"""Roles and their policies, the chain of the audit log and its anchors, refusals.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ROLE = "isolation_app"

TABLES = """
CREATE TABLE user_roles (
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('auditor', 'admin')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, role)
);

CREATE TABLE policies (
    version bigint PRIMARY KEY,
    document jsonb NOT NULL,
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE audit_heads (
    user_id uuid PRIMARY KEY,
    seq bigint NOT NULL,
    hash bytea NOT NULL
);

CREATE TABLE audit_links (
    user_id uuid NOT NULL,
    seq bigint NOT NULL,
    entry_id bigint NOT NULL UNIQUE,
    hash bytea NOT NULL,
    PRIMARY KEY (user_id, seq)
);

CREATE TABLE audit_anchors (
    number bigint PRIMARY KEY,
    digest bytea NOT NULL,
    signature bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE audit_anchored_heads (
    number bigint NOT NULL REFERENCES audit_anchors,
    user_id uuid NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (user_id, seq)
);
CREATE INDEX audit_anchored_heads_of_anchor ON audit_anchored_heads (number);

CREATE TABLE refusals (
    minute timestamptz NOT NULL,
    reason text NOT NULL,
    source text NOT NULL,
    refused bigint NOT NULL,
    last_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (minute, reason, source)
);
"""

# What is hashed must be read in one way only: texts carry their length, numbers are of
# one size. ``app.security.audit`` computes the same from the rows.
HASH = """
CREATE FUNCTION audit_hash(previous bytea, seq bigint, entry audit_log)
RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT sha256(
        previous || int8send(seq) || uuid_send(entry.user_id) || int8send(entry.id)
        || int8send((extract(epoch FROM entry.at) * 1000000)::bigint)
        || int4send(octet_length(entry.request_id))
        || convert_to(entry.request_id, 'UTF8')
        || int4send(octet_length(entry.action)) || convert_to(entry.action, 'UTF8')
        || int4send(octet_length(entry.subject)) || convert_to(entry.subject, 'UTF8')
    )
$$
"""

# The upsert locks the chain's head until the transaction has ended, so writers of one
# chain come one after the other. As the owner: the service may add entries, and only
# through here does it touch heads and links.
LINK = """
CREATE FUNCTION link_audit_entry() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    number bigint;
    previous bytea;
    linked bytea;
BEGIN
    INSERT INTO audit_heads AS head (user_id, seq, hash)
        VALUES (NEW.user_id, 1, decode(repeat('00', 32), 'hex'))
        ON CONFLICT (user_id) DO UPDATE SET seq = head.seq + 1
        RETURNING head.seq, head.hash INTO number, previous;
    linked := audit_hash(previous, number, NEW);
    INSERT INTO audit_links (user_id, seq, entry_id, hash)
        VALUES (NEW.user_id, number, NEW.id, linked);
    UPDATE audit_heads SET hash = linked WHERE user_id = NEW.user_id;
    RETURN NULL;
END
$$
"""

# Deferred to the commit. The head is then the last lock that a transaction takes, so
# who holds one waits for nobody: no deadlock, and no writer waits for another's work.
TRIGGER = """
CREATE CONSTRAINT TRIGGER link_audit_entry AFTER INSERT ON audit_log
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION link_audit_entry()
"""

# Entries from before the chain are linked in the order of their ids.
BACKFILL = """
DO $$
DECLARE
    entry audit_log;
    number bigint;
    previous bytea;
    linked bytea;
BEGIN
    FOR entry IN SELECT * FROM audit_log ORDER BY id LOOP
        INSERT INTO audit_heads AS head (user_id, seq, hash)
            VALUES (entry.user_id, 1, decode(repeat('00', 32), 'hex'))
            ON CONFLICT (user_id) DO UPDATE SET seq = head.seq + 1
            RETURNING head.seq, head.hash INTO number, previous;
        linked := audit_hash(previous, number, entry);
        INSERT INTO audit_links VALUES (entry.user_id, number, entry.id, linked);
        UPDATE audit_heads SET hash = linked WHERE user_id = entry.user_id;
    END LOOP;
END
$$
"""

OWN = "user_id = nullif(current_setting('app.user_id', true), '')::uuid"
ADMIN = "current_setting('app.scope', true) = 'admin'"
AUDIT = "current_setting('app.scope', true) = 'audit'"

POLICIES = f"""
CREATE POLICY see ON user_roles FOR SELECT USING ({OWN} OR {ADMIN});
CREATE POLICY hold ON user_roles FOR UPDATE USING ({OWN} OR {ADMIN}) WITH CHECK (false);
CREATE POLICY give ON user_roles FOR INSERT WITH CHECK ({ADMIN});
CREATE POLICY take ON user_roles FOR DELETE USING ({ADMIN});
CREATE POLICY audit ON audit_log FOR SELECT USING ({AUDIT});
CREATE POLICY own_rows ON audit_heads USING ({OWN}) WITH CHECK ({OWN});
CREATE POLICY audit ON audit_heads FOR SELECT USING ({AUDIT});
CREATE POLICY own_rows ON audit_links USING ({OWN}) WITH CHECK ({OWN});
CREATE POLICY audit ON audit_links FOR SELECT USING ({AUDIT});
CREATE POLICY audit ON audit_anchored_heads USING ({AUDIT}) WITH CHECK ({AUDIT})
"""

# Row locks need UPDATE, which the policy ``hold`` then lets change nothing. Policies,
# anchors and refusals belong to no user: they are added and read, and only a refusal
# counts on.
GRANTS = f"""
GRANT SELECT, INSERT, UPDATE, DELETE ON user_roles TO {ROLE};
GRANT SELECT, INSERT ON policies TO {ROLE};
GRANT SELECT ON audit_heads, audit_links TO {ROLE};
GRANT SELECT, INSERT ON audit_anchors, audit_anchored_heads TO {ROLE};
GRANT SELECT, INSERT, UPDATE ON refusals TO {ROLE}
"""

PROTECTED = ("user_roles", "audit_heads", "audit_links", "audit_anchored_heads")
CREATED = (
    "refusals",
    "audit_anchored_heads",
    "audit_anchors",
    "audit_links",
    "audit_heads",
    "policies",
    "user_roles",
)


def upgrade() -> None:
    for statement in TABLES.split(";"):
        if statement.strip():
            op.execute(statement)
    op.execute(HASH)
    # Before row-level security: the owner links the entries of everybody.
    op.execute("ALTER TABLE audit_log NO FORCE ROW LEVEL SECURITY")
    op.execute(BACKFILL)
    op.execute("ALTER TABLE audit_log FORCE ROW LEVEL SECURITY")
    op.execute(LINK)
    op.execute(TRIGGER)
    for table in PROTECTED:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    for statement in (*POLICIES.split(";"), *GRANTS.split(";")):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP POLICY audit ON audit_log")
    op.execute("DROP TRIGGER link_audit_entry ON audit_log")
    op.execute("DROP FUNCTION link_audit_entry")
    op.execute("DROP FUNCTION audit_hash")
    for table in CREATED:
        op.execute(f"DROP TABLE {table}")
