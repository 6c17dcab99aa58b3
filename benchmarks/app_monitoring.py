"""Cost of watching the reference service: metrics, traces, scrapes, alerts, windows.

Run ``python -m benchmarks.app_monitoring``. Each thing is done with the watch and
without it, or beside what a plain library does, in turns within one process; the best
of the rounds counts, in CPU time: the ratio is what to read, on a machine that others
use as well. Alerts go to a real Postgres that is started here.
"""

import argparse
import asyncio
import functools
import gc
import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as PlainCounter
from pydantic import BaseModel

from app.api.frontier import Frontier
from app.monitoring import Metrics, RequestWatch, Signal, SlaMonitor, Tracing
from app.storage import AlertTimes, PostgresAlerts, open_engine
from app.storage.migrate import migrate
from test_framework.services import running_services

ROUNDS = 5
WORKERS = 50
ENDPOINTS = 30


class Ask(BaseModel):
    """What a user asks for."""

    text: str
    tags: list[str] = []


def service(watch: RequestWatch) -> Frontier:
    """Return a small service behind the reference service's frontier."""
    app = FastAPI()

    @app.post("/ask/{number}")
    async def ask(number: int, question: Ask) -> Ask:
        del number
        return question

    return Frontier(
        app,
        max_body_bytes=1_000_000,
        name_user=lambda _: None,
        watch=lambda: watch,
    )


def request_us(watch: Callable[[], RequestWatch], count: int = 300) -> float:
    """Return the CPU time of a request, microseconds, without a network."""
    body = json.dumps({"text": "what is new?", "tags": ["News", "today"]}).encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/ask/7",
        "raw_path": b"/ask/7",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise AssertionError(message)

    async def timed() -> float:
        app = service(watch())
        await app(dict(scope), receive, send)
        started = time.process_time()
        for _ in range(count):
            await asyncio.create_task(app(dict(scope), receive, send))
        return time.process_time() - started

    gc.collect()
    return asyncio.run(timed()) / count * 1e6


def best(measure: Callable[[], float], rounds: int) -> float:
    """Return the least of some measurements."""
    return min(measure() for _ in range(rounds))


def requests_table(rounds: int) -> None:
    """Print what watching adds to a request."""
    metrics, sla = Metrics.open(), SlaMonitor()
    tracing = Tracing(BatchSpanProcessor(InMemorySpanExporter()))
    kinds: dict[str, Callable[[], RequestWatch]] = {
        "nothing": RequestWatch,
        "metrics": lambda: RequestWatch(metrics),
        "metrics, service levels": lambda: RequestWatch(metrics, ended=sla.record),
        "traces": lambda: RequestWatch(None, tracing),
        "all of them": lambda: RequestWatch(metrics, tracing, ended=sla.record),
    }
    # In turns, so that a busy moment of the machine meets all of them.
    costs = {name: float("inf") for name in kinds}
    for _ in range(rounds):
        for name, watch in kinds.items():
            costs[name] = min(costs[name], request_us(watch))
    print("| a request that is watched for | CPU | difference | ratio |")
    print("|---|--:|--:|--:|")
    for name, cost in costs.items():
        plain = costs["nothing"]
        print(
            f"| {name} | {cost:.1f} us | +{cost - plain:.1f} us | {cost / plain:.3f} |"
        )
    metrics.close()
    tracing.close()


def operation_ns(work: Callable[[], object], count: int = 20_000) -> float:
    """Return the CPU time of one call, nanoseconds."""
    started = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - started) / count * 1e9


def operations_table(rounds: int) -> None:
    """Print what one count costs, beside plain counts of one process."""
    metrics, sla = Metrics.open(), SlaMonitor()
    plain = PlainCounter("seen", "Seen.", ["endpoint"], registry=CollectorRegistry())
    works: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        (
            "count, shared by workers",
            functools.partial(metrics.requests.inc, "GET", "/things/{id}", "200"),
            lambda: plain.labels("/things/{id}").inc(),
        ),
        (
            "duration, shared by workers",
            functools.partial(metrics.durations.observe, 0.2, "/things/{id}"),
            lambda: plain.labels("/things/{id}").inc(),
        ),
        (
            "service level, five windows",
            functools.partial(sla.record, "/things/{id}", 200, 0.1),
            lambda: plain.labels("/things/{id}").inc(),
        ),
    ]
    print("\n| operation | CPU | per second | prometheus-client's count | ratio |")
    print("|---|--:|--:|--:|--:|")
    for name, work, other in works:
        cost = best(functools.partial(operation_ns, work), rounds)
        base = best(functools.partial(operation_ns, other), rounds)
        print(
            f"| {name} | {cost:.0f} ns | {1e9 / cost:,.0f} | {base:.0f} ns | "
            f"{cost / base:.1f} |"
        )
    metrics.close()


