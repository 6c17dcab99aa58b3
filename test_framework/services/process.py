"""One worker process, seen from the parent: its pipes, its log, its end.

The other side is ``worker``. What the service printed is the only witness of a start
that failed, so most of this module makes one good sentence out of a log.
"""

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from test_framework.core import (
    AlarmRecord,
    InternalError,
    TargetError,
    UsageError,
    WatchRecord,
)
from test_framework.core.lines import decode

if TYPE_CHECKING:
    from test_framework.services.plan import HostPlan

CENSUS_LIMIT_S = 5.0
ALARMS_LIMIT_S = 15.0
"""Looking for residue walks through the heap of a service."""
STOP_LIMIT_S = 5.0
"""A worker that was let go ends within this, gracefully or not."""

REFUSED = "refused"
"""Key of a first answer that says why a plan cannot be followed."""

IDENTIFY = b"identify"
"""Begins the control line that names a file of identities, which gets no answer."""

CLOCK = b"clock"
"""Begins the control line that says how far to set the wall clock forth, in seconds."""
OFFSET = "offset_s"
"""Key of the answer to it."""

_TAIL_LINES = 15
_TAIL_BYTES = 64 * 1024
_PACKAGE_ROOT = Path(__file__).parents[2]
# Our own package comes last on the path, so that it hides nothing of the service.
_BOOT = (
    "import sys; sys.path.append({root!r}); "
    "from test_framework.services.worker import main; main()"
)
_CAUSE = re.compile(r"^\s*(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Exit)\b")

# Frames that say nothing about the service: the boot line, ours, the importer.
_OURS = re.compile(
    rf'  File "(?:<|{re.escape(str(Path(__file__).parent))}|.*importlib.__init__\.py")'
)


@dataclass(frozen=True, slots=True)
class Census:
    """What one worker process holds at an instant.

    Attributes:
        worker: Number of the worker.
        tasks: Tasks that are not done, counted by the name of their coroutine.
        background: Those of them that no request is known to have begun; all of them
            where no detector runs.
        open_files: File descriptors.
        rss_bytes: Memory in use.
        threads: Threads.
    """

    worker: int
    tasks: Mapping[str, int]
    background: Mapping[str, int]
    open_files: int
    rss_bytes: int
    threads: int


@dataclass(frozen=True, slots=True)
class AlarmReport:
    """What the detectors of the workers say so far.

    Attributes:
        alarms: What they saw.
        watches: What they looked at.
    """

    alarms: list[AlarmRecord]
    watches: list[WatchRecord]


