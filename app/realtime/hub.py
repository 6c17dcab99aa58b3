"""The hub: one Redis subscription connection per process, shared by its sockets.

A channel is subscribed while somebody here follows it. The followers are the wanted
state and ``_subscribed`` the actual one; ``_settle`` moves the second to the first
under a lock, reading what is wanted only once it holds it. So a socket that leaves
while another of the same user arrives cannot take the subscription with it.

Only the reader makes connections. redis-py would reconnect in whichever task meets an
error, and two tasks that connect one subscription at a time leave a socket open that
nobody reads; so what arrives or leaves sends on a connection that stands, or not at all.

A confirmed subscription wakes its followers like a message does: what was published
before is read then. Redis confirms all channels again after a reconnect, which
repairs an outage the same way.

A connection whose other end has gone without a word looks like one on which nothing is
published. So the hub asks for a sign of life every few seconds, and connects anew when
none comes.
"""

import asyncio
import contextlib
import functools
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from app.monitoring import log_event
from app.realtime.events import wake_channel

RUN_CONTROL = "runs:cancel"
BEAT_S = 5.0
_BACKOFF_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
_log = logging.getLogger("app.realtime")

Listener = Callable[[bytes | None], None]
"""Called with a message, or with None after a subscription was confirmed."""


class Hub:
    """Wakes the followers of users' events in this process."""

    def __init__(self, redis: Redis, *, beat_s: float | None = BEAT_S) -> None:
        """Subscribe through ``redis``, whose socket must have no read timeout.

        Args:
            redis: The server.
            beat_s: How often it must show a sign of life; a connection without one for
                twice as long is given up. None asks for none.
        """
        self._redis = redis
        self._beat_s = beat_s
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._subscribed: set[str] = set()
        self._lock = asyncio.Lock()
        self._pubsub: PubSub | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def channels(self) -> frozenset[str]:
        """The channels somebody here follows."""
        return frozenset(self._listeners)

    async def start(self, on_cancel: Callable[[str], object]) -> None:
        """Begin to listen; ``on_cancel`` is called with each run id to cancel."""

        def cancel(message: bytes | None) -> None:
            if message is not None:
                on_cancel(message.decode())

        # Always followed, so the connection never has nothing to listen to.
        self._listeners[RUN_CONTROL].add(cancel)
        self._tasks = [asyncio.create_task(self._read_forever(), name="hub")]
        if self._beat_s is not None:
            beating = self._beat_forever(self._beat_s)
            self._tasks.append(asyncio.create_task(beating, name="hub beat"))

    async def close(self) -> None:
        """Stop listening."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listeners.clear()

    async def announce_cancel(self, redis: Redis, run_id: str) -> None:
        """Tell the process that works on a run to stop it."""
        await redis.publish(RUN_CONTROL, run_id)

    @contextlib.asynccontextmanager
    async def following(self, user_id: str) -> AsyncIterator[asyncio.Event]:
        """Yield an event that is set whenever the user's log may have grown."""
        wake = asyncio.Event()
        async with self.listening(wake_channel(user_id), lambda _: wake.set()):
            yield wake

    @contextlib.asynccontextmanager
    async def listening(self, channel: str, listener: Listener) -> AsyncIterator[None]:
        """Call ``listener`` with what is published on a channel, for the block.

        It is called with None whenever Redis has confirmed the subscription: what was
        published before may have been missed. It must not raise.
        """
        # Each block has its own entry, also when two give the same function.
        entry = functools.partial(listener)
        self._listeners[channel].add(entry)
        try:
            # Shielded: cancelled between sending SUBSCRIBE and writing it down, the
            # subscription would be one that nobody here knows to end.
            await asyncio.shield(self._settle(channel))
            yield
        finally:
            self._listeners[channel].discard(entry)
            if not self._listeners[channel]:
                del self._listeners[channel]
            # Shielded: a cancelled socket must not leave its subscription behind.
            await asyncio.shield(self._settle(channel))

    async def _settle(self, channel: str) -> None:
        async with self._lock:
            if self._pubsub is None:
                return  # the reader subscribes all that is wanted when it connects
            is_wanted = channel in self._listeners
            if is_wanted == (channel in self._subscribed):
                return
            connection: Any = self._pubsub.connection
            if connection is None or not connection.is_connected:
                return  # broken: the reader starts anew from what is wanted
            try:
                if is_wanted:
                    await connection.send_command("SUBSCRIBE", channel)
                    self._subscribed.add(channel)
                else:
                    self._subscribed.discard(channel)
                    await connection.send_command("UNSUBSCRIBE", channel)
            except (RedisError, OSError):
                # It broke just now, which the reader sees too.
                self._subscribed.discard(channel)

    async def _read_forever(self) -> None:
        attempt = 0
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    async with asyncio.timeout(None) as silence:
                        self._postpone(silence)
                        await self._subscribe_all(pubsub)
                        async for message in pubsub.listen():
                            attempt = 0
                            self._postpone(silence)
                            self._dispatch(message)
            except Exception as exc:  # noqa: BLE001  # a dead reader deafens all users
                log_event(
                    _log,
                    "hub.reconnecting",
                    level=logging.WARNING,
                    problem=type(exc).__name__,
                )
            finally:
                self._pubsub = None
                self._subscribed.clear()
            await asyncio.sleep(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)])
            attempt += 1

    def _postpone(self, silence: asyncio.Timeout) -> None:
        if self._beat_s is not None:
            silence.reschedule(asyncio.get_running_loop().time() + 2 * self._beat_s)

    async def _beat_forever(self, beat_s: float) -> None:
        while True:
            await asyncio.sleep(beat_s)
            connection: Any = self._pubsub and self._pubsub.connection
            if connection is not None and connection.is_connected:
                # The answer is for the reader, and so is a connection that broke.
                with contextlib.suppress(RedisError, OSError):
                    await connection.send_command("PING")

    async def _subscribe_all(self, pubsub: PubSub) -> None:
        async with self._lock:
            wanted = set(self._listeners)
            await pubsub.subscribe(*wanted)
            self._subscribed = wanted
            self._pubsub = pubsub

    def _dispatch(self, message: dict[str, object]) -> None:
        if message["type"] not in {"message", "subscribe"}:
            return
        channel = message["channel"]
        data = message["data"] if message["type"] == "message" else None
        if not isinstance(channel, bytes):
            return
        for listener in tuple(self._listeners.get(channel.decode(), ())):
            listener(data if isinstance(data, bytes) else None)