def scrapes_table(rounds: int) -> None:
    """Print what a scrape costs, for folders of some workers, while one counts."""
    registry = CollectorRegistry()
    plain = PlainCounter("seen", "Seen.", ["endpoint"], registry=registry)
    for number in range(ENDPOINTS * 14):
        plain.labels(f"/{number}").inc()
    base = best(lambda: operation_ns(lambda: generate_latest(registry), 20), rounds)
    print("\n| scrape | CPU | one process, as many series | ratio |")
    print("|---|--:|--:|--:|")
    for workers in (1, 2, 8):
        with tempfile.TemporaryDirectory() as folder:
            all_metrics = [Metrics.open(Path(folder)) for _ in range(workers)]
            for metrics in all_metrics:
                for number in range(ENDPOINTS):
                    metrics.requests.inc("GET", f"/{number}", "200")
                    metrics.durations.observe(0.2, f"/{number}")
            is_done = threading.Event()
            writer = threading.Thread(target=_count_until, args=(is_done, all_metrics))
            writer.start()
            cost = best(lambda m=all_metrics[0]: _thread_ns(m.render), rounds)  # type: ignore[misc]  # its default is bound now
            is_done.set()
            writer.join()
            for metrics in all_metrics:
                metrics.close()
        print(
            f"| {workers} workers, {ENDPOINTS} endpoints, under load | "
            f"{cost / 1e6:.2f} ms | {base / 1e6:.2f} ms | {cost / base:.1f} |"
        )


def _thread_ns(work: Callable[[], object]) -> float:
    """Return the CPU time of this thread: another one counts meanwhile."""
    started = time.thread_time()
    for _ in range(10):
        work()
    return (time.thread_time() - started) / 10 * 1e9


def _count_until(is_done: threading.Event, all_metrics: list[Metrics]) -> None:
    while not is_done.wait(0.001):
        for metrics in all_metrics:
            metrics.requests.inc("GET", "/0", "200")


async def _sightings_per_s(url: str, *, components: int, seconds: float) -> float:
    """Return how many signals per second all workers get into the store."""
    engine = open_engine(url, pool_size=WORKERS, pool_timeout_s=60)
    store = PostgresAlerts(engine, AlertTimes(group_s=0))
    seen = 0

    async def see(number: int) -> None:
        nonlocal seen
        signal = Signal(
            "bench", f"{components}:{number % components}", "trend", "Seen."
        )
        while time.monotonic() < end:
            await store.see(signal)
            seen += 1

    end = time.monotonic() + seconds
    started = time.monotonic()
    await asyncio.gather(*(see(number) for number in range(WORKERS)))
    rate = seen / (time.monotonic() - started)
    told = []
    while (batch := await store.claim()) is not None:
        told += batch.notices
        await store.close(batch, "taken")
    if len(told) != components:
        message = f"{components} episodes were told {len(told)} times."
        raise AssertionError(message)
    await engine.dispose()
    return rate


async def _transactions_per_s(url: str, *, seconds: float) -> float:
    """Return how many transactions of one empty query the same workers get."""
    engine = open_engine(url, pool_size=WORKERS, pool_timeout_s=60)
    done = 0

    async def ask() -> None:
        nonlocal done
        while time.monotonic() < end:
            async with engine.begin() as connection:
                await connection.exec_driver_sql("SELECT 1")
            done += 1

    end = time.monotonic() + seconds
    started = time.monotonic()
    await asyncio.gather(*(ask() for _ in range(WORKERS)))
    rate = done / (time.monotonic() - started)
    await engine.dispose()
    return rate


async def alerts_table(owner_url: str) -> None:
    """Print how alerts of many workers are made one, under contention and without."""
    url = "postgresql+asyncpg://" + owner_url.partition("://")[2]
    await migrate(url)
    base = await _transactions_per_s(url, seconds=1.0)
    print(f"\n| {WORKERS} workers see | per second | empty transactions | ratio |")
    print("|---|--:|--:|--:|")
    for components, name in ((WORKERS, "an alert each"), (1, "one and the same")):
        rate = await _sightings_per_s(url, components=components, seconds=1.5)
        print(f"| {name} | {rate:,.0f} | {base:,.0f} | {rate / base:.2f} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    logging.getLogger("app").setLevel(logging.ERROR)
    requests_table(rounds)
    operations_table(rounds)
    scrapes_table(rounds)
    with running_services() as services:
        asyncio.run(alerts_table(services.database_url))


if __name__ == "__main__":
    main()
