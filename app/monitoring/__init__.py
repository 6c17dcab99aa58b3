"""What the operators see: structured logs and health checks."""

from app.monitoring.health import HealthChecks, HealthReport
from app.monitoring.logs import configure_logging, log_event

__all__ = ["HealthChecks", "HealthReport", "configure_logging", "log_event"]
