"""Channels in Redis: lists, streams with a group of consumers, and subscriptions.

Each channel has keys of its own, so runs do not meet.
"""

import asyncio
import contextlib
import secrets
from typing import Any, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from test_framework.battery.channels.resuming import Resuming
from test_framework.check.channels import Cancelled, Delivery, Order, Promise
from test_framework.core import TargetError

_GROUP = "battery"


def _client(url: str) -> Any:  # noqa: ANN401  # its answers are of any type
    # A command that is sent twice may be executed twice.
    return Redis.from_url(
        url, decode_responses=True, socket_timeout=None, retry=Retry(NoBackoff(), 0)
    )


class _Keys:
    """Where the messages of a channel are.

    Args:
        url: Where Redis listens.
        is_addressed: Whether each consumer has messages of its own.
    """

    def __init__(self, url: str, *, is_addressed: bool = False) -> None:
        self._url, self.client = url, _client(url)
        self.is_addressed = is_addressed
        self._name = f"battery:{secrets.token_hex(8)}"
        self._known: set[str] = set()

    async def open(self) -> Self:
        """See that somebody answers; what makes the channel awaits it.

        Raises:
            TargetError: Nobody does.
        """
        try:
            await self.client.ping()
        except (RedisConnectionError, OSError) as error:
            await self.client.aclose()
            raise TargetError(
                f"{self._url} does not answer: {error}. Start Redis there, or pass the "
                "URL of one that runs."
            ) from error
        return self

    def key(self, consumer: int) -> str:
        """Return the key of a consumer's messages."""
        key = f"{self._name}:{consumer}" if self.is_addressed else self._name
        self._known.add(key)
        return key

    async def aclose(self) -> None:
        """Delete the keys and close the connections."""
        if self._known:
            await self.client.delete(*self._known)
        await self.client.aclose()


class RedisListChannel(_Keys):
    """RPUSH and BLPOP: what a cancelled BLPOP had taken is lost."""

    @property
    def promise(self) -> Promise:
        """Once, except for what cancellation costs."""
        return Promise(
            order=Order.FIFO,
            is_addressed=self.is_addressed,
            cancelled=Cancelled.MAY_LOSE,
        )

    async def send(self, message: str, to: int) -> None:
        """Append."""
        await self.client.rpush(self.key(to), message)

    async def receive(self, consumer: int) -> str:
        """Take the oldest, or wait."""
        _, message = await self.client.blpop(self.key(consumer), 0)
        return str(message)


class _Resumed(_Keys):
    """Of which a consumer keeps the last message until it asks for the next."""

    def __init__(self, url: str, *, is_addressed: bool = False) -> None:
        super().__init__(url, is_addressed=is_addressed)
        self._resuming = Resuming(self.take)
        self._unacknowledged: dict[int, str] = {}

    @property
    def promise(self) -> Promise:
        """Once, and what a cancelled receive took comes next."""
        return Promise(
            order=Order.FIFO,
            is_addressed=self.is_addressed,
            cancelled=Cancelled.RESUMES,
        )

    async def take(self, consumer: int) -> str:
        """Acknowledge a consumer's last message and take the next."""
        raise NotImplementedError

    async def receive(self, consumer: int) -> str:
        """Return the next message, that of a cancelled receive first."""
        return await self._resuming.receive(consumer)

    async def aclose(self) -> None:
        """Stop waiting, delete the keys, close the connections."""
        await self._resuming.stop()
        await super().aclose()


class RedisReliableListChannel(_Resumed):
    """RPUSH and BLMOVE: a message stays in a list of its consumer until the next one.

    A consumer that dies leaves it there, for whoever looks after it.
    """

    async def send(self, message: str, to: int) -> None:
        """Append."""
        await self.client.rpush(self.key(to), message)

    async def take(self, consumer: int) -> str:
        """Acknowledge the last message and move the oldest."""
        own = f"{self._name}:taken:{consumer}"
        self._known.add(own)
        last = self._unacknowledged.pop(consumer, None)
        if last is not None:
            await self.client.lrem(own, 1, last)
        message = await self.client.blmove(self.key(consumer), own, 0, "LEFT", "RIGHT")
        self._unacknowledged[consumer] = str(message)
        return str(message)


class RedisStreamChannel(_Resumed):
    """XADD and XREADGROUP: a message is pending until its consumer asks for the next.

    A consumer that dies leaves it pending, for whoever claims it: at least once then.
    """

    async def subscribe(self, consumer: int) -> None:
        """Create the group, which sees what is added from then on."""
        with contextlib.suppress(ResponseError):  # it is there already
            await self.client.xgroup_create(self.key(consumer), _GROUP, mkstream=True)

    async def send(self, message: str, to: int) -> None:
        """Append."""
        await self.client.xadd(self.key(to), {"text": message})

    async def take(self, consumer: int) -> str:
        """Acknowledge the last message and read the next."""
        key = self.key(consumer)
        last = self._unacknowledged.pop(consumer, None)
        if last is not None:
            await self.client.xack(key, _GROUP, last)
        answer = await self.client.xreadgroup(
            _GROUP, f"consumer-{consumer}", {key: ">"}, count=1, block=0
        )
        ((_, ((number, fields),)),) = (
            answer.items() if isinstance(answer, dict) else answer
        )
        self._unacknowledged[consumer] = number
        return str(fields["text"])


class RedisPubSubChannel(_Keys):
    """PUBLISH to a channel for each consumer: who does not listen misses it for ever."""

    promise = Promise(
        delivery=Delivery.AT_MOST_ONCE, order=Order.FIFO, is_addressed=True
    )

    def __init__(self, url: str) -> None:
        super().__init__(url, is_addressed=True)
        self._inboxes: dict[int, asyncio.Queue[str]] = {}
        self._listeners: list[asyncio.Task[None]] = []

    async def subscribe(self, consumer: int) -> None:
        """Listen from now on."""
        inbox = self._inboxes[consumer] = asyncio.Queue()
        subscription = self.client.pubsub(ignore_subscribe_messages=True)
        await self.listen(subscription, consumer)
        # Confirmed: from here on nothing is missed.
        await subscription.get_message(timeout=5)
        self._listeners.append(asyncio.create_task(_fill(inbox, subscription)))

    async def listen(self, subscription: Any, consumer: int) -> None:  # noqa: ANN401  # of the client
        """Subscribe to what is for a consumer."""
        await subscription.subscribe(self.key(consumer))

    async def send(self, message: str, to: int) -> None:
        """Publish."""
        await self.client.publish(self.key(to), message)

    async def receive(self, consumer: int) -> str:
        """Return the oldest that came."""
        return await self._inboxes[consumer].get()

    async def aclose(self) -> None:
        """Listen no more, and close the connections."""
        for listener in self._listeners:
            listener.cancel()
            await asyncio.wait({listener})
        await self.client.aclose()


async def _fill(inbox: asyncio.Queue[str], subscription: Any) -> None:  # noqa: ANN401  # of the client
    try:
        async for message in subscription.listen():
            inbox.put_nowait(message["data"])
    finally:
        await subscription.aclose()
