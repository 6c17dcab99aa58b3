"""What is counted and traced of requests and runs, in one place each.

The layers above enter a block and say how it ended. Both blocks undo what they did
whichever way they are left, so a storm of cancellations leaves no gauge behind.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from app.context import UserExecutionContext
from app.monitoring.isolation import IsolationGuard
from app.monitoring.metrics import Metrics
from app.monitoring.tracing import Trace, Tracing

_METHODS = frozenset(
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"]
)
NO_ROUTE = "none"

Ended = Callable[[str, int, float], None]
"""Told of each request: its route's template, its status (0: none) and its seconds."""


@dataclass(slots=True)
class WatchedRequest:
    """A request that is being served.

    Attributes:
        trace: Its span.
        method: One of the known methods, or ``OTHER``.
        status: The status it was answered with; 0 while it is not.
        endpoint: The template of its route, once it is known.
    """

    trace: Trace
    method: str
    status: int = 0
    endpoint: str = NO_ROUTE
    _metrics: Metrics | None = field(default=None, repr=False)

    def answer(self, endpoint: str, status: int) -> None:
        """Count the answer; to be called before its first byte is sent."""
        if self.status == 0:
            self.endpoint, self.status = endpoint, status
            self._count(endpoint, str(status))

    def end(self, endpoint: str) -> None:
        """Count a request that ends without an answer; the client left, or we stop."""
        if self.status == 0:
            self.endpoint = endpoint
            self._count(endpoint, "none")

    def _count(self, endpoint: str, status: str) -> None:
        if self._metrics is not None:
            self._metrics.requests.inc(self.method, endpoint, status)


class RequestWatch:
    """Watches the requests of one application."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        tracing: Tracing | None = None,
        guard: IsolationGuard | None = None,
        *,
        ended: Ended | None = None,
    ) -> None:
        """Count into ``metrics`` and trace with ``tracing``; None leaves it."""
        self._guard = guard or IsolationGuard()
        self._metrics = metrics
        self._tracing = tracing or Tracing()
        self._ended = ended

    @contextlib.contextmanager
    def request(self, kind: str, method: str) -> Iterator[WatchedRequest]:
        """Yield the record of a request of a kind: ``http`` or ``websocket``."""
        method = method if method in _METHODS else "OTHER"
        started_ns = time.monotonic_ns()
        with contextlib.ExitStack() as stack:
            if self._metrics is not None:
                stack.enter_context(self._metrics.in_flight.held(kind))
            trace = stack.enter_context(self._tracing.request(method))
            watched = WatchedRequest(trace, method, _metrics=self._metrics)
            try:
                yield watched
            finally:
                elapsed_s = (time.monotonic_ns() - started_ns) / 1e9
                self._end(kind, watched, elapsed_s)

    def crashed(self, exc: Exception, *, user_id: str | None) -> None:
        """Report a request that failed because users nearly met in it."""
        self._guard.notice(exc, user_id=user_id)

    def _end(self, kind: str, watched: WatchedRequest, elapsed_s: float) -> None:
        watched.trace.span.update_name(f"{watched.method} {watched.endpoint}")
        watched.trace.span.set_attribute("http.response.status_code", watched.status)
        if kind != "http":
            return  # how long a socket stays open says nothing of the service
        if self._metrics is not None:
            self._metrics.durations.observe(elapsed_s, watched.endpoint)
        if self._ended is not None:
            self._ended(watched.endpoint, watched.status, elapsed_s)


class RunWatch:
    """Watches agent runs; without metrics it only traces."""

    def __init__(
        self, metrics: Metrics | None = None, guard: IsolationGuard | None = None
    ) -> None:
        """Count into ``metrics``."""
        self._metrics = metrics
        self._guard = guard or IsolationGuard()

    def crashed(self, exc: Exception, *, user_id: str) -> None:
        """Report a run that failed because users nearly met in it."""
        self._guard.notice(exc, user_id=user_id)

    @contextlib.contextmanager
    def run(self, context: UserExecutionContext) -> Iterator[UserExecutionContext]:
        """Yield the context of a run, whose work is a trace of its own."""
        with contextlib.ExitStack() as stack:
            if self._metrics is not None:
                stack.enter_context(self._metrics.runs_in_flight.held())
            yield stack.enter_context(
                context.traced(
                    "agent.run", {"run.id": str(context.run_id)}, is_linked=True
                )
            )

    def ended(self, status: str) -> None:
        """Count the end of a run."""
        if self._metrics is not None:
            self._metrics.runs.inc(status)

    @contextlib.contextmanager
    def step(
        self, context: UserExecutionContext, kind: str, attributes: Mapping[str, str]
    ) -> Iterator[UserExecutionContext]:
        """Yield the context of a step of a run: ``model.call`` or ``tool.use``."""
        outcome = "error"
        try:
            with context.traced(kind, attributes) as step:
                yield step
            outcome = "ok"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            if self._metrics is not None:
                self._metrics.steps.inc(kind, outcome)
