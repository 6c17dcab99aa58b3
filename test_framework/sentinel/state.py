"""What the sentinel remembers over restarts: one JSON file, replaced as a whole.

The file is written beside, flushed to the disk and renamed, so a crash or power cut
leaves the old one or the new one. One that cannot be read is kept beside under another
name and a fresh one is begun. A lock keeps a second sentinel out of the folder. No
password, token or address of a webhook is ever stored.
"""

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from test_framework.core import UsageError
from test_framework.sentinel.alerts import Alert, Notice
from test_framework.sentinel.plain import of_plain, to_plain
from test_framework.sentinel.rounds import Round

FORMAT = 1
STATE_NAME = "sentinel.json"
LOCK_NAME = "sentinel.lock"
HISTORIES_NAME = "rounds"
MOST_ROUNDS = 1_000
MOST_HISTORIES = 50


@dataclass(slots=True)
class Memory:
    """Everything that outlives the process.

    Attributes:
        target: The service, without credentials.
        format: Of the file.
        number: Number of the last round.
        was_reached: Whether the service was ever reached.
        rounds: The latest rounds, oldest first.
        alerts: Alerts that last, by key.
        outbox: Messages that wait for the webhook, oldest first.
        totals: Counters that metrics continue from, by name and labels.
        last_valid_at: Unix time of the last valid round; 0 for none.
    """

    target: str
    format: int = FORMAT
    number: int = 0
    was_reached: bool = False
    rounds: list[Round] = field(default_factory=list)
    alerts: dict[str, Alert] = field(default_factory=dict)
    outbox: list[Notice] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)
    last_valid_at: float = 0.0

    def remember(self, one: Round) -> None:
        """Keep a round; the oldest goes when there are too many."""
        self.rounds.append(replace(one, latencies_s={}))
        del self.rounds[:-MOST_ROUNDS]
        self.number = one.number
        self.was_reached |= one.is_reached

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter."""
        self.totals[name] = self.totals.get(name, 0) + by


class StateFolder:
    """The folder with the state; holds its lock until it is closed.

    Args:
        path: Made when it does not exist.

    Raises:
        UsageError: It cannot be written, or another sentinel uses it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            (path / HISTORIES_NAME).mkdir(parents=True, exist_ok=True)
            self._lock = (path / LOCK_NAME).open("a")
            probe = path / f"{STATE_NAME}.new"
            probe.touch()
            probe.unlink()
        except OSError as exc:
            message = (
                f"The state folder {str(path)!r} cannot be written: {exc.strerror}. "
                "Pass --state with a folder you may write to."
            )
            raise UsageError(message) from exc
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            self._lock.close()
            message = (
                f"Another sentinel uses the state folder {str(path)!r}. Stop it, or "
                "pass --state with another folder."
            )
            raise UsageError(message) from exc

    def close(self) -> None:
        """Give the folder back."""
        self._lock.close()

    def load(self, target: str, *, say: Callable[[str], None]) -> Memory:
        """Return what was stored, or an empty memory.

        Args:
            target: The service that is watched, without credentials.
            say: Told one sentence when the file could not be read.

        Raises:
            UsageError: The state is that of another service.
        """
        path = self.path / STATE_NAME
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return Memory(target, number=self._last_number())
        except (OSError, UnicodeDecodeError) as exc:
            return self._begin_afresh(target, str(exc), say)
        try:
            body = json.loads(text)
            if not isinstance(body, dict) or body.get("format") != FORMAT:
                message = f"it is not of format {FORMAT}"
                raise ValueError(message)  # noqa: TRY301  # handled as what json raises
            memory = of_plain(Memory, body)
        except (ValueError, RecursionError) as exc:
            return self._begin_afresh(target, str(exc), say)
        if memory.target != target:
            message = (
                f"The state in {str(self.path)!r} is of {memory.target!r} and not of "
                f"{target!r}. Pass --state with a folder of its own for each service."
            )
            raise UsageError(message)
        return memory

    def _begin_afresh(
        self, target: str, reason: str, say: Callable[[str], None]
    ) -> Memory:
        number = 1
        while (kept := self.path / f"{STATE_NAME}.unreadable-{number}").exists():
            number += 1
        (self.path / STATE_NAME).rename(kept)
        say(
            f"The state in {str(self.path)!r} cannot be read ({reason}); it is kept as "
            f"{kept.name!r}, and the sentinel begins afresh."
        )
        return Memory(target, number=self._last_number())

    def _last_number(self) -> int:
        """Return the last number with a history: no round may write over another's."""
        names = [path.stem for path in self.path.glob(f"{HISTORIES_NAME}/*.jsonl")]
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def save(self, memory: Memory) -> None:
        """Replace what is stored.

        Raises:
            OSError: The disk is full or gone; what was stored before stays.
        """
        path = self.path / STATE_NAME
        fresh = path.with_name(f"{STATE_NAME}.new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(to_plain(memory), file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        # The rename itself is on the disk when the folder is.
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def history_path(self, number: int) -> Path:
        """Return where the history of a round goes."""
        return self.path / HISTORIES_NAME / f"{number:06d}.jsonl"

    def forget_old_histories(self) -> None:
        """Delete the oldest histories of rounds when there are too many."""
        paths = sorted((self.path / HISTORIES_NAME).glob("*.jsonl"))
        for path in paths[:-MOST_HISTORIES]:
            path.unlink(missing_ok=True)
