"""What the service says of itself: gauges of its own Prometheus metrics.

Read each second while a round runs, so that a peak is not missed by much. A gauge that
cannot be read is absent; it never spoils a round.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

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
    """

    def __init__(
        self,
        url: str | None,
        *,
        memory: str = DEFAULT_MEMORY,
        pool: str | None = None,
        load: str | None = None,
    ) -> None:
        self._url = url
        self._memory = memory
        self._pool = pool
        self._load = load

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
            with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL, ValueError):
                answer = await client.get(self._url or "")
                if answer.is_success:
                    self._take(answer.text, readings)
            await asyncio.sleep(PERIOD_S)

    def _take(self, text: str, readings: Readings) -> None:
        values = sums_of(text)
        readings.memory_bytes = values.get(self._memory, readings.memory_bytes)
        readings.pool_use = _larger(readings.pool_use, values.get(self._pool or ""))
        readings.load = _larger(readings.load, values.get(self._load or ""))


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
