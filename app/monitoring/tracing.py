"""Traces: which spans a request or a run consists of, each with its parent.

A span's parent is an argument. OpenTelemetry would take it from a ``ContextVar``, and
those do not follow users: a server's tasks inherit them from the connection, a task
that serves several users (a batcher, a single flight, a janitor) has those of whoever
started it. Here the ``Trace`` of a piece of work is a field of its context, belongs to
that context's user, and refuses to become another's; nothing is ambient, so there is
nothing to leak. For the same reason a caller's ``traceparent`` is not taken over: it
would let one user hang spans into another's trace.

A run outlives its request, so it is a trace of its own, linked to the request's span.
"""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NoOpTracer,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)

from app.context import ForeignPartError
from app.settings import SettingsError

USER_ID = "user.id"
_NAME = "isolation-app"
_OTLP = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


@dataclass(frozen=True, slots=True)
class Trace:
    """A span that further work can be hung under.

    Attributes:
        user_id: Whose work it is; None for a request that is not authenticated yet.
    """

    tracer: Tracer = field(repr=False)
    span: Span = field(repr=False)
    user_id: str | None = None

    def of(self, user_id: str) -> Self:
        """Return the same span as that of a user.

        Raises:
            ForeignPartError: It is another user's already.
        """
        if self.user_id not in {None, user_id}:
            message = (
                f"A span of user {self.user_id!r} cannot hold work of {user_id!r}. "
                "Begin a trace for each user."
            )
            raise ForeignPartError(message)
        self.span.set_attribute(USER_ID, user_id)
        return replace(self, user_id=user_id)

    @contextlib.contextmanager
    def child(self, name: str, attributes: Mapping[str, str]) -> Iterator[Self]:
        """Yield a span under this one; it ends with the block, however that ends."""
        # An explicit context: None would stand for the ambient one.
        parent = set_span_in_context(self.span, Context())
        span = self.tracer.start_span(name, parent, attributes=self._with(attributes))
        with _ending(span):
            yield replace(self, span=span)

    @contextlib.contextmanager
    def linked(self, name: str, attributes: Mapping[str, str]) -> Iterator[Self]:
        """Yield the first span of a new trace, of the same user, linked to this one."""
        span = self.tracer.start_span(
            name,
            Context(),
            attributes=self._with(attributes),
            links=[Link(self.span.get_span_context())],
        )
        with _ending(span):
            yield replace(self, span=span)

    def _with(self, attributes: Mapping[str, str]) -> dict[str, str]:
        owner = {} if self.user_id is None else {USER_ID: self.user_id}
        return {**owner, **attributes}


class Tracing:
    """Begins the traces of one application; no provider is made the process' own."""

    def __init__(
        self, processor: SpanProcessor | None = None, *, ratio: float = 1.0
    ) -> None:
        """Hand ended spans to ``processor``; None traces nothing.

        Args:
            processor: Exports spans; closed with the tracing.
            ratio: Share of traces that are kept, 0 to 1.
        """
        self._provider: TracerProvider | None = None
        self._tracer: Tracer = NoOpTracer()
        if processor is not None:
            self._provider = TracerProvider(
                sampler=ParentBased(TraceIdRatioBased(ratio)),
                resource=Resource({"service.name": _NAME}),
                shutdown_on_exit=False,
            )
            self._provider.add_span_processor(processor)
            self._tracer = self._provider.get_tracer(_NAME)

    @property
    def is_on(self) -> bool:
        """Whether anything is traced."""
        return self._provider is not None

    @contextlib.contextmanager
    def request(self, name: str) -> Iterator[Trace]:
        """Yield the first span of a request's trace."""
        span = self._tracer.start_span(name, Context(), kind=SpanKind.SERVER)
        with _ending(span):
            yield Trace(self._tracer, span)

    def close(self) -> None:
        """Export what is left; waits for the exporter, so call it in a thread."""
        if self._provider is not None:
            self._provider.shutdown()


def otlp_processor(endpoint: str) -> SpanProcessor:
    """Return what sends spans in batches to an OTLP collector over HTTP.

    Raises:
        SettingsError: The exporter is not installed.
    """
    try:
        # Optional: the package is only needed where traces are collected.
        exporter = importlib.import_module(_OTLP)
    except ImportError as exc:
        message = (
            "TRACES_URL is set, but opentelemetry-exporter-otlp-proto-http is not "
            "installed. Install it, or unset TRACES_URL."
        )
        raise SettingsError(message) from exc
    return BatchSpanProcessor(exporter.OTLPSpanExporter(endpoint=endpoint))


@contextlib.contextmanager
def _ending(span: Span) -> Iterator[None]:
    try:
        yield
    except BaseException as exc:
        # The kind only: a message may hold what belongs to the user.
        span.set_status(Status(StatusCode.ERROR, type(exc).__name__))
        raise
    finally:
        span.end()
