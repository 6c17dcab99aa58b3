"""Traces where one task works for many users: nothing ambient may choose the parent."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import use_span

from app.monitoring import Trace, Tracing, otlp_processor
from app.settings import SettingsError

USERS = 100

Step = Callable[[Trace], contextlib.AbstractContextManager[object]]
"""Opens the span of what a shared task does for the owner of a trace."""


def explicit(trace: Trace) -> contextlib.AbstractContextManager[object]:
    """Hang the step under the trace of whom it is for."""
    return trace.child("step", {})


@contextlib.contextmanager
def ambient(trace: Trace) -> Iterator[object]:
    """Hang the step under whatever the task's ContextVar says, as is usual."""
    span = trace.tracer.start_span("step", attributes={"user.id": str(trace.user_id)})
    yield span
    span.end()


async def _shared_work(step: Step) -> list[ReadableSpan]:
    """Let a hundred users give their work to one task, that the first of them started.

    Each works under a span that it also makes the ambient one, as libraries do.
    """
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter))
    queue: asyncio.Queue[tuple[Trace, asyncio.Future[None]]] = asyncio.Queue()
    workers: list[asyncio.Task[None]] = []

    async def work() -> None:
        while True:
            trace, done = await queue.get()
            with step(trace):
                await asyncio.sleep(0)
            done.set_result(None)

    async def ask(number: int) -> None:
        with tracing.request("GET") as request:
            trace = request.of(f"user-{number}")
            with use_span(trace.span):
                if not workers:
                    workers.append(asyncio.create_task(work()))
                done = asyncio.get_running_loop().create_future()
                await queue.put((trace, done))
                await done

    await asyncio.gather(*(ask(number) for number in range(USERS)))
    for worker in workers:
        worker.cancel()
        await asyncio.wait({worker})
    tracing.close()
    return list(exporter.get_finished_spans())


def _strangers(spans: list[ReadableSpan]) -> int:
    """Count the steps whose parent is missing or another user's."""
    owners = {
        span.context.span_id: (span.attributes or {}).get("user.id")
        for span in spans
        if span.context is not None
    }
    return sum(
        span.parent is None
        or owners.get(span.parent.span_id) != (span.attributes or {}).get("user.id")
        for span in spans
        if span.name == "step"
    )


async def test_shared_task_traces_each_user_apart() -> None:
    """What one task does for a hundred users hangs under each one's own span."""
    spans = await _shared_work(explicit)

    assert len(spans) == 2 * USERS
    assert _strangers(spans) == 0


@pytest.mark.power
async def test_ambient_parent_is_found() -> None:
    """A task inherits the ambient span of whoever started it, and gives it to all."""
    spans = await _shared_work(ambient)

    assert _strangers(spans) == USERS - 1


async def test_nothing_is_traced_without_an_exporter() -> None:
    """Traces that are off cost no span, and say so to no exporter."""
    tracing = Tracing()

    with tracing.request("GET") as trace, trace.of("ada").child("step", {}) as step:
        assert not step.span.is_recording()

    assert not tracing.is_on
    tracing.close()


@pytest.mark.parametrize(("ratio", "kept"), [(0.0, 0), (1.0, 2)])
async def test_traces_are_kept_whole_or_not_at_all(ratio: float, kept: int) -> None:
    """The share that is kept is decided where a trace begins."""
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter), ratio=ratio)

    with tracing.request("GET") as trace, trace.child("step", {}):
        pass

    assert len(exporter.get_finished_spans()) == kept
    tracing.close()


async def test_failed_span_tells_no_message() -> None:
    """A span that ends by an exception names its kind: messages hold users' data."""
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter))

    def fail() -> None:
        with tracing.request("GET") as trace, trace.child("step", {}):
            message = "hunter2"
            raise ValueError(message)

    with pytest.raises(ValueError, match="hunter2"):
        fail()

    for span in exporter.get_finished_spans():
        assert span.status.description == "ValueError"
        assert "hunter2" not in span.to_json()
    tracing.close()


def test_absent_exporter_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator who asks for traces without the exporter is told what to install."""
    package = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(SettingsError, match="opentelemetry-exporter-otlp-proto-http"):
        otlp_processor("http://collector.invalid/v1/traces")
