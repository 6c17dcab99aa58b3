"""Metrics: no count is lost or doubled, and no gauge outlives what it counts."""

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.multiprocess import MultiProcessCollector

from app.monitoring import metric_files
from app.monitoring.metric_files import MetricFiles, MetricFilesError
from app.monitoring.metrics import MAX_SERIES, Counter, Gauge, Histogram, total
from tests.unit.app.metrics_twins import (
    AnonymousArchive,
    LeakingGauge,
    PidNamedCounter,
    UnguardedFiles,
)

USERS = 100


def seen(files: MetricFiles) -> Counter:
    """Return a counter over some files."""
    return Counter(files, "seen", "Seen.")


def test_applications_of_one_process_are_summed(tmp_path: Path) -> None:
    """Two applications in one process count for themselves, and each shows the sum."""
    first, second = MetricFiles(tmp_path), MetricFiles(tmp_path)

    for counter in (seen(first), seen(second)):
        for _ in range(USERS):
            counter.inc()

    assert total(first.collect(), "seen_total") == 2 * USERS
    assert total(second.collect(), "seen_total") == 2 * USERS
    first.close()
    second.close()


@pytest.mark.power
def test_files_named_by_process_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With prometheus-client's own files the second application loses the first's."""
    counters = [PidNamedCounter(tmp_path, monkeypatch) for _ in range(2)]

    for counter in counters:
        for _ in range(USERS):
            counter.inc()

    merged: Any = MultiProcessCollector.merge(list(map(str, tmp_path.glob("*.db"))))  # type: ignore[no-untyped-call]  # prometheus-client leaves it untyped
    assert total(merged, "seen_total") == USERS


def _count_from_two_threads(files: MetricFiles, *, patience_s: float) -> float:
    """Count once in each of two threads that both want to read before either writes.

    A reader waits for the other one for ``patience_s`` at most.
    """
    both_read = threading.Barrier(2)

    class Meeting:
        """A file whose readers wait for one another, if they can come together."""

        def __init__(self, file: Any) -> None:  # noqa: ANN401  # prometheus-client's
            self._file = file

        def read_value(self, key: str) -> object:
            found = self._file.read_value(key)
            # Broken when the other one was kept out, as it should be.
            with contextlib.suppress(threading.BrokenBarrierError):
                both_read.wait(patience_s)
            return found

        def write_value(self, *what: object) -> None:
            self._file.write_value(*what)

        def close(self) -> None:
            self._file.close()

    files._files["counter"] = Meeting(files._files["counter"])
    counter = seen(files)
    threads = [threading.Thread(target=counter.inc) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    count = total(files.collect(), "seen_total")
    files.close()
    return count


def test_threads_lose_no_count(tmp_path: Path) -> None:
    """Two threads that count at one instant are both counted."""
    assert _count_from_two_threads(MetricFiles(tmp_path), patience_s=0.1) == 2


@pytest.mark.power
def test_count_in_two_steps_is_found(tmp_path: Path) -> None:
    """Without the guard both threads add to the same number, and one is lost."""
    assert _count_from_two_threads(UnguardedFiles(tmp_path), patience_s=20) == 1


async def _left_by_storm(gauge: Gauge, files: MetricFiles) -> float:
    """Return what a gauge shows after its users were cancelled at random instants.

    Each holds it for 8 turns of the loop and is cancelled after 0 to 9, in an order of
    a fixed seed; of 100, some 80 are met holding it.
    """
    turns = random.Random(7)

    async def serve() -> None:
        with gauge.held("http"):
            for _ in range(8):
                await asyncio.sleep(0)

    async def serve_and_leave(after: int) -> None:
        task = asyncio.create_task(serve())
        for _ in range(after):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})

    await asyncio.gather(*(serve_and_leave(turns.randrange(10)) for _ in range(USERS)))
    return total(files.collect(), "in_flight")


async def test_gauge_is_zero_after_cancellation_storm(tmp_path: Path) -> None:
    """A hundred cancelled requests leave nothing in flight."""
    files = MetricFiles(tmp_path)

    left = await _left_by_storm(Gauge(files, "in_flight", "Now.", "kind"), files)

    files.close()
    assert left == 0


@pytest.mark.power
async def test_gauge_without_finally_is_found(tmp_path: Path) -> None:
    """Counted down after the block, most of the cancelled requests stay in flight."""
    files = MetricFiles(tmp_path)

    left = await _left_by_storm(LeakingGauge(files, "in_flight", "Now.", "kind"), files)

    files.close()
    assert left > USERS / 4


_DYING_WORKER = """
import os, signal, sys
from pathlib import Path
from app.monitoring.metric_files import MetricFiles
from app.monitoring.metrics import Counter, Gauge, Histogram

files = MetricFiles(Path(sys.argv[1]))
Gauge(files, "in_flight", "Now.", "kind").add(3, "http")
Histogram(files, "took_seconds", "Took.").observe(0.3)
counter = Counter(files, "seen", "Seen.")
for _ in range(100):
    counter.inc()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_killed_worker_stays_counted(tmp_path: Path) -> None:
    """What a worker counted outlives its SIGKILL; what it had in flight does not.

    Its files go into the archive, once, and other workers are not disturbed.
    """
    survivor = MetricFiles(tmp_path)
    seen(survivor).inc()
    Gauge(survivor, "in_flight", "Now.", "kind").add(1, "http")

    died = subprocess.run(
        [sys.executable, "-c", _DYING_WORKER, str(tmp_path)], check=False, timeout=60
    )

    assert died.returncode == -signal.SIGKILL
    for _ in range(2):
        shown = survivor.collect()
        assert total(shown, "seen_total") == 101
        assert total(shown, "in_flight") == 1
        assert total(shown, "took_seconds_count") == 1
        assert total(shown, "took_seconds_bucket", le="0.5") == 1
    # The survivor's three numbers and lock, the folder's lock and two archives.
    assert len(list(tmp_path.iterdir())) == 7
    survivor.close()


