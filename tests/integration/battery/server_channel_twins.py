"""Channels over the wire with one defect each, as people write them."""

import asyncio
import random
from typing import Any

from test_framework.battery.channels import (
    PostgresNotifyChannel,
    PostgresQueueChannel,
    RedisListChannel,
    RedisPubSubChannel,
    RedisStreamChannel,
    WebSocketChannel,
)
from test_framework.check.channels import Order, Promise

FIFO = Promise(order=Order.FIFO)


class RedisStack(RedisListChannel):
    """LPUSH and BLPOP at the same end: the newest comes first."""

    async def send(self, message: str, to: int) -> None:
        """Push at the end that is popped."""
        await self.client.lpush(self.key(to), message)


class RedisPeek(RedisListChannel):
    """Reads the head and then removes it: two consumers get the same."""

    promise = FIFO  # what its author believes

    async def receive(self, consumer: int) -> str:
        """LINDEX, then LPOP."""
        while True:
            message = await self.client.lindex(self.key(consumer), 0)
            if message is not None:
                await self.client.lpop(self.key(consumer))
                return str(message)
            await asyncio.sleep(0.001)


class RedisCarelessList(RedisListChannel):
    """BLPOP that is believed to take nothing when it is cancelled."""

    promise = FIFO  # what its author believes


class RedisUngrouped(RedisStreamChannel):
    """XREAD without a group: every consumer gets every message."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._last: dict[int, str] = {}

    async def take(self, consumer: int) -> str:
        """Read what follows the last one of this consumer."""
        key = self.key(consumer)
        last = self._last.get(consumer, "0")
        answer = await self.client.xread({key: last}, count=1, block=0)
        ((_, entries),) = answer.items() if isinstance(answer, dict) else answer
        ((number, fields),) = entries[0] if isinstance(entries[0], list) else entries
        self._last[consumer] = number
        return str(fields["text"])


class RedisLatest(RedisStreamChannel):
    """XREAD from ``$``: what is added between two reads is missed."""

    def __init__(self, url: str) -> None:
        super().__init__(url, is_addressed=True)

    async def take(self, consumer: int) -> str:
        """Wait for what is added from now on."""
        key = self.key(consumer)
        answer = await self.client.xread({key: "$"}, count=1, block=0)
        ((_, entries),) = answer.items() if isinstance(answer, dict) else answer
        ((_, fields),) = entries[0] if isinstance(entries[0], list) else entries
        return str(fields["text"])


class RedisWildcard(RedisPubSubChannel):
    """Subscribes to a pattern that matches the channels of all."""

    async def listen(self, subscription: Any, consumer: int) -> None:  # noqa: ANN401  # of the client
        """Subscribe to too much."""
        await subscription.psubscribe(self.key(consumer).rpartition(":")[0] + ":*")


class PostgresUnlocked(PostgresQueueChannel):
    """Selects the oldest row and deletes it, without a lock in between."""

    async def take(self, consumer: int) -> str:
        """SELECT, then DELETE, whoever else did."""
        while True:
            row = await self.fetchrow(
                "select id, body from battery_messages where queue = $1 "
                "order by id limit 1",
                self.queue(consumer),
            )
            if row is not None:
                await self.fetchrow(
                    "delete from battery_messages where id = $1", row["id"]
                )
                return str(row["body"])
            await asyncio.sleep(0.001)


class PostgresNewest(PostgresQueueChannel):
    """Takes the row that it finds first in the other order."""

    async def take(self, consumer: int) -> str:
        """Take the newest."""
        while True:
            row = await self.fetchrow(
                "delete from battery_messages where id = (select id from "
                "battery_messages where queue = $1 order by id desc limit 1 "
                "for update skip locked) returning body",
                self.queue(consumer),
            )
            if row is not None:
                return str(row["body"])
            await asyncio.sleep(0.001)


class PostgresLateListener(PostgresQueueChannel):
    """Looks for a row, then listens: what is sent between the two wakes nobody."""

    async def take(self, consumer: int) -> str:
        """Look, say that it waits, then wait for the next note."""
        while True:
            row = await self.fetchrow(
                "delete from battery_messages where id = (select id from "
                "battery_messages where queue = $1 order by id limit 1 "
                "for update skip locked) returning body",
                self.queue(consumer),
            )
            if row is not None:
                return str(row["body"])
            await self.fetchrow("select set_config('battery.state', 'idle', false)")
            await self._next_note(self._notes)


class PostgresBroadcast(PostgresNotifyChannel):
    """One topic for all, and nobody looks whom a note is for."""

    def topic(self, consumer: int) -> str:  # noqa: ARG002  # the defect
        """Return the topic of everybody."""
        return self.name


class WebSocketSharedTarget(WebSocketChannel):
    """The hub keeps the address on itself while it looks the socket up."""

    _to = 0

    async def deliver(self, message: str, to: int) -> None:
        """Remember, give way, send."""
        self._to = to
        await asyncio.sleep(0)
        await self.inboxes[self._to].send(message)


class WebSocketDropping(WebSocketChannel):
    """The hub has an outbox of two messages for each, and drops what does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self._outboxes: dict[int, asyncio.Queue[str]] = {}
        self._senders: list[asyncio.Task[None]] = []

    async def deliver(self, message: str, to: int) -> None:
        """Put it into the outbox if there is room."""
        if to not in self._outboxes:
            self._outboxes[to] = asyncio.Queue(2)
            self._senders.append(asyncio.create_task(self._send_out(to)))
        if not self._outboxes[to].full():
            self._outboxes[to].put_nowait(message)

    async def _send_out(self, to: int) -> None:
        while True:
            message = await self._outboxes[to].get()
            await asyncio.sleep(0.002)
            await self.inboxes[to].send(message)

    async def aclose(self) -> None:
        """Stop the senders as well."""
        for sender in self._senders:
            sender.cancel()
        await super().aclose()


class WebSocketUnordered(WebSocketChannel):
    """The hub delivers each message in a task of its own, and acknowledges at once."""

    def __init__(self) -> None:
        super().__init__()
        self._rng = random.Random(1)
        self._tasks: set[asyncio.Task[None]] = set()

    async def deliver(self, message: str, to: int) -> None:
        """Deliver it some time."""
        task = asyncio.create_task(self._deliver_later(message, to))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver_later(self, message: str, to: int) -> None:
        await asyncio.sleep(self._rng.random() * 0.004)
        await self.inboxes[to].send(message)

    async def aclose(self) -> None:
        """Wait for what is underway first."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await super().aclose()


class WebSocketRetrying(WebSocketChannel):
    """The hub sends again what it believes not to have sent: it comes twice."""

    async def deliver(self, message: str, to: int) -> None:
        """Send, and send again now and then."""
        await super().deliver(message, to)
        if message.partition(" ")[0].endswith("3"):
            await super().deliver(message, to)
