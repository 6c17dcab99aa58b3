"""The numbers of all workers of one service instance, in files they share.

Workers share one port, so a scrape reaches one of them and must show the sum. Each
worker therefore keeps its numbers in memory-mapped files of its own: what it counted
is in the page cache at once and outlives a SIGKILL. The layout of a file and the sum
over files are prometheus-client's. Its own multiprocess mode is not used: it takes the
folder from the environment at import, names files by process id (two applications in
one process overwrite each other's numbers, and so do two containers), and leaves dead
workers to whoever started them.

A worker holds a lock on a file for as long as it lives, and the kernel gives that up
when it dies, however it dies. Whoever scrapes next folds the dead worker's counters
into an archive and forgets its gauges: they told what was in progress. An archive is
named after the worker that it took in, so the rename that publishes it also says that
the worker's own file no longer counts: a process that dies while folding leaves nothing
that is counted twice or lost.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Self

from prometheus_client import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

Kind = Literal["counter", "gauge", "histogram"]

LOCK_TIMEOUT_S = 2.0
_PREFIXES: dict[Kind, str] = {
    "counter": "counter",
    "gauge": "gauge_livesum",
    "histogram": "histogram",
}
_KEPT: tuple[Kind, ...] = ("counter", "histogram")
_ARCHIVE = "archive"
# prometheus-client leaves these without types.
_file: Callable[[str], Any] = MmapedDict
_merge: Callable[..., Iterable[Metric]] = MultiProcessCollector.merge


class MetricFilesError(RuntimeError):
    """Raised when the folder of the metrics cannot be used: the operator's fault."""


class MetricFiles:
    """One worker's numbers, and the sum over all workers of its folder.

    Numbers may be changed from any thread. What reads or writes more than numbers
    (``open``, ``collect``, ``close``) waits for files: call it in a thread.
    """

    def __init__(self, directory: Path, *, is_private: bool = False) -> None:
        """Join the workers whose numbers are in ``directory``.

        Args:
            directory: Shared by the workers of one service instance and nobody else,
                on a local file system; made when it is missing.
            is_private: Remove the folder when this worker closes.

        Raises:
            MetricFilesError: The folder cannot be written to, or another worker has
                held its lock for ``LOCK_TIMEOUT_S``.
        """
        # No underscore: prometheus-client splits file names at it.
        self.worker = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._directory = directory
        self._is_private = is_private
        self._guard = threading.Lock()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # Under the lock of the folder, so nobody reads a file that is half made.
            with _locked(directory / "directory.lock"):
                self._life = (directory / f"{self.worker}.lock").open("wb")
                fcntl.flock(self._life, fcntl.LOCK_EX)
                self._files: dict[Kind, Any] = {
                    kind: _file(str(self._path(kind, self.worker)))
                    for kind in _PREFIXES
                }
        except OSError as exc:
            message = (
                f"The metrics cannot be kept in {str(directory)!r}: {exc.strerror}. "
                "Let METRICS_DIR name a folder that the service may write to."
            )
            raise MetricFilesError(message) from exc

    @classmethod
    def open(cls, directory: Path | None) -> Self:
        """Join a folder; None makes one for this worker alone."""
        if directory is None:
            return cls(Path(tempfile.mkdtemp(prefix="metrics-")), is_private=True)
        return cls(directory)

    def add(self, kind: Kind, key: str, amount: float) -> None:
        """Add to a number of this worker, which begins at zero."""
        with self._guard:
            file = self._files.get(kind)
            if file is not None:  # closed: the last callbacks of a service that stops
                file.write_value(key, file.read_value(key)[0] + amount, 0.0)

    def set(self, kind: Kind, key: str, value: float) -> None:
        """Replace a number of this worker."""
        with self._guard:
            file = self._files.get(kind)
            if file is not None:
                file.write_value(key, value, 0.0)

    def collect(self) -> list[Metric]:
        """Return the sums over all workers, dead ones' counters included.

        Raises:
            MetricFilesError: Another worker has held the folder's lock for
                ``LOCK_TIMEOUT_S`` (it was stopped in the middle of a scrape).
        """
        with _locked(self._directory / "directory.lock"):
            alive = self._fold_the_dead()
            paths = [self._path(kind, name) for name in alive for kind in _PREFIXES]
            paths += [path for kind in _KEPT if (path := self._archive(kind))]
            return list(_merge([str(path) for path in paths]))

    def close(self) -> None:
        """Leave; what was counted stays for the other workers and for successors."""
        with self._guard:
            for file in self._files.values():
                file.close()
            self._files = {}
        if self._is_private:
            self._life.close()
            shutil.rmtree(self._directory, ignore_errors=True)
            return
        # A folder that is stuck must not stop the stopping: the next scrape folds us.
        with (
            contextlib.suppress(MetricFilesError),
            _locked(self._directory / "directory.lock"),
        ):
            self._fold(self.worker)
        self._life.close()

    def _fold_the_dead(self) -> list[str]:
        """Fold what is left of workers that died; return the names of the living."""
        alive = []
        for lock in sorted(self._directory.glob("*-*.lock")):
            if lock.stem == self.worker or _is_held(lock):
                alive.append(lock.stem)
            else:
                self._fold(lock.stem)
        return alive

    def _fold(self, worker: str) -> None:
        for kind in _KEPT:
            own, archive = self._path(kind, worker), self._archive(kind)
            if not own.exists():
                continue
            if archive is None or not archive.stem.endswith(f"-{worker}"):
                archive = self._publish(kind, archive, own)
            own.unlink()
            for older in self._archives(kind):
                if older != archive:
                    older.unlink()
        self._path("gauge", worker).unlink(missing_ok=True)
        (self._directory / f"{worker}.lock").unlink(missing_ok=True)

    def _publish(self, kind: Kind, archive: Path | None, own: Path) -> Path:
        number = 1 + (int(archive.stem.split("-")[1]) if archive else 0)
        name = f"{_PREFIXES[kind]}_{_ARCHIVE}-{number:09}-{own.stem.split('_')[-1]}"
        draft = self._directory / f"{name}.draft"
        draft.unlink(missing_ok=True)
        both = [str(path) for path in (archive, own) if path]
        file = _file(str(draft))
        for metric in _merge(both, accumulate=False):
            for sample in metric.samples:
                key = mmap_key(
                    metric.name,
                    sample.name,
                    list(sample.labels),
                    list(sample.labels.values()),
                    metric.documentation,
                )
                file.write_value(key, sample.value, 0.0)
        file.close()
        return draft.rename(draft.with_suffix(".db"))

    def _archives(self, kind: Kind) -> list[Path]:
        return sorted(self._directory.glob(f"{_PREFIXES[kind]}_{_ARCHIVE}-*.db"))

    def _archive(self, kind: Kind) -> Path | None:
        return next(reversed(self._archives(kind)), None)

    def _path(self, kind: Kind, worker: str) -> Path:
        return self._directory / f"{_PREFIXES[kind]}_{worker}.db"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    with path.open("wb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if time.monotonic() > deadline:
                    message = (
                        f"{str(path)!r} has been locked for {LOCK_TIMEOUT_S} s: a "
                        "worker of this folder hangs. Look for a stopped process."
                    )
                    raise MetricFilesError(message) from exc
                threading.Event().wait(0.002)
        # Closing the file gives the lock back.
        yield


def _is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
