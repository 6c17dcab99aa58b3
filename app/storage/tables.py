"""The tables, as queries see them; migrations create them.

Every table has a ``user_id``, and the policies of row-level security compare it with
the user of the transaction. References between a user's rows carry the ``user_id``
too: Postgres checks foreign keys without row-level security, so a plain reference
would let a user hang a message under somebody else's thread.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
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
