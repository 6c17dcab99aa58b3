"""Control: intents and node sets, driven from what is to what shall be by one leader."""

from app.control.queue import Backoff, QueueMetrics, ShutDownError, WorkQueue

__all__ = ["Backoff", "QueueMetrics", "ShutDownError", "WorkQueue"]
