"""Metrics: what the service counts, for Prometheus.

Labels are bounded by construction: a route's template and never a path, a status, a
kind; never anything of a user. Whoever reads ``/metrics`` learns how much the service
is used and nothing about whom by. As a second fence a metric keeps ``MAX_SERIES``
combinations of labels and counts what comes after them under ``other``.

A count is written before the answer that it counts leaves, so every answer a client
has got is counted, also when the worker is killed the next moment.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.mmap_dict import mmap_key
from prometheus_client.registry import Collector

from app.monitoring.metric_files import Kind, MetricFiles

MAX_SERIES = 500
DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_OTHER = "other"


@dataclass(slots=True)
class _Series:
    """The keys of one metric's numbers, by their labels."""

    files: MetricFiles
    kind: Kind
    name: str
    help: str
    labels: tuple[str, ...]
    keys: dict[tuple[str, ...], str] = field(default_factory=dict)

    def bounded(self, values: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels to count under.

        Raises:
            ValueError: Their number is not that of the metric's labels.
        """
        if values in self.keys:
            return values
        if len(values) != len(self.labels):
            message = f"{self.name} has the labels {self.labels}, not {values!r}."
            raise ValueError(message)
        if len(self.keys) >= MAX_SERIES:
            return (_OTHER,) * len(values)
        return values

    def key(self, values: tuple[str, ...], *, suffix: str = "", **more: str) -> str:
        """Return the key of a sample in prometheus-client's files."""
        return mmap_key(
            self.name,
            self.name + suffix,
            [*self.labels, *more],
            [*values, *more.values()],
            self.help,
        )


class Counter:
    """A number that only grows; summed over workers, dead ones included."""

    def __init__(self, files: MetricFiles, name: str, text: str, *labels: str) -> None:
        """Count as ``name`` with ``_total`` at its end."""
        self._series = _Series(files, "counter", name, text, labels)

    def inc(self, *labels: str, amount: float = 1.0) -> None:
        """Add to the count; ``amount`` is zero or more."""
        series = self._series
        key = series.keys.get(labels)
        if key is None:
            labels = series.bounded(labels)
            key = series.keys[labels] = series.key(labels, suffix="_total")
        series.files.add("counter", key, amount)


class Gauge:
    """A number of things that are there now; summed over living workers."""

    def __init__(self, files: MetricFiles, name: str, text: str, *labels: str) -> None:
        """Show as ``name``."""
        self._series = _Series(files, "gauge", name, text, labels)

    def add(self, amount: float, *labels: str) -> None:
        """Change this worker's share."""
        self._series.files.add("gauge", self._key(labels), amount)

    def set(self, value: float, *labels: str) -> None:
        """Replace this worker's share."""
        self._series.files.set("gauge", self._key(labels), value)

    @contextlib.contextmanager
    def held(self, *labels: str) -> Iterator[None]:
        """Count one more for the time of the block, however it ends."""
        key, files = self._key(labels), self._series.files
        files.add("gauge", key, 1.0)
        try:
            yield
        finally:
            files.add("gauge", key, -1.0)

    def _key(self, labels: tuple[str, ...]) -> str:
        series = self._series
        key = series.keys.get(labels)
        if key is None:
            labels = series.bounded(labels)
            key = series.keys[labels] = series.key(labels)
        return key


class Histogram:
    """How long things took, seconds; summed over workers, dead ones included."""

    def __init__(
        self,
        files: MetricFiles,
        name: str,
        text: str,
        *labels: str,
        bounds_s: tuple[float, ...] = DURATIONS_S,
    ) -> None:
        """Show as ``name``; ``bounds_s`` are ascending upper ends of the buckets."""
        self._series = _Series(files, "histogram", name, text, labels)
        self._bounds = (*bounds_s, float("inf"))
        self._buckets: dict[tuple[str, ...], tuple[str, ...]] = {}

    def observe(self, seconds: float, *labels: str) -> None:
        """Take in one duration."""
        series = self._series
        if labels not in self._buckets:
            labels = series.bounded(labels)
            self._begin(labels)
        place = next(i for i, bound in enumerate(self._bounds) if seconds <= bound)
        series.files.add("histogram", self._buckets[labels][place], 1.0)
        series.files.add("histogram", series.keys[labels], seconds)

    def _begin(self, labels: tuple[str, ...]) -> None:
        series = self._series
        ends = [*map(str, self._bounds[:-1]), "+Inf"]
        self._buckets[labels] = tuple(
            series.key(labels, suffix="_bucket", le=end) for end in ends
        )
        series.keys[labels] = series.key(labels, suffix="_sum")
        for key in self._buckets[labels]:
            # All buckets are there from the first observation on.
            series.files.add("histogram", key, 0.0)


class _Sums(Collector):
    def __init__(self, files: MetricFiles) -> None:
        self._files = files

    def collect(self) -> Iterable[Metric]:
        return self._files.collect()


class Metrics:
    """The metrics of one application in one worker; its own registry, no global one.

    Attributes:
        in_flight: Requests and sockets that are being served, by kind and route
            template; ``none`` until they are authenticated or answered.
        requests: Answers begun, by method, route template and status.
        durations: How long requests took, by route template.
        runs_in_flight: Agent runs that are worked on.
        runs: Agent runs that ended, by status.
        steps: Model calls and tool uses of runs, by kind and outcome.
        pools: Connections in use, by pool.
        queues: Things that wait, by queue.
        breakers: 0 closed, 1 half open, 2 open, summed over workers, by breaker.
        violations: Times when something of another user was caught, by place.
        stalls: Times when the event loop stood still.
    """

    def __init__(self, files: MetricFiles) -> None:
        """Keep the numbers in ``files``, which the metrics close."""
        self._files = files
        self._registry = CollectorRegistry()
        self._registry.register(_Sums(files))
        self._samplers: dict[str, Callable[[], None]] = {}
        self.in_flight = Gauge(
            files,
            "http_requests_in_flight",
            "Requests being served.",
            "kind",
            "endpoint",
        )
        self.requests = Counter(
            files,
            "http_requests",
            "Answers begun; status none: ended without one.",
            "method",
            "endpoint",
            "status",
        )
        self.durations = Histogram(
            files, "http_request_duration_seconds", "Time to the end.", "endpoint"
        )
        self.runs_in_flight = Gauge(
            files, "agent_runs_in_flight", "Runs being worked on."
        )
        self.runs = Counter(files, "agent_runs", "Runs that ended.", "status")
        self.steps = Counter(
            files, "agent_steps", "Model calls and tool uses.", "kind", "outcome"
        )
        self.pools = Gauge(
            files, "pool_connections_in_use", "Connections in use.", "pool"
        )
        self.queues = Gauge(files, "queue_depth", "Things that wait.", "queue")
        self.breakers = Gauge(
            files, "circuit_breaker_state", "0 closed, 1 half open, 2 open.", "breaker"
        )
        self.violations = Counter(
            files,
            "isolation_violations",
            "Times when something of another user was caught.",
            "place",
        )
        self.stalls = Counter(
            files, "event_loop_stalls", "Times when the event loop stood still."
        )

    @classmethod
    def open(cls, directory: Path | None = None) -> Self:
        """Join the workers of a folder; None counts for this worker alone.

        Raises:
            MetricFilesError: The folder cannot be used.
        """
        return cls(MetricFiles.open(directory))

    def sample(self, name: str, take: Callable[[], None]) -> None:
        """Have ``take`` set gauges before a scrape; one of the same name is replaced.

        For what can be read at any time and tells of no changes: the depth of a queue,
        the state of a breaker.
        """
        self._samplers[name] = take

    def take_samples(self) -> None:
        """Read what can be read at any time; in the thread of the loop."""
        for take in self._samplers.values():
            take()

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format; waits for files.

        Raises:
            MetricFilesError: Another worker hangs with the folder locked.
        """
        return generate_latest(self._registry)

    def close(self) -> None:
        """Leave the folder; what is counted after that is dropped."""
        self._files.close()


def total(metrics: Iterable[Metric], sample: str, **labels: str) -> float:
    """Return the sum of the samples of a name whose labels include ``labels``."""
    return sum(
        one.value
        for metric in metrics
        for one in metric.samples
        if one.name == sample and labels.items() <= one.labels.items()
    )
