"""Who leads, as the database knows it: a number that grows with each leader.

A leader shows its number, the *epoch*, in every transaction that writes, and a
transaction with an old one is refused. The row of the leadership is share-locked until
that transaction ends, so a new leader, who changes the row, begins after the last write
of the old one: there is no instant at which both write. A leader that is stopped in the
middle of a transaction would keep its successor waiting, so the server ends such a
transaction after a while. It takes two limits: one for a transaction that nobody speaks
in, and one for all of it, since a driver that is stopped between the parts of one
statement (asyncpg parses, looks at the answer, then executes) leaves a session that is
not idle. The second came with Postgres 17; before, that successor waits until the
stopped process is killed or woken.

Leaderships belong to no user, so the table has no ``user_id``.

Source: Kleppmann, "How to do distributed locking", 2016 (fencing tokens).
"""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.context import UserExecutionContext
from app.storage.engine import transaction_limit

IDLE_IN_TRANSACTION_MS = 1_000
TRANSACTION_MS = 2_000
"""How long a leader's transaction may take: some hundred times what one needs."""

_DRAW = text(
    "INSERT INTO leaderships (name, epoch, holder) VALUES (:name, 1, :holder) "
    "ON CONFLICT (name) DO UPDATE SET epoch = leaderships.epoch + 1, "
    "holder = excluded.holder, elected_at = now() RETURNING epoch"
)
_CLAIM = text(
    "INSERT INTO leaderships (name, epoch, holder) VALUES (:name, :epoch, :holder) "
    "ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch, "
    "holder = excluded.holder, elected_at = now() "
    "WHERE leaderships.epoch < excluded.epoch RETURNING epoch"
)
_READ = text("SELECT epoch FROM leaderships WHERE name = :name")
# The limit of all transactions runs already, and Postgres changes none that runs: it is
# taken away first.
_UNLIMITED = transaction_limit("'0'", is_local=True)
_LIMITED = transaction_limit(":transaction_ms", is_local=True)
_REQUIRE = text(
    "SELECT set_config('idle_in_transaction_session_timeout', :idle_ms, true), "  # noqa: S608  # of constants
    f"{_UNLIMITED}, {_LIMITED} "
    "FROM (SELECT FROM leaderships WHERE name = :name AND epoch = :epoch FOR SHARE) "
    "AS mine"
)


@dataclass(frozen=True, slots=True)
class Leadership:
    """What a leader shows with each write.

    Attributes:
        name: What is led.
        epoch: Its fencing token; larger than that of all leaders before.
    """

    name: str
    epoch: int


class StaleLeaderError(RuntimeError):
    """Raised when a leader writes after another one was elected: nothing is written."""


async def draw_epoch(connection: AsyncConnection, name: str, holder: str) -> Leadership:
    """Begin a new leadership, under the next epoch.

    Waits for transactions of the leader before. The caller has to be elected already.
    """
    given = await connection.execute(_DRAW, {"name": name, "holder": holder})
    return Leadership(name, given.scalar_one())


async def claim_epoch(
    connection: AsyncConnection, leadership: Leadership, holder: str
) -> bool:
    """Begin a leadership under an epoch drawn elsewhere; False when it is too low."""
    given = await connection.execute(
        _CLAIM, {"name": leadership.name, "epoch": leadership.epoch, "holder": holder}
    )
    return given.first() is not None


async def last_epoch(connection: AsyncConnection, name: str) -> int:
    """Return the epoch of the newest leadership; 0 before the first."""
    return int((await connection.execute(_READ, {"name": name})).scalar() or 0)


async def require_leadership(
    context: UserExecutionContext, leadership: Leadership
) -> None:
    """Let the current transaction be of this leadership, to its end.

    Raises:
        StaleLeaderError: Another leader was elected.
    """
    found = await context.database.execute(
        _REQUIRE,
        {
            "name": leadership.name,
            "epoch": leadership.epoch,
            "idle_ms": str(IDLE_IN_TRANSACTION_MS),
            "transaction_ms": str(TRANSACTION_MS),
        },
    )
    if found.first() is None:
        message = (
            f"Epoch {leadership.epoch} of {leadership.name!r} is over: another leader "
            "was elected."
        )
        raise StaleLeaderError(message)
