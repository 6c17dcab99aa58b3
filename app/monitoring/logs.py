"""Structured logs: one JSON object a line on standard output.

Only the logger ``app`` is configured, so the host's own logging stays as it is.
Tokens, passwords, headers and bodies are never handed to a logger in the first place.
"""

import json
import logging
import sys
from datetime import UTC, datetime

_FIELDS = "fields"
_NAME = "app"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update(getattr(record, _FIELDS, {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Stdout(logging.Handler):
    """Writes to whatever ``sys.stdout`` is now; hosts may exchange it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stdout.write(self.format(record) + "\n")
            sys.stdout.flush()
        except Exception:  # noqa: BLE001  # a full disk must not fail requests
            self.handleError(record)


def configure_logging(level: str) -> None:
    """Send the service's log to standard output; calling it again is harmless."""
    logger = logging.getLogger(_NAME)
    logger.setLevel(level)
    logger.propagate = False
    if not any(isinstance(handler, _Stdout) for handler in logger.handlers):
        handler = _Stdout()
        handler.setFormatter(_JsonLines())
        logger.addHandler(handler)


def log_event(
    logger: logging.Logger,
    event: str,
    *,
    level: int = logging.INFO,
    error: BaseException | None = None,
    **fields: object,
) -> None:
    """Write one line: what happened and its fields."""
    if logger.isEnabledFor(level):
        logger.log(level, event, exc_info=error, extra={_FIELDS: fields})
