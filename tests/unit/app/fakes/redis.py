"""The little of Redis that events need, in memory: counters, streams, pub/sub.

Each command gives the loop a turn first, as a round trip would, and then runs as one
step. ``tests/integration/test_fakes.py`` holds it and real Redis to one contract.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

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

    async def get(self, key: str) -> bytes | None:
        """Return a counter."""
        await asyncio.sleep(0)
        count = self._counters.get(key)
        return None if count is None else b"%d" % count

    async def xrange(
        self,
        key: str,
        *,
        min: str,
        max: str,
        count: int,
    ) -> list[Entry]:
        """Return entries of a stream above ``min``, which is exclusive."""
        await asyncio.sleep(0)
        assert max == "+"
        after = int(min.removeprefix("(").partition("-")[0])
        entries = self._streams.get(key, [])
        return [e for e in entries if int(e[0].partition(b"-")[0]) > after][:count]

    def register_script(self, _: str) -> Callable[..., Awaitable[int]]:
        """Return the event log's script, the only one there is."""

        async def append(*, keys: list[str], args: list[Any]) -> int:
            await asyncio.sleep(0)
            counter, stream, channel = keys
            number = self._counters[counter] = self._counters.get(counter, 0) + 1
            entry = (b"%d-0" % number, {b"event": str(args[0]).encode()})
            self._streams[stream].append(entry)
            self._publish(channel, b"%d" % number)
            return number

        return append

    async def publish(self, channel: str, message: str) -> int:
        """Send a message to whoever has subscribed."""
        await asyncio.sleep(0)
        return self._publish(channel, message.encode())

    def pubsub(self) -> "MemoryPubSub":
        """Return a subscriber connection."""
        return MemoryPubSub(self)

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

    async def __aenter__(self) -> Self:
        """Return the connection."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drop all subscriptions, as a closed connection does."""
        for receivers in self._server.subscribers.values():
            receivers.discard(self)

    async def subscribe(self, *channels: str) -> None:
        """Subscribe; each is confirmed in the inbox."""
        for channel in channels:
            self._server.subscribers[channel].add(self)
            self.put("subscribe", channel, 1)
        # Afterwards: whoever is cancelled while it waits has sent the command.
        await asyncio.sleep(0)

    async def unsubscribe(self, *channels: str) -> None:
        """Unsubscribe; each is confirmed in the inbox."""
        for channel in channels:
            self._server.subscribers[channel].discard(self)
            self.put("unsubscribe", channel, 0)
        await asyncio.sleep(0)

    async def listen(self) -> AsyncIterator[dict[str, object]]:
        """Yield messages and confirmations in order."""
        while True:
            yield await self._inbox.get()

    def put(self, kind: str, channel: str, data: object) -> None:
        """Deliver something to this connection."""
        self._inbox.put_nowait(
            {"type": kind, "channel": channel.encode(), "data": data}
        )
