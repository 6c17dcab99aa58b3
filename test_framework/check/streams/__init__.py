"""Event streams: does each get what it is owed, once, in order, and nothing else?"""

from test_framework.check.streams.judge import check_streams
from test_framework.check.streams.log import Delivery, Publication

__all__ = ["Delivery", "Publication", "check_streams"]
