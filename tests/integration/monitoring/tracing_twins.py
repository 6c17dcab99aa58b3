"""Tracing as it is often written: the current span is one for the whole process."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Self

from opentelemetry.context import Context
from opentelemetry.trace import Span

from app.monitoring import Trace, Tracing

_current: list[Span] = []


class AmbientTrace(Trace):
    """Hangs spans under whichever was opened last, by whomever."""

    __slots__ = ()

    @contextlib.contextmanager
    def child(self, name: str, attributes: Mapping[str, str]) -> Iterator[Self]:
        span = _current[-1] if _current else self.span
        parent = type(self)(self.tracer, span, self.user_id)
        with super(AmbientTrace, parent).child(name, attributes) as trace:
            _current.append(trace.span)
            try:
                yield trace
            finally:
                _current.remove(trace.span)


class AmbientTracing(Tracing):
    """Begins traces that share one current span."""

    @contextlib.contextmanager
    def request(self, name: str) -> Iterator[Trace]:
        with super().request(name) as trace:
            yield AmbientTrace(trace.tracer, trace.span, trace.user_id)


class ForgetfulTracing(Tracing):
    """Ends a request's span after it, which a cancelled request never reaches."""

    @contextlib.contextmanager
    def request(self, name: str) -> Iterator[Trace]:
        span = self._tracer.start_span(name, Context())
        yield Trace(self._tracer, span)
        span.end()