class WorkerProcess:
    """One worker process, seen from the parent.

    Attributes:
        index: Its number; a process that takes the place of another has one of its own.
        log: What it printed, after what those before it in its place did.
        record: What its probe recorded.
        routes: What its handlers are called.
        is_killed: Whether we ended it in the middle of its work.
        is_stopped: Whether we stopped it, and it is to go on.
    """

    def __init__(
        self,
        plan: "HostPlan",
        index: int,
        listener: socket.socket,
        work_dir: Path,
        *,
        environment: Mapping[str, str],
        log: Path,
    ) -> None:
        work_dir.mkdir(parents=True, exist_ok=True)
        self.index = index
        self.is_killed = False
        self.is_stopped = False
        self.log = log
        self.record = work_dir / f"worker-{index}.handlers"
        self.routes = work_dir / f"worker-{index}.routes"
        self._target = plan.target
        self._start_limit_s = plan.start_limit_s
        self._unread = b""
        self._reply, reply = os.pipe()
        with self.log.open("ab") as appended:
            self._process = subprocess.Popen(  # noqa: S603  # this interpreter, our own module
                [
                    *(sys.executable, "-u", "-P", "-c"),
                    _BOOT.format(root=str(_PACKAGE_ROOT)),
                ],
                stdin=subprocess.PIPE,
                stdout=appended,
                stderr=subprocess.STDOUT,
                cwd=plan.app_dir,
                env=dict(environment),
                bufsize=0,
                pass_fds=(listener.fileno(), reply),
                # Ctrl-C in a terminal must reach the audit first, not the workers.
                start_new_session=True,
            )
        os.close(reply)
        self._tell(
            {
                "target": plan.target,
                "app_dir": str(plan.app_dir.absolute()),
                "listener": listener.fileno(),
                "reply": reply,
                "record": str(self.record.absolute()),
                "routes": str(self.routes.absolute()),
                "uvicorn": dict(plan.uvicorn),
                "detectors": {
                    name: dict(options) for name, options in plan.detectors.items()
                },
            }
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def await_ready(self, deadline: float) -> None:
        """Return once it accepts connections.

        Raises:
            TargetError: The service does not start.
            UsageError: It cannot be watched as it was asked for.
        """
        answer = self._read(deadline)
        if answer is not None:
            if REFUSED in answer:
                raise UsageError(answer[REFUSED])
            return
        status = self._status()
        if status is None:
            message = (
                f"{self._target!r} did not start within {self._start_limit_s:g} s. Make "
                f"its startup quicker, or correct what it waits for.{self._tail()}"
            )
        else:
            message = (
                f"{self._target!r} does not start: {self._cause()}. Correct that and "
                f"run again.{self._tail()}"
            )
        raise TargetError(message)

    def require_alive(self) -> None:
        """Raise when it ended."""
        status = self._process.poll()
        if status is not None:
            message = (
                f"Worker {self.index} of {self._target!r} ended in the middle of the "
                f"run with {_ending(status)}. Correct the cause and run again."
                f"{self._tail()}"
            )
            raise TargetError(message)

    def ask(self, word: str) -> None:
        """Ask for a ``census`` or for ``alarms``; to be read in the same order."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(word.encode() + b"\n")

    def identify(self, path: Path) -> None:
        """Have it read how the service calls the users, before what is asked next.

        Args:
            path: A file of JSON: identifiers by the number of the user. They are too
                many for the pipe, which a worker that was stopped does not empty.
        """
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(IDENTIFY + b" " + os.fsencode(path) + b"\n")

    def set_clock(self, offset_s: float) -> None:
        """Have it set its wall clock; the answer is to be read."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(CLOCK + b" %r\n" % offset_s)

    def read_clock(self, offset_s: float, deadline: float) -> None:
        """Return once its wall clock is set; a stopped one sets it when it goes on."""
        if self.is_stopped:
            return
        while self._answer(deadline, OFFSET)[OFFSET] != offset_s:
            pass

    def read_census(self, deadline: float) -> Census:
        """Return the census that was asked for."""
        return Census(self.index, **self._answer(deadline, "tasks"))

    def read_alarms(self, deadline: float) -> AlarmReport:
        """Return the alarms that were asked for, and what was watched."""
        alarms, watches = [], []
        for body in self._answer(deadline, "records")["records"]:
            record = decode(body)
            if isinstance(record, AlarmRecord):
                alarms.append(replace(record, worker=self.index))
            elif isinstance(record, WatchRecord):
                watches.append(replace(record, worker=self.index))
        return AlarmReport(alarms, watches)

    def _answer(self, deadline: float, key: str) -> dict[str, Any]:
        """Return the next answer that has a key; others are late, and nobody waits."""
        answer = self._read(deadline)
        while answer is not None and key not in answer:
            answer = self._read(deadline)
        if answer is None:
            if self._status() is not None:
                self.require_alive()
            message = (
                f"Worker {self.index} of {self._target!r} did not answer in "
                "time: its event loop is blocked. Look for a blocking call in it."
                f"{self._tail()}"
            )
            raise TargetError(message)
        return answer

    def kill(self) -> None:
        """End it at once, in the middle of its work, as the kernel does without memory.

        Raises:
            TargetError: It does not end.
        """
        self.is_killed = True
        self._process.kill()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired as exc:
            message = (
                f"Worker {self.index} of {self._target!r} does not end on SIGKILL: the "
                "kernel waits for a device. Run again on a machine that is well."
            )
            raise TargetError(message) from exc

    def stop(self) -> None:
        """Stop it where it is; the kernel still takes connections for it."""
        self.is_stopped = True
        self._process.send_signal(signal.SIGSTOP)
        # The signal is sent now and obeyed a moment later; macOS lacks waitid.
        if self._process.returncode is None and hasattr(os, "waitid"):
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it go on."""
        self.is_stopped = False
        self._process.send_signal(signal.SIGCONT)

    def let_go(self) -> None:
        """Close the control pipe: the worker shuts down gracefully."""
        with contextlib.suppress(OSError):
            self._stdin.close()

    def end(self, deadline: float) -> None:
        """Wait for the end, and bring it about if need be."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.05, deadline - time.monotonic()))
                break
            self._process.send_signal(number)
            deadline = time.monotonic() + 1
        self._process.wait()
        os.close(self._reply)

    def _tell(self, plan: Mapping[str, Any]) -> None:
        # A worker that could not even start says so in its log.
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(json.dumps(plan).encode() + b"\n")

    def _read(self, deadline: float) -> dict[str, Any] | None:
        """Return the next answer; None at the deadline or when the worker ended."""
        poller = select.poll()
        poller.register(self._reply, select.POLLIN)
        while b"\n" not in self._unread:
            left_ms = max(0, int((deadline - time.monotonic()) * 1000))
            if not poller.poll(left_ms):
                return None
            part = os.read(self._reply, 65536)
            if not part:
                return None
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _status(self) -> int | None:
        # The pipe ends a moment before the process does.
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(0.5)
        return None

    def _lines(self) -> list[str]:
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()]

    def _cause(self) -> str:
        """Return the line of the log that most likely says why it ended."""
        lines = self._lines()
        for line in reversed(lines):
            if _CAUSE.match(line):
                return line.strip().rstrip(".")
        if lines:
            return lines[-1].strip().rstrip(".")
        return f"it ended without a word ({_ending(self._process.returncode)})"

    def _tail(self) -> str:
        lines = condense(self._lines())[-_TAIL_LINES:]
        if len(lines) < 2:  # the cause has been quoted already
            return ""
        return " Its log ends with:\n" + "\n".join(lines)

    @property
    def _stdin(self) -> Any:  # noqa: ANN401  # a raw pipe
        if self._process.stdin is None:
            message = "A worker has no control pipe."
            raise InternalError(message)
        return self._process.stdin


def condense(lines: Sequence[str]) -> list[str]:
    """Shorten each traceback to the frame of the service that it came from."""
    kept: list[str] = []
    is_inside = False
    frame = ""
    for line in lines:
        if line.endswith("Traceback (most recent call last):"):
            is_inside, frame = True, ""
        elif is_inside and line.startswith("  "):
            if line.startswith('  File "') and not _OURS.match(line):
                frame = line
        else:
            kept += [frame] if is_inside and frame else []
            kept.append(line)
            is_inside = False
    return kept


def _ending(status: int) -> str:
    if status < 0:
        return f"signal {signal.Signals(-status).name}"
    return f"status {status}"
