"""What is counted and traced of requests and runs, in one place each.

The layers above enter a block and say how it ended. Both blocks undo what they did
whichever way they are left, so a storm of cancellations leaves no gauge behind.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from app.context import UserExecutionContext
from app.monitoring.isolation import IsolationGuard
from app.monitoring.metrics import Metrics
from app.monitoring.tracing import Trace, Tracing

_METHODS = frozenset(
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"]
)
NO_ROUTE = "none"
_UNTRACING = Tracing()

Ended = Callable[[str, int, float], None]
"""Told of each request: its route's template, its status (0: none) and its seconds."""


class WatchedRequest:
    """A request that is being served: a block that undoes its share when it is left.

    A class and no generator, since every request pays for it.

    Attributes:
        trace: Its span; None traces nothing.
        method: One of the known methods, or ``OTHER``.
        status: The status it was answered with; 0 while it is not.
        endpoint: The template of its route, ``none`` until it is known.
    """

    __slots__ = (
        "_kind",
        "_opened",
        "_started_ns",
        "_watch",
        "endpoint",
        "method",
        "status",
        "trace",
    )

    def __init__(self, watch: "RequestWatch", kind: str, method: str) -> None:
        """Watch a request of a kind: ``http`` or ``websocket``."""
        self.method = method if method in _METHODS else "OTHER"
        self.status = 0
        self.endpoint = NO_ROUTE
        self.trace: Trace | None = None
        self._watch = watch
        self._kind = kind
        self._opened: AbstractContextManager[Trace] | None = None
        self._started_ns = 0

    def __enter__(self) -> Self:
        """Count it among those in flight, and begin its trace."""
        if self._watch.metrics is not None:
            self._watch.metrics.in_flight.add(1, self._kind, self.endpoint)
        if self._watch.tracing.is_on:
            self._opened = self._watch.tracing.request(self.method)
            self.trace = self._opened.__enter__()
        self._started_ns = time.monotonic_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take it out again, and say how long it took and how it ended."""
        elapsed_s = (time.monotonic_ns() - self._started_ns) / 1e9
        watch = self._watch
        if watch.metrics is not None:
            watch.metrics.in_flight.add(-1, self._kind, self.endpoint)
        if self._opened is not None and self.trace is not None:
            self.trace.span.update_name(f"{self.method} {self.endpoint}")
            self.trace.span.set_attribute("http.response.status_code", self.status)
            self._opened.__exit__(kind, exc, traceback)
        # How long a socket stays open says nothing of the service.
        if self._kind == "http":
            if watch.metrics is not None:
                watch.metrics.durations.observe(elapsed_s, self.endpoint)
            if watch.ended is not None:
                watch.ended(self.endpoint, self.status, elapsed_s)

    def route(self, endpoint: str) -> None:
        """Say which route serves it, as soon as that is known."""
        if endpoint != self.endpoint and self._watch.metrics is not None:
            in_flight = self._watch.metrics.in_flight
            in_flight.add(1, self._kind, endpoint)
            in_flight.add(-1, self._kind, self.endpoint)
        self.endpoint = endpoint

    def answer(self, endpoint: str, status: int) -> None:
        """Count the answer; to be called before its first byte is sent."""
        if self.status == 0:
            self.status = status
            self.route(endpoint)
            self._count(endpoint, str(status))

    def end(self, endpoint: str) -> None:
        """Count a request that ends without an answer; the client left, or we stop."""
        if self.status == 0:
            self.route(endpoint)
            self._count(endpoint, "none")

    def _count(self, endpoint: str, status: str) -> None:
        if self._watch.metrics is not None:
            self._watch.metrics.requests.inc(self.method, endpoint, status)


class RequestWatch:
    """Watches the requests of one application.

    Attributes:
        metrics: What counts them, if anything does.
        tracing: Begins their traces.
        ended: Is told of each, if anybody is.
    """

    __slots__ = ("_guard", "ended", "metrics", "tracing")

    def __init__(
        self,
        metrics: Metrics | None = None,
        tracing: Tracing | None = None,
        guard: IsolationGuard | None = None,
        *,
        ended: Ended | None = None,
    ) -> None:
        """Count into ``metrics`` and trace with ``tracing``; None leaves it."""
        self.metrics = metrics
        self.tracing = tracing or _UNTRACING
        self.ended = ended
        self._guard = guard

    def request(self, kind: str, method: str) -> WatchedRequest:
        """Return the block of a request of a kind: ``http`` or ``websocket``."""
        return WatchedRequest(self, kind, method)

    def crashed(self, exc: Exception, *, user_id: str | None) -> None:
        """Report a request that failed because users nearly met in it."""
        (self._guard or IsolationGuard()).notice(exc, user_id=user_id)


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

    def misdirected(self, owner: str, *, user_id: str) -> None:
        """Report a run of ``user_id`` that came to the engine of ``owner``."""
        self._guard.report("engine", owner=owner, user_id=user_id)

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
