"""What the operators see: logs, metrics, traces, health, and breaches of isolation."""

from app.monitoring.health import CHECK_TIMEOUT_S, HealthChecks, HealthReport, Heartbeat
from app.monitoring.isolation import IsolationError, IsolationGuard
from app.monitoring.logs import configure_logging, log_event
from app.monitoring.metric_files import MetricFilesError
from app.monitoring.metrics import Metrics
from app.monitoring.tracing import Trace, Tracing, otlp_processor
from app.monitoring.watching import NO_ROUTE, RequestWatch, RunWatch, WatchedRequest

__all__ = [
    "CHECK_TIMEOUT_S",
    "NO_ROUTE",
    "HealthChecks",
    "HealthReport",
    "Heartbeat",
    "IsolationError",
    "IsolationGuard",
    "MetricFilesError",
    "Metrics",
    "RequestWatch",
    "RunWatch",
    "Trace",
    "Tracing",
    "WatchedRequest",
    "configure_logging",
    "log_event",
    "otlp_processor",
]
