"""The tables, as queries see them; migrations create them.

Every table of users' rows has a ``user_id``, and the policies of row-level security compare it with
the user of the transaction. References between a user's rows carry the ``user_id``
too: Postgres checks foreign keys without row-level security, so a plain reference
would let a user hang a message under somebody else's thread.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
)

metadata = MetaData()


def _id(name: str = "id", *, primary: bool = False) -> Column[str]:
    # Text in Python: ids are compared, put in keys and sent as JSON, never computed.
    return Column(name, Uuid(as_uuid=False), primary_key=primary, nullable=False)


def _now(name: str) -> Column[object]:
    return Column(
        name, DateTime(timezone=True), nullable=False, server_default=func.now()
    )


users = Table(
    "users",
    metadata,
    _id("user_id", primary=True),
    Column("username", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    _now("created_at"),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    _id("user_id"),
    _id("family_id"),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("spent_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    _now("created_at"),
)

threads = Table(
    "threads",
    metadata,
    _id(primary=True),
    _id("user_id"),
    Column("title", Text, nullable=False),
    _now("created_at"),
    _now("updated_at"),
)

messages = Table(
    "messages",
    metadata,
    _id(primary=True),
    _id("user_id"),
    _id("thread_id"),
    Column("position", BigInteger, Identity(always=True)),
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    _now("created_at"),
)

documents = Table(
    "documents",
    metadata,
    _id(primary=True),
    _id("user_id"),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    _now("created_at"),
    _now("updated_at"),
)

# And ``words``, which Postgres computes, and ``embedding`` where it has pgvector.
passages = Table(
    "passages",
    metadata,
    _id(primary=True),
    _id("user_id"),
    _id("document_id"),
    Column("position", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("embedded_by", Text),
    _now("created_at"),
)

runs = Table(
    "runs",
    metadata,
    _id(primary=True),
    _id("user_id"),
    _id("thread_id"),
    Column("request_id", Text, nullable=False),
    Column("goal", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("result", Text),
    Column("error", Text),
    Column("cancel_requested", Boolean, nullable=False, server_default="false"),
    Column("events_after", BigInteger, nullable=False),
    Column("deadline_at", DateTime(timezone=True), nullable=False),
    _now("created_at"),
    Column("finished_at", DateTime(timezone=True)),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _id("user_id"),
    Column("request_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    _now("at"),
)

user_roles = Table(
    "user_roles",
    metadata,
    _id("user_id", primary=True),
    Column("role", Text, primary_key=True),
    _now("created_at"),
)

# Of nobody, like ``audit_anchors`` and ``refusals``: it holds for all users.
policies = Table(
    "policies",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("document", JSON, nullable=False),
    _id("created_by"),
    _now("created_at"),
)

audit_heads = Table(
    "audit_heads",
    metadata,
    _id("user_id", primary=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

audit_links = Table(
    "audit_links",
    metadata,
    _id("user_id", primary=True),
    Column("seq", BigInteger, primary_key=True),
    Column("entry_id", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

audit_anchors = Table(
    "audit_anchors",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    _now("created_at"),
)

audit_anchored_heads = Table(
    "audit_anchored_heads",
    metadata,
    Column("number", BigInteger, nullable=False),
    _id("user_id", primary=True),
    Column("seq", BigInteger, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
)

refusals = Table(
    "refusals",
    metadata,
    Column("minute", DateTime(timezone=True), primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("refused", BigInteger, nullable=False),
    _now("last_at"),
)

intents = Table(
    "intents",
    metadata,
    _id(primary=True),
    _id("user_id"),
    Column("goal", Text, nullable=False),
    Column("idempotency_key", Text),
    Column("phase", Text, nullable=False),
    Column("node_set", Text),
    Column("replicas", Integer),
    Column("problem", Text),
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("epoch", BigInteger),
    _now("created_at"),
    Column("settled_at", DateTime(timezone=True)),
)

node_sets = Table(
    "node_sets",
    metadata,
    _id("user_id", primary=True),
    Column("name", Text, primary_key=True),
    Column("replicas", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False, server_default="1"),
    Column("observed_generation", BigInteger, nullable=False, server_default="0"),
    Column("ready_replicas", Integer, nullable=False, server_default="0"),
    Column("lease_holder", Text),
    Column("lease_token", BigInteger, nullable=False, server_default="0"),
    Column("lease_expires_at", DateTime(timezone=True)),
    Column("version", BigInteger, nullable=False, server_default="1"),
    _now("created_at"),
    _now("updated_at"),
)

nodes = Table(
    "nodes",
    metadata,
    _id("user_id", primary=True),
    Column("node_set", Text, primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    _now("created_at"),
)

control_keys = Table(
    "control_keys",
    metadata,
    _id("user_id", primary=True),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False, server_default="1"),
    Column("settled", BigInteger, nullable=False, server_default="0"),
    _now("created_at"),
)

# Of nobody: keys sign for all users. Seen in transactions for keys only.
signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", Text, primary_key=True),
    Column("root", Text, nullable=False),
    Column("public", LargeBinary, nullable=False),
    Column("tag", LargeBinary, nullable=False),
    Column("sealed", LargeBinary),
    Column("state", Text, nullable=False),
    _now("published_at"),
    Column("activated_at", DateTime(timezone=True)),
    Column("retired_at", DateTime(timezone=True)),
)
