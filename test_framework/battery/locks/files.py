"""A lock of all processes of a machine: ``flock`` on a file."""

import contextlib
import fcntl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO


class OpenFile:
    """A worker's own opening of the file: locks belong to openings, not to processes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def acquire(self) -> None:
        """Wait for the lock; blocks the thread."""
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def release(self) -> None:
        """Give it back."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def acquire_read(self) -> None:
        """Wait until no writer has it; blocks the thread."""
        fcntl.flock(self._file, fcntl.LOCK_SH)

    release_read = release
    acquire_write = acquire
    release_write = release


class FileLock:
    """A lock of threads and processes; for readers and writers as well.

    Args:
        path: The file; a temporary one by default, which ``aclose`` removes.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._is_ours = path is None
        if path is None:
            with tempfile.NamedTemporaryFile(prefix="battery-", delete=False) as file:
                path = Path(file.name)
        self.path = path

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[OpenFile]:
        """Yield a worker's own opening of the file."""
        with self.path.open("ab") as file:
            yield OpenFile(file)

    async def aclose(self) -> None:
        """Remove the file, if it is a temporary one."""
        if self._is_ours:
            self.path.unlink(missing_ok=True)
