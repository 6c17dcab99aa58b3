"""The little of Redis that events need, in memory: counters, streams, pub/sub.

Each command asks the world outside once, as a round trip would, and runs as one step. ``tests/integration/test_fakes.py`` holds it and real Redis to one contract.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

from redis.exceptions import ConnectionError as RedisConnectionError

from test_framework.explore import external

Entry = tuple[bytes, dict[bytes, bytes]]


class MemoryRedis:
    """A server and a client at once.

    Attributes:
        subscribers: Live subscriptions: channel to the connections that have it.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._counters: dict[str, int] = {}
        self._streams: defaultdict[str, list[Entry]] = defaultdict(list)
        self.subscribers: defaultdict[str, set[MemoryPubSub]] = defaultdict(set)

    async def hget(self, key: str, field: str) -> bytes | None:
        """Return the last number of a log, or the one before its first: 0 here."""
        await external("HGET")
        count = self._counters.get(key)
        if count is None:
            return None
        return b"%d" % (count if field == "seq" else 0)

    async def xrange(
        self,
        key: str,
        *,
        min: str,
        max: str,
        count: int,
    ) -> list[Entry]:
        """Return entries of a stream above ``min``, which is exclusive."""
        await external("XRANGE")
        assert max == "+"
        after = int(min.removeprefix("(").partition("-")[0])
        entries = self._streams.get(key, [])
        return [e for e in entries if int(e[0].partition(b"-")[0]) > after][:count]

    def register_script(self, _: str) -> Callable[..., Awaitable[int]]:
        """Return the event log's script, the only one there is.

        The clock of this server stands at zero, so numbers are counted from one.
        """

        async def append(*, keys: list[str], args: list[Any]) -> int:
            await external("append")
            counter, stream, channel, once = keys
            if once in self._counters:
                return self._counters[once]
            number = self._counters[counter] = self._counters.get(counter, 0) + 1
            self._counters[once] = number
            entry = (b"%d-0" % number, {b"event": str(args[0]).encode()})
            self._streams[stream].append(entry)
            self._publish(channel, b"%d" % number)
            return number

        return append

    async def publish(self, channel: str, message: str | bytes) -> int:
        """Send a message to whoever has subscribed."""
        await external("PUBLISH")
        data = message.encode() if isinstance(message, str) else message
        return self._publish(channel, data)

    def pubsub(self) -> "MemoryPubSub":
        """Return a subscriber connection."""
        return MemoryPubSub(self)

    def break_connections(self) -> None:
        """Hang up on all subscribers, as a server does that is restarted."""
        for connection in {each for who in self.subscribers.values() for each in who}:
            connection.hang_up()

    def subscribed(self) -> set[str]:
        """Return the channels that anybody has."""
        return {channel for channel, who in self.subscribers.items() if who}

    def _publish(self, channel: str, data: bytes) -> int:
        receivers = self.subscribers.get(channel, set())
        for receiver in receivers:
            receiver.put("message", channel, data)
        return len(receivers)


class MemoryPubSub:
    """One connection that subscribes."""

    def __init__(self, server: MemoryRedis) -> None:
        """Have no subscription yet."""
        self._server = server
        self._inbox: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self._is_broken = False

    async def __aenter__(self) -> Self:
        """Return the connection."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drop all subscriptions, as a closed connection does."""
        self._leave()

    @property
    def connection(self) -> Self:
        """Return what commands are sent on; this is both."""
        return self

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands, as far as its client has noticed."""
        return not self._is_broken

    async def send_command(self, command: str, *channels: str) -> None:
        """Send a command past the client's books."""
        if command == "PING":
            self.put("pong", "", b"")
            return
        subscribe = command == "SUBSCRIBE"
        await (self.subscribe if subscribe else self.unsubscribe)(*channels)

    async def subscribe(self, *channels: str) -> None:
        """Subscribe; each is confirmed in the inbox."""
        self._require_connection()
        for channel in channels:
            self._server.subscribers[channel].add(self)
            self.put("subscribe", channel, 1)
        # Afterwards: whoever is cancelled while it waits has sent the command.
        await external("SUBSCRIBE")

    async def unsubscribe(self, *channels: str) -> None:
        """Unsubscribe; each is confirmed in the inbox."""
        self._require_connection()
        for channel in channels:
            self._server.subscribers[channel].discard(self)
            self.put("unsubscribe", channel, 0)
        await external("UNSUBSCRIBE")

    async def listen(self) -> AsyncIterator[dict[str, object]]:
        """Yield messages and confirmations in order."""
        while True:
            message = await self._inbox.get()
            self._require_connection()
            yield message

    def hang_up(self) -> None:
        """Break this connection: whoever uses it next is told."""
        self._is_broken = True
        self._leave()
        self.put("broken", "", b"")

    def put(self, kind: str, channel: str, data: object) -> None:
        """Deliver something to this connection."""
        self._inbox.put_nowait(
            {"type": kind, "channel": channel.encode(), "data": data}
        )

    def _leave(self) -> None:
        for receivers in self._server.subscribers.values():
            receivers.discard(self)

    def _require_connection(self) -> None:
        if self._is_broken:
            message = "Connection closed by server."
            raise RedisConnectionError(message)
