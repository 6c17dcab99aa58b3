"""What the operators see: logs, metrics, traces, health, service levels and alerts."""

from app.monitoring.alerts import (
    AlertManager,
    AlertSink,
    AlertStore,
    Batch,
    Delivery,
    LogSink,
    Notice,
)
from app.monitoring.draining import Draining
from app.monitoring.health import (
    CHECK_TIMEOUT_S,
    HealthChecks,
    HealthReport,
    Heartbeat,
)
from app.monitoring.isolation import IsolationError, IsolationGuard
from app.monitoring.logs import configure_logging, log_event
from app.monitoring.metric_files import MetricFilesError
from app.monitoring.metrics import Metrics
from app.monitoring.signals import Signal, Source, Tier
from app.monitoring.sla import Objective, SlaMonitor
from app.monitoring.tracing import Trace, Tracing, otlp_processor
from app.monitoring.watching import NO_ROUTE, RequestWatch, RunWatch, WatchedRequest
from app.monitoring.webhook import Webhook

__all__ = [
    "CHECK_TIMEOUT_S",
    "NO_ROUTE",
    "AlertManager",
    "AlertSink",
    "AlertStore",
    "Batch",
    "Delivery",
    "Draining",
    "HealthChecks",
    "HealthReport",
    "Heartbeat",
    "IsolationError",
    "IsolationGuard",
    "LogSink",
    "MetricFilesError",
    "Metrics",
    "Notice",
    "Objective",
    "RequestWatch",
    "RunWatch",
    "Signal",
    "SlaMonitor",
    "Source",
    "Tier",
    "Trace",
    "Tracing",
    "WatchedRequest",
    "Webhook",
    "configure_logging",
    "log_event",
    "otlp_processor",
]
