"""What keeps an event loop from its other users: calls that wait, and computing."""

from test_framework.detect.blocking.calls import BlockingCalls

__all__ = ["BlockingCalls"]