class _PowerCutError(Exception):
    """Raised in place of a step of folding: the process is gone from there on."""


def _fold_with_cut(
    kind: type[MetricFiles], folder: Path, step: int, patch: pytest.MonkeyPatch
) -> tuple[bool, float]:
    """Fold a dead worker, dying at some step; return whether it died, and the sums.

    The next scrape, by another worker, finds what the interrupted one left.
    """
    folder.mkdir()
    dead, folder_of_dead = kind(folder), kind(folder)
    seen(dead).inc(amount=5)
    dead.close()  # an archive is there already
    again = kind(folder)
    seen(again).inc(amount=7)
    again._life.close()  # as a killed process does
    steps = 0

    def counted(name: str) -> Callable[..., Any]:
        original = getattr(Path, name)

        def cut(*args: object, **options: object) -> object:
            nonlocal steps
            steps += 1
            if steps == step:
                raise _PowerCutError
            return original(*args, **options)

        return cut

    with patch.context() as patched:
        for name in ("unlink", "rename"):
            patched.setattr(Path, name, counted(name))
        try:
            folder_of_dead.collect()
        except _PowerCutError:
            was_cut = True
        else:
            was_cut = False
    shown = total(folder_of_dead.collect(), "seen_total")
    for files in (again, folder_of_dead):
        for file in files._files.values():
            file.close()
    folder_of_dead._life.close()
    return was_cut, shown


def test_folding_can_be_cut_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies at any step of folding leaves each count counted once."""
    step, was_cut = 0, True
    while was_cut:
        step += 1
        was_cut, shown = _fold_with_cut(
            MetricFiles, tmp_path / str(step), step, monkeypatch
        )

        assert shown == 12, f"cut at step {step}"
    assert step > 4


@pytest.mark.power
def test_anonymous_archive_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive that does not name whom it took in is counted beside its worker."""
    sums = {
        _fold_with_cut(AnonymousArchive, tmp_path / str(step), step, monkeypatch)[1]
        for step in range(1, 8)
    }

    assert sums > {12.0}


def _scrape_while_worker_leaves(
    folder: Path, patch: pytest.MonkeyPatch, *, patience_s: float
) -> float:
    """Have a worker fold itself between a scrape's look and its reading.

    The scrape waits for it for ``patience_s`` at most.
    """
    scraper, leaver = MetricFiles(folder), MetricFiles(folder)
    seen(leaver).inc(amount=5)
    original = metric_files._merge
    leaving = threading.Thread(target=leaver.close)

    def merge(paths: list[str], **options: Any) -> Any:  # noqa: ANN401  # prometheus-client's
        if threading.current_thread() is not leaving and not leaving.ident:
            leaving.start()
            leaving.join(patience_s)
        return original(paths, **options)

    with patch.context() as patched:
        patched.setattr(metric_files, "_merge", merge)
        try:
            return total(scraper.collect(), "seen_total")
        finally:
            leaving.join(10)
            scraper.close()


def test_scrape_waits_for_leaving_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that leaves in the middle of a scrape is in it, once."""
    assert _scrape_while_worker_leaves(tmp_path, monkeypatch, patience_s=0.1) == 5


@pytest.mark.power
def test_scrape_without_lock_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the lock of the folder the files go away under the reader."""
    monkeypatch.setattr(metric_files, "_locked", lambda _: contextlib.nullcontext())

    with pytest.raises(FileNotFoundError):
        _scrape_while_worker_leaves(tmp_path, monkeypatch, patience_s=20)


def test_scrape_during_writes_is_whole(tmp_path: Path) -> None:
    """Scrapes while another thread counts never go back, and end at the exact count."""
    files = MetricFiles(tmp_path)
    histogram, is_done = Histogram(files, "took_seconds", "Took."), threading.Event()

    def write() -> None:
        for number in range(5_000):
            histogram.observe(number % 3)
        is_done.set()

    writer = threading.Thread(target=write)
    writer.start()
    counts = []
    while not is_done.is_set():
        counts.append(total(files.collect(), "took_seconds_count"))
    writer.join(10)
    counts.append(total(files.collect(), "took_seconds_count"))
    files.close()

    assert counts == sorted(counts)
    assert counts[-1] == 5_000


def test_stuck_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that another process holds on to ends the scrape with its reason."""
    files = MetricFiles(tmp_path)
    monkeypatch.setattr(metric_files, "LOCK_TIMEOUT_S", 0.01)
    with (
        metric_files._locked(tmp_path / "directory.lock"),
        pytest.raises(MetricFilesError, match="a worker of this folder hangs"),
    ):
        files.collect()
    files.close()


def test_series_are_bounded(tmp_path: Path) -> None:
    """Labels without end, which there should not be, are counted as one other."""
    files = MetricFiles(tmp_path)
    counter = Counter(files, "seen", "Seen.", "path")

    for number in range(MAX_SERIES + 50):
        counter.inc(f"/{number}")

    shown = files.collect()
    files.close()
    assert total(shown, "seen_total") == MAX_SERIES + 50
    assert total(shown, "seen_total", path="other") == 50


def test_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """An operator who names a file is told which setting to correct."""
    (tmp_path / "file").touch()

    with pytest.raises(MetricFilesError, match="METRICS_DIR"):
        MetricFiles(tmp_path / "file")


def test_private_folder_is_removed() -> None:
    """A worker that counts for itself leaves no files."""
    files = MetricFiles.open(None)
    folder = files._directory

    files.close()

    assert not folder.exists()
