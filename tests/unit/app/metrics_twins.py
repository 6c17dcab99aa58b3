"""Metrics as they are often written, each with one mistake."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import values

from app.monitoring.metric_files import Kind, MetricFiles
from app.monitoring.metrics import Gauge


class PidNamedCounter:
    """A counter of prometheus-client's own mode: its files are named by process.

    Two applications in one process, and two containers with one folder, share a file
    and each keeps its own idea of what stands in it.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))
        made = cast("Any", values.MultiProcessValue)(os.getpid)
        self._value = made("counter", "seen", "seen_total", (), (), "Seen.")

    def inc(self) -> None:
        """Count."""
        self._value.inc(1.0)


class UnguardedFiles(MetricFiles):
    """Reads and writes a number in two steps that another thread can come between."""

    def add(self, kind: Kind, key: str, amount: float) -> None:
        file = self._files[kind]
        file.write_value(key, file.read_value(key)[0] + amount, 0.0)


class LeakingGauge(Gauge):
    """Counts down after the block, which a cancelled one never reaches."""

    @contextlib.contextmanager
    def held(self, *labels: str) -> Iterator[None]:
        self.add(1.0, *labels)
        yield
        self.add(-1.0, *labels)


class AnonymousArchive(MetricFiles):
    """Publishes archives that do not say whom they took in."""

    def _publish(self, kind: Kind, archive: Path | None, own: Path) -> Path:
        named = super()._publish(kind, archive, own)
        return named.rename(named.with_stem(named.stem.rpartition("-")[0] + "-x"))
