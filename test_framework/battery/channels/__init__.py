"""Channels: queues, streams, subscriptions and sockets, in memory and over the wire."""

from test_framework.battery.channels.channel import BlockingChannel, Channel
from test_framework.battery.channels.memory import (
    AsyncioChannel,
    AsyncioMailboxes,
    AsyncioRendezvous,
    ProcessChannel,
    ThreadChannel,
)

__all__ = [
    "AsyncioChannel",
    "AsyncioMailboxes",
    "AsyncioRendezvous",
    "BlockingChannel",
    "Channel",
    "ProcessChannel",
    "ThreadChannel",
]
