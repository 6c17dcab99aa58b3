"""Channels: was every message received once, in order, by whom it was meant for?"""

from test_framework.check.channels.history import (
    Cancelled,
    ChannelHistory,
    Delivery,
    Order,
    Promise,
    Receive,
    Send,
)
from test_framework.check.channels.judge import check_channel

__all__ = [
    "Cancelled",
    "ChannelHistory",
    "Delivery",
    "Order",
    "Promise",
    "Receive",
    "Send",
    "check_channel",
]
