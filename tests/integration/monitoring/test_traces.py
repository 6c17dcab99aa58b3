"""Traces: fifty users' spans never meet, have the right parents, and all end."""

import asyncio
import contextlib
import dataclasses
import random
from collections import defaultdict
from collections.abc import Iterable

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from app.api import Parts
from app.monitoring import Tracing
from app.settings import Settings
from tests.integration.app.service import Service, running
from tests.integration.monitoring.tracing_twins import AmbientTracing, ForgetfulTracing

pytestmark = [pytest.mark.integration, pytest.mark.slow]

USERS = 50
RUNS = "POST /threads/{thread_id}/runs"
_RUN_PARTS = {"agent.run": 1, "model.call": 3, "tool.use": 3, "transaction": 5}


class Collected(SpanProcessor):
    """Keeps spans in memory, and knows which have begun and not ended.

    Attributes:
        ended: Spans in the order of their ends.
        open: Names of spans that have not ended, by id.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.ended: list[ReadableSpan] = []
        self.open: dict[int, str] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Take in a span that begins."""
        assert parent_context is not None, "a span began in the ambient context"
        self.open[_id(span)] = span.name

    def on_end(self, span: ReadableSpan) -> None:
        """Take in a span that ends."""
        del self.open[_id(span)]
        self.ended.append(span)

    def of(self, name: str) -> list[ReadableSpan]:
        """Return the spans of a name."""
        return [span for span in self.ended if span.name == name]


def _id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def _user(span: ReadableSpan) -> str:
    return str((span.attributes or {}).get("user.id", ""))


def _traces(spans: Iterable[ReadableSpan]) -> dict[int, list[ReadableSpan]]:
    traces: defaultdict[int, list[ReadableSpan]] = defaultdict(list)
    for span in spans:
        assert span.context is not None
        traces[span.context.trace_id].append(span)
    return traces


def problems(spans: list[ReadableSpan]) -> list[str]:
    """Return what is wrong with spans: users that meet, and parents that cannot be."""
    found = []
    known = {_id(span): span for span in spans}
    for trace in _traces(spans).values():
        users = {_user(span) for span in trace} - {""}
        if len(users) > 1:
            found.append(f"{len(users)} users in one trace")
        if sum(span.parent is None for span in trace) != 1:
            found.append("a trace without its one beginning")
    for span in spans:
        parent = known.get(span.parent.span_id) if span.parent else None
        if span.parent and parent is None:
            found.append(f"the parent of {span.name} was lost")
        if span.name in {"model.call", "tool.use"} and (
            parent is None or parent.name != "agent.run"
        ):
            found.append(f"{span.name} under {parent and parent.name}")
        if parent is not None and _user(parent) != _user(span):
            found.append(f"{span.name} under another user's {parent.name}")
    for run in (span for span in spans if span.name == "agent.run"):
        causes = [known.get(link.context.span_id) for link in run.links]
        told = [(cause and cause.name, cause and _user(cause)) for cause in causes]
        if told != [(RUNS, _user(run))]:
            found.append(f"a run linked to {told} and not to its request")
    return found


async def _runs_of(service: Service, *, users: int, cancels: random.Random) -> int:
    """Start a run for each user at one time, cancel a third; return how many began."""

    async def one(number: int) -> None:
        async with service.member() as member:
            thread = await member.new("/threads", title="t")
            run = await member.new(f"/threads/{thread}/runs", goal="read notes")
            if number % 3 == 0:
                # A run takes some 10 ms alone, and far longer among a hundred.
                await asyncio.sleep(cancels.uniform(0, 0.2))
                await member.http.post(f"/runs/{run}/cancel")

    await asyncio.gather(*(one(number) for number in range(users)))
    return users


async def test_spans_of_users_never_meet(settings: Settings) -> None:
    """Fifty runs, a third of them cancelled, are fifty whole traces.

    Each carries one user, has its parts under its run, and is linked to the request
    that started it; every span that began has ended.
    """
    collected = Collected()

    def traced(parts: Parts) -> Parts:
        return dataclasses.replace(parts, tracing=Tracing(collected))

    # Slow machines make users wait, and must not make answers of it.
    patient = settings.model_copy(update={"database_pool_timeout_s": 60})
    async with running(patient, replace=traced) as service:
        count = await _runs_of(service, users=USERS, cancels=random.Random(1))
        # A service that stops interrupts what is still at work.
        async with asyncio.timeout(60):
            while len(collected.of("agent.run")) < count:  # noqa: ASYNC110  # spans end in no event of ours
                await asyncio.sleep(0.05)

    runs = collected.of("agent.run")
    assert problems(collected.ended) == []
    assert collected.open == {}
    assert len(runs) == len({_user(run) for run in runs}) == count
    traces = _traces(collected.ended)
    whole = 0
    for run in runs:
        assert run.context is not None
        names = [span.name for span in traces[run.context.trace_id]]
        whole += {name: names.count(name) for name in set(names)} == _RUN_PARTS
    # The others were cancelled on their way, and some cancellations came too late.
    assert whole >= count - count // 3 - 1


@pytest.mark.power
async def test_shared_current_span_is_found(settings: Settings) -> None:
    """With one current span for all, spans hang under other users' work."""
    collected = Collected()

    def traced(parts: Parts) -> Parts:
        return dataclasses.replace(parts, tracing=AmbientTracing(collected))

    async with running(settings, replace=traced) as service:
        await _runs_of(service, users=10, cancels=random.Random(1))

    found = problems(collected.ended)
    assert any("users in one trace" in problem for problem in found)
    assert any("under another user's" in problem for problem in found)


async def _opened_by_leavers(service: Service, collected: Collected) -> int:
    """Cancel requests at each turn of the loop; return how many spans stay open."""
    async with service.member() as member:
        for turns in range(30):
            asking = asyncio.create_task(member.http.get("/me"))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
    return len(collected.open)


async def test_cancelled_requests_lose_no_span(settings: Settings) -> None:
    """A request that is cancelled at any turn ends all of its spans."""
    collected = Collected()

    def traced(parts: Parts) -> Parts:
        return dataclasses.replace(parts, tracing=Tracing(collected))

    async with running(settings, replace=traced) as service:
        left = await _opened_by_leavers(service, collected)

    cancelled = [s for s in collected.ended if s.status.description == "CancelledError"]
    assert left == 0
    assert len(cancelled) > 5
    assert problems(collected.ended) == []


@pytest.mark.power
async def test_spans_ended_after_the_work_are_found(settings: Settings) -> None:
    """Spans that end after the request, and not however it ends, are lost."""
    collected = Collected()

    def traced(parts: Parts) -> Parts:
        return dataclasses.replace(parts, tracing=ForgetfulTracing(collected))

    async with running(settings, replace=traced) as service:
        left = await _opened_by_leavers(service, collected)

    assert left > 5


async def test_callers_trace_is_not_joined(settings: Settings) -> None:
    """A ``traceparent`` of a client does not decide whose trace its request is in."""
    collected = Collected()

    def traced(parts: Parts) -> Parts:
        return dataclasses.replace(parts, tracing=Tracing(collected))

    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with (
        running(settings, replace=traced) as service,
        service.http(traceparent=given) as http,
    ):
        await http.get("/health/live")

    (span,) = collected.ended
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" not in given
    assert span.parent is None
