"""A history: the records of one run, in memory and as JSON Lines on disk.

Each record goes to the operating system as it happens, in one unbuffered write of
about 4 us, so what was recorded survives a crash, a Ctrl-C, a dead service and
``kill -9``; not a power cut. A stored history judges to the same verdict as the run
that wrote it, because checkers read nothing else.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from test_framework.core.errors import UsageError
from test_framework.core.lines import decode, encode
from test_framework.core.records import (
    RECORD_TYPES,
    EndRecord,
    Record,
    RunRecord,
)

if TYPE_CHECKING:
    import io

FORMAT = 1

R = TypeVar("R")


class History:
    """The records of one run in the order they were made.

    Args:
        path: File to append to as records arrive; None keeps them in memory only.

    Raises:
        UsageError: The file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._by_type: dict[str, list[Any]] = {name: [] for name in RECORD_TYPES}
        self._file: io.FileIO | None = None
        self._path = path
        if path is not None:
            self.write_to(path)

    def write_to(self, path: Path) -> None:
        """Append records to a new file from now on; call it before the first record.

        Raises:
            UsageError: The file cannot be written.
        """
        self._path = path
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def add(self, record: Record) -> None:
        """Append one record.

        Raises:
            UsageError: The file cannot be written, for instance because the disk is
                full. This is said once: later records are kept in memory only.
        """
        self._by_type[record.type].append(record)
        if self._file is None:
            return
        rest = memoryview(encode(record).encode())
        try:
            while rest:
                # A disk that fills up takes a part first and refuses the next.
                rest = rest[self._file.write(rest) :]
        except OSError as exc:
            self.close()
            raise self._unwritable(exc) from exc

    def _unwritable(self, exc: OSError) -> UsageError:
        return UsageError(
            f"The history cannot be written to {str(self._path)!r}: {exc.strerror}. "
            "Pass --report with a folder you may write to and that has space."
        )

    def of(self, kind: type[R]) -> list[R]:
        """Return all records of one kind in order; do not change the list."""
        return self._by_type[kind.type]  # type: ignore[attr-defined]  # every record class has a type name

    @property
    def run(self) -> RunRecord:
        """The head of the history."""
        return self.of(RunRecord)[0]

    @property
    def is_broken_off(self) -> bool:
        """Whether its end says that the run did not come to it: nobody has left."""
        end = self.of(EndRecord)
        return bool(end) and not end[-1].complete

    def records(self) -> Iterator[Record]:
        """Yield every record, grouped by kind."""
        for group in self._by_type.values():
            yield from group

    def flush(self) -> None:
        """Hand everything recorded so far to the operating system: it has it."""

    def close(self) -> None:
        """Close the file; the records stay readable in memory."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @classmethod
    def of_records(cls, records: Iterable[Record]) -> Self:
        """Return a history in memory that holds the given records."""
        history = cls()
        for record in records:
            history.add(record)
        return history

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a stored history.

        Args:
            path: A JSON Lines file, or a report folder with ``history.jsonl``.

        Raises:
            UsageError: The file is missing, empty, not a history, or of another
                format; the message names the line.
        """
        if path.is_dir():
            path /= "history.jsonl"
        history = cls()
        try:
            lines = path.open(encoding="utf-8", errors="strict")
        except OSError as exc:
            message = (
                f"The history {str(path)!r} cannot be read: {exc.strerror}. "
                "Pass the history.jsonl of an earlier run, or its report folder."
            )
            raise UsageError(message) from exc
        with lines:
            try:
                history._read(lines, path)
            except UnicodeDecodeError as exc:
                message = (
                    f"{str(path)!r} is not a history: it is not UTF-8 text "
                    f"(byte {exc.start}). Pass the history.jsonl of a run."
                )
                raise UsageError(message) from exc
        if not history.of(RunRecord):
            message = (
                f"{str(path)!r} holds no run record, so it is not a whole history. "
                "Pass the history.jsonl of a run."
            )
            raise UsageError(message)
        if len(history.of(RunRecord)) > 1:
            message = (
                f"{str(path)!r} holds {len(history.of(RunRecord))} runs, and their "
                "numbers would be mixed up. Pass the history.jsonl of one run."
            )
            raise UsageError(message)
        return history

    def _read(self, lines: Iterable[str], path: Path) -> None:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            if not line.endswith("\n"):
                # The last line of a killed run may be cut; everything before counts.
                break
            try:
                body = json.loads(line)
                _require_format(body, path)
                self.add(decode(body))
            except UsageError:
                raise
            except (ValueError, RecursionError) as exc:
                message = (
                    f"{str(path)!r} line {number} is not a record of a history: "
                    f"{exc}. Pass the file as it was written, or use the release "
                    "that wrote it."
                )
                raise UsageError(message) from exc


def _require_format(body: object, path: Path) -> None:
    """Refuse another format before its fields are looked at."""
    if not isinstance(body, dict) or body.get("type") != RunRecord.type:
        return
    if body.get("format") != FORMAT:
        message = (
            f"{str(path)!r} has history format {body.get('format')!r}; this release "
            f"reads format {FORMAT}. Use the release that wrote it."
        )
        raise UsageError(message)
