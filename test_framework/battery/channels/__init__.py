"""Channels: queues, streams, subscriptions and sockets, in memory and over the wire."""

from test_framework.battery.channels.channel import BlockingChannel, Channel
from test_framework.battery.channels.memory import (
    AsyncioChannel,
    AsyncioMailboxes,
    AsyncioRendezvous,
    ProcessChannel,
    ThreadChannel,
)
from test_framework.battery.channels.postgres import (
    PostgresNotifyChannel,
    PostgresQueueChannel,
)
from test_framework.battery.channels.redis import (
    RedisListChannel,
    RedisPubSubChannel,
    RedisReliableListChannel,
    RedisStreamChannel,
)
from test_framework.battery.channels.websocket import WebSocketChannel

__all__ = [
    "AsyncioChannel",
    "AsyncioMailboxes",
    "AsyncioRendezvous",
    "BlockingChannel",
    "Channel",
    "PostgresNotifyChannel",
    "PostgresQueueChannel",
    "ProcessChannel",
    "RedisListChannel",
    "RedisPubSubChannel",
    "RedisReliableListChannel",
    "RedisStreamChannel",
    "ThreadChannel",
    "WebSocketChannel",
]
