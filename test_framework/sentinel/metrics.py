"""Prometheus metrics of the sentinel, on a registry of its own.

What stands in the memory is shown from there, so counters go on after a restart; a
snapshot is made after each round, since scrapes come from another thread. No metric
carries a user, a canary or a secret. docs/sentinel.md lists them.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from test_framework.core import UsageError
from test_framework.sentinel.forecast import Forecast, Refusal

if TYPE_CHECKING:
    from threading import Thread
    from wsgiref.simple_server import WSGIServer

    from test_framework.sentinel.rounds import Round
    from test_framework.sentinel.state import Memory

PREFIX = "isolation_sentinel"
MOST_ENDPOINTS = 200
OTHER = "other"
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RESULTS = ("valid", "invalid", "unknown", "down")
_PLAIN_COUNTERS = {
    "rounds_skipped": "Rounds left out because the one before took too long.",
    "state_save_failures": "Times that the state could not be stored.",
    "webhook_failures": "Failed attempts to reach the webhook.",
    "webhook_refused": "Messages given up because the webhook refused their content.",
    "webhook_dropped": "Messages given up because too many waited.",
}


class _Snapshot(Collector):
    def __init__(self) -> None:
        self.families: list[Metric] = []

    def collect(self) -> Iterable[Metric]:
        return self.families


class Metrics:
    """What scrapers see.

    Attributes:
        registry: Holds the metrics; serve it, or ask it in tests.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._snapshot = _Snapshot()
        self.registry.register(self._snapshot)
        self._latencies = Histogram(
            f"{PREFIX}_request_duration_seconds",
            "Latency of the synthetic users' requests.",
            ["endpoint"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._endpoints: set[str] = set()
        self._server: WSGIServer | None = None
        self._thread: Thread | None = None

    def serve(self, host: str, port: int) -> int:
        """Answer scrapers from a thread; return the port.

        Raises:
            UsageError: The port is taken, or the address is none of this machine.
        """
        try:
            self._server, self._thread = start_http_server(
                port, addr=host, registry=self.registry
            )
        except OSError as exc:
            message = (
                f"The metrics cannot be served on {host}:{port}: {exc.strerror or exc}. "
                "Pass --metrics-port with a free port, or 0 for any."
            )
            raise UsageError(message) from exc
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop answering."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def observe(self, one: "Round") -> None:
        """Add the latencies of a round."""
        for endpoint, values in one.latencies_s.items():
            # A service that puts ids into paths must not fill the scraper's memory.
            is_known = endpoint in self._endpoints
            if not is_known and len(self._endpoints) < MOST_ENDPOINTS:
                self._endpoints.add(endpoint)
                is_known = True
            histogram = self._latencies.labels(endpoint if is_known else OTHER)
            for value in values:
                histogram.observe(value)

    def publish(
        self, memory: "Memory", capacity: Mapping[str, Forecast | Refusal]
    ) -> None:
        """Show what the memory and the forecasts say now."""
        self._snapshot.families = [
            *_counters(memory),
            *_of_last_round(memory),
            _alerts(memory),
            _capacity(capacity),
        ]


def _counters(memory: "Memory") -> Iterable[Metric]:
    rounds = CounterMetricFamily(
        f"{PREFIX}_rounds", "Rounds by result.", labels=["result"]
    )
    for result in _RESULTS:
        rounds.add_metric([result], memory.totals.get(f"rounds {result}", 0))
    yield rounds
    findings = CounterMetricFamily(
        f"{PREFIX}_symptoms", "Rounds that saw a symptom.", labels=["alert", "tier"]
    )
    for name, count in sorted(memory.totals.items()):
        kind, _, labels = name.partition(" ")
        if kind == "symptoms":
            findings.add_metric(labels.split(" "), count)
    yield findings
    for name, text in _PLAIN_COUNTERS.items():
        yield CounterMetricFamily(
            f"{PREFIX}_{name}", text, value=memory.totals.get(name, 0)
        )


def _of_last_round(memory: "Memory") -> Iterable[Metric]:
    yield _gauge(
        "last_valid_timestamp_seconds",
        "End of the last valid round.",
        memory.last_valid_at,
    )
    yield _gauge("webhook_waiting", "Messages that wait.", len(memory.outbox))
    if not memory.rounds:
        return
    last = memory.rounds[-1]
    values = {
        "up": ("Whether the last round reached the service.", last.is_reached),
        "last_round_timestamp_seconds": (
            "End of the last round.",
            last.started_at + last.seconds,
        ),
        "round_duration_seconds": ("How long the last round took.", last.seconds),
        "users": ("Synthetic users of the last round.", last.users),
        "requests": ("Requests of the last round.", last.requests),
        "in_flight_peak": ("Most requests at one time.", last.in_flight),
        "user_pairs_overlapped": ("Pairs of users in flight together.", last.pairs_met),
        "user_pairs": ("Pairs of users that there were.", last.pairs),
        "left_behind": ("Things left of users that had gone.", last.left_behind),
    }
    for name, (text, value) in values.items():
        yield _gauge(name, text, value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)


def _alerts(memory: "Memory") -> Metric:
    family = GaugeMetricFamily(
        f"{PREFIX}_alert_firing", "1 while an alert lasts.", labels=["alert", "tier"]
    )
    known = {
        tuple(name.split(" ")[1:]): 0
        for name in memory.totals
        if name.startswith("symptoms ")
    }
    firing = {(key, str(alert.symptom.tier)): 1 for key, alert in memory.alerts.items()}
    # Zero for what has been: a series that ends looks like a scraper's trouble.
    for labels, value in sorted((known | firing).items()):
        family.add_metric(list(labels), value)
    return family


def _capacity(capacity: Mapping[str, Forecast | Refusal]) -> Metric:
    family = GaugeMetricFamily(
        f"{PREFIX}_capacity_users",
        "Users at which a limit is reached; absent when it cannot be told.",
        labels=["limit", "bound"],
    )
    for limit, one in capacity.items():
        if isinstance(one, Forecast):
            for bound in ("low", "estimate", "high"):
                family.add_metric([limit, bound], getattr(one, bound))
    return family
