"""Channels in Postgres: NOTIFY, and a table that is a queue by SKIP LOCKED."""

import asyncio
import secrets
from typing import Any, Self

import asyncpg

from test_framework.battery.channels.resuming import Resuming
from test_framework.check.channels import Cancelled, Order, Promise
from test_framework.core import TargetError

_CONNECTIONS = 4

_TABLE = """
create table if not exists battery_messages (
    id bigint generated always as identity primary key,
    queue text not null, body text not null, taken_by int
)
"""
# Two that create the same table at once: one of them fails, whatever it asks for.
_TABLE_LOCK = "select pg_advisory_xact_lock(hashtext('battery_messages'))"
_ADD = """
with added as (insert into battery_messages (queue, body) values ($1, $2) returning id)
select pg_notify($3, '') from added
"""
_TAKE = """
update battery_messages set taken_by = $2 where id = (
    select id from battery_messages where queue = $1 and taken_by is null
    order by id limit 1 for update skip locked
) returning id, body
"""


class _Connections:
    """A few connections for statements, and one that listens.

    Not a pool of asyncpg: that resets a connection whose statement was cancelled, and
    when the reset is cancelled as well an error is left that nobody reads.

    Args:
        dsn: Where Postgres listens.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn, self.name = dsn, f"battery_{secrets.token_hex(8)}"
        self.listener: Any = None
        self._idle: asyncio.LifoQueue[Any] = asyncio.LifoQueue()

    async def open(self) -> Self:
        """Connect; what makes the channel awaits it.

        Raises:
            TargetError: Nobody answers there.
        """
        try:
            self.listener = await asyncpg.connect(self._dsn)
            for _ in range(_CONNECTIONS):
                self._idle.put_nowait(await asyncpg.connect(self._dsn))
        except (OSError, asyncpg.PostgresError) as error:
            raise TargetError(
                f"Postgres does not answer: {error}. Start it, or pass the DSN of one "
                "that runs."
            ) from error
        return self

    async def fetchrow(self, statement: str, *arguments: object) -> Any:  # noqa: ANN401  # a row or None
        """Execute a statement on a connection that nobody uses now."""
        connection = await self._idle.get()
        try:
            return await connection.fetchrow(statement, *arguments)
        finally:
            self._idle.put_nowait(connection)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.listener.close()
        while not self._idle.empty():
            await self._idle.get_nowait().close()


class PostgresNotifyChannel(_Connections):
    """NOTIFY on a channel for each consumer: nothing is kept for who does not listen."""

    promise = Promise(order=Order.FIFO, is_addressed=True)

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self._inboxes: dict[int, asyncio.Queue[str]] = {}

    def topic(self, consumer: int) -> str:
        """Return the channel of a consumer."""
        return f"{self.name}_{consumer}"

    async def subscribe(self, consumer: int) -> None:
        """Listen from now on."""
        inbox = self._inboxes[consumer] = asyncio.Queue()
        await self.listener.add_listener(
            self.topic(consumer), lambda *event: inbox.put_nowait(event[-1])
        )

    async def send(self, message: str, to: int) -> None:
        """Notify."""
        await self.fetchrow("select pg_notify($1, $2)", self.topic(to), message)

    async def receive(self, consumer: int) -> str:
        """Return the oldest that came."""
        return await self._inboxes[consumer].get()


class PostgresQueueChannel(_Connections):
    """Rows taken by FOR UPDATE SKIP LOCKED, and deleted when the next one is asked for.

    Consumers sleep until a NOTIFY. Which notes came is counted, and a consumer reads
    the count before it looks for a row: one between the two is not missed.
    """

    def __init__(self, dsn: str, *, is_addressed: bool = False) -> None:
        super().__init__(dsn)
        self.is_addressed = is_addressed
        self._resuming = Resuming(self.take)
        self._taken: dict[int, int] = {}
        self._notes = 0
        self._noted = asyncio.Condition()
        self._woken: set[asyncio.Task[None]] = set()

    @property
    def promise(self) -> Promise:
        """Once, and what a cancelled receive took comes next."""
        return Promise(
            order=Order.FIFO,
            is_addressed=self.is_addressed,
            cancelled=Cancelled.RESUMES,
        )

    async def open(self) -> Self:
        """Connect, create the table, and listen."""
        await super().open()
        async with self.listener.transaction():
            await self.listener.execute(_TABLE_LOCK)
            await self.listener.execute(_TABLE)
        await self.listener.add_listener(self.name, self._note)
        return self

    def _note(self, *_: object) -> None:
        waking = asyncio.ensure_future(self._wake())
        self._woken.add(waking)
        waking.add_done_callback(self._woken.discard)

    async def _wake(self) -> None:
        async with self._noted:
            self._notes += 1
            self._noted.notify_all()

    def queue(self, consumer: int) -> str:
        """Return the name of a consumer's queue."""
        return f"{self.name}_{consumer}" if self.is_addressed else self.name

    async def send(self, message: str, to: int) -> None:
        """Insert, and notify with the same commit."""
        await self.fetchrow(_ADD, self.queue(to), message, self.name)

    async def receive(self, consumer: int) -> str:
        """Return the next message, that of a cancelled receive first."""
        return await self._resuming.receive(consumer)

    async def take(self, consumer: int) -> str:
        """Delete the last message and take the oldest that nobody has."""
        last = self._taken.pop(consumer, None)
        if last is not None:
            await self.fetchrow("delete from battery_messages where id = $1", last)
        while True:
            notes = self._notes
            row = await self.fetchrow(_TAKE, self.queue(consumer), consumer)
            if row is not None:
                self._taken[consumer] = row["id"]
                return str(row["body"])
            await self._next_note(notes)

    async def _next_note(self, seen: int) -> None:
        async with self._noted:
            await self._noted.wait_for(lambda: self._notes > seen)

    async def aclose(self) -> None:
        """Stop waiting, delete what is left, close the connections."""
        await self._resuming.stop()
        await self.fetchrow(
            "delete from battery_messages where starts_with(queue, $1)", self.name
        )
        await super().aclose()
