"""Watched requests and runs: counted once, before their answer, and however they end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api.frontier import Frontier, note_route
from app.monitoring import Metrics, RequestWatch, RunWatch, SlaMonitor
from app.monitoring.metrics import total
from app.monitoring.sla import LEAST_REQUESTS
from tests.unit.app.parts import context_of


@pytest.fixture
async def metrics(tmp_path: Path) -> AsyncIterator[Metrics]:
    """Metrics in a folder of the test."""
    metrics = Metrics.open(tmp_path)
    yield metrics
    metrics.close()


def shown(metrics: Metrics, sample: str, **labels: str) -> float:
    """Return a sum as a scrape would show it."""
    return total(metrics._files.collect(), sample, **labels)


async def _ask(
    watch: RequestWatch,
    app: Callable[[Scope, Receive, Send], Any],
    send: Send,
    *,
    kind: str = "http",
) -> None:
    """Send a request for ``/things/7`` through a frontier."""
    frontier = Frontier(
        app, max_body_bytes=10, name_user=lambda _: None, watch=lambda: watch
    )

    class Route:
        path = "/things/{id}"

    async def receive() -> Message:
        return {"type": f"{kind}.request", "body": b"", "more_body": False}

    scope = {"type": kind, "path": "/things/7", "query_string": b"", "headers": []}
    if kind == "http":
        scope["method"] = "GET"
    await frontier({**scope, "route": Route()}, receive, send)


async def _answer(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def test_answer_is_counted_before_it_is_sent(metrics: Metrics) -> None:
    """What a client has got is counted, also when the worker dies the next moment."""
    counts = []

    async def send(_: Message) -> None:
        counts.append(shown(metrics, "http_requests_total", status="200"))

    await _ask(RequestWatch(metrics), _answer, send)

    assert counts == [1, 1]
    assert shown(metrics, "http_requests_total", endpoint="/things/{id}") == 1


async def _drop(_: Message) -> None:
    """Send to nobody."""


@pytest.mark.parametrize("turns", range(4))
async def test_cancelled_request_is_counted_once(metrics: Metrics, turns: int) -> None:
    """Whenever a request is cancelled it is counted once and not in flight."""

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        await _answer(scope, receive, send)
        await asyncio.sleep(10)

    asking = asyncio.create_task(_ask(RequestWatch(metrics), slow, _drop))
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})

    # At turn 0 it had not begun.
    assert shown(metrics, "http_requests_total") == (1 if turns else 0)
    assert shown(metrics, "http_requests_in_flight") == 0


async def test_request_is_in_flight_at_its_route(metrics: Metrics) -> None:
    """From where its route is known a request is in flight there, and nowhere after it."""
    seen = []

    def look() -> None:
        seen.append(
            tuple(
                shown(metrics, "http_requests_in_flight", endpoint=endpoint)
                for endpoint in ("none", "/things/{id}")
            )
        )

    async def authenticated(scope: Scope, receive: Receive, send: Send) -> None:
        look()
        note_route(scope)
        look()
        await _answer(scope, receive, send)

    await _ask(RequestWatch(metrics), authenticated, _drop)
    look()

    assert seen == [(1, 0), (0, 1), (0, 0)]


async def test_request_without_answer_is_told_as_such(metrics: Metrics) -> None:
    """A request that ends without an answer has the status none."""

    async def silent(_scope: Scope, _receive: Receive, _send: Send) -> None:
        pass

    await _ask(RequestWatch(metrics), silent, _drop)

    assert shown(metrics, "http_requests_total", status="none") == 1


async def test_socket_is_no_slow_request(metrics: Metrics) -> None:
    """A socket is counted and in flight while it is open, and breaks no objective."""
    levels, during = SlaMonitor(), []

    async def socket(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        during.append(shown(metrics, "http_requests_in_flight", kind="websocket"))

    watch = RequestWatch(metrics, ended=levels.record)
    await _ask(watch, socket, _drop, kind="websocket")

    assert during == [1]
    assert shown(metrics, "http_requests_in_flight", kind="websocket") == 0
    assert shown(metrics, "http_requests_total", status="101") == 1
    assert shown(metrics, "http_request_duration_seconds_count") == 0
    assert levels.counts("/things/{id}", 3_600) == (0, 0)


async def test_failed_requests_burn_the_budget(metrics: Metrics) -> None:
    """Crashes are answered 500, counted so, and at some number an alert."""
    levels = SlaMonitor()

    async def crash(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError

    for _ in range(LEAST_REQUESTS):
        await _ask(RequestWatch(metrics, ended=levels.record), crash, _drop)

    assert shown(metrics, "http_requests_total", status="500") == LEAST_REQUESTS
    assert levels.counts("/things/{id}", 3_600) == (0, LEAST_REQUESTS)
    assert {(one.component, one.tier) for one in levels.signals()} == {
        ("/things/{id}", tier) for tier in ("critical", "warning", "trend")
    }


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (ValueError(), "error"),
        (asyncio.CancelledError(), "cancelled"),
    ],
)
async def test_step_is_told_by_its_end(
    metrics: Metrics, error: BaseException | None, outcome: str
) -> None:
    """A step of a run counts as done, failed or cancelled, and the error goes on."""
    watch = RunWatch(metrics)

    def step() -> None:
        with watch.run(context_of("ada")) as run, watch.step(run, "tool.use", {}):
            if error is not None:
                raise error

    if error is None:
        step()
    else:
        with pytest.raises(type(error)):
            step()

    assert shown(metrics, "agent_steps_total", kind="tool.use", outcome=outcome) == 1
    assert shown(metrics, "agent_steps_total") == 1
    assert shown(metrics, "agent_runs_in_flight") == 0
