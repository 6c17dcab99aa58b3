"""What the service says of itself: gauges of its own Prometheus metrics.

Read each second while a round runs, so that a peak is not missed by much. A gauge that
cannot be read is absent and told once; it never spoils a round.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

from test_framework.core import UsageError

PERIOD_S = 1.0
_TIMEOUT_S = 5.0
DEFAULT_MEMORY = "process_resident_memory_bytes"


@dataclass(slots=True)
class Readings:
    """Gauges over one round, each summed over its labels; None when never read."""

    memory_bytes: float | None = None
    pool_use: float | None = None
    load: float | None = None


class ServiceGauges:
    """Reads the metrics page of the service.

    Args:
        url: The page; None reads nothing.
        memory: Name of the gauge of resident memory, in bytes.
        pool: Name of the gauge of connections in use; None reads none.
        load: Name of the gauge of requests in flight; None reads none.
        say: Told a sentence when a page or gauge is missing that was not before.

    Raises:
        UsageError: The URL is not an http or https URL.
    """

    def __init__(
        self,
        url: str | None,
        *,
        memory: str = DEFAULT_MEMORY,
        pool: str | None = None,
        load: str | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        if url is not None and not url.startswith(("http://", "https://")):
            message = (
                f"--service-metrics {url!r} is no http or https URL. Pass "
                "http://host:port/metrics."
            )
            raise UsageError(message)
        self._url = url
        self._memory = memory
        self._pool = pool
        self._load = load
        self._say = say
        self._problem = ""

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[Readings]:
        """Read once more each second inside the block."""
        readings = Readings()
        if self._url is None:
            yield readings
            return
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            reading = asyncio.create_task(self._go_on(client, readings), name="gauges")
            try:
                yield readings
            finally:
                reading.cancel()
                await asyncio.wait({reading})

    async def _go_on(self, client: httpx.AsyncClient, readings: Readings) -> None:
        while True:
            try:
                answer = await client.get(self._url or "")
                answer.raise_for_status()
                problem = self._take(answer.text, readings)
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
                problem = f"cannot be read ({type(exc).__name__})"
            if problem and problem != self._problem:
                self._say(f"The metrics of the service {problem}.")
            self._problem = problem
            await asyncio.sleep(PERIOD_S)

    def _take(self, text: str, readings: Readings) -> str:
        """Take in a page; return what is wrong with it."""
        values = sums_of(text)
        readings.memory_bytes = values.get(self._memory, readings.memory_bytes)
        readings.pool_use = _larger(readings.pool_use, values.get(self._pool or ""))
        readings.load = _larger(readings.load, values.get(self._load or ""))
        wanted = [name for name in (self._memory, self._pool, self._load) if name]
        missing = [name for name in wanted if name not in values]
        return f"have no {', '.join(missing)}" if missing else ""


def sums_of(text: str) -> dict[str, float]:
    """Return the value of each series of a metrics page, summed over its labels.

    Raises:
        ValueError: It is not such a page.
    """
    sums: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if math.isfinite(sample.value):
                    sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    except IndexError as exc:  # what the parser raises for it
        message = "a label of it has no name"
        raise ValueError(message) from exc
    return sums


def _larger(before: float | None, now: float | None) -> float | None:
    known = [value for value in (before, now) if value is not None]
    return max(known, default=None)
