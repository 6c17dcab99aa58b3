"""Runs the service under test as real uvicorn worker processes.

The parent binds one socket per worker on the same port (``SO_REUSEPORT``: the kernel
spreads the connections) and hands each worker its own. A pipe from parent to worker
keeps it: when the parent closes it, or dies in any way, the worker ends. What the
service prints is kept as the log of its worker.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from test_framework.core import HandlerRecord, InternalError, TargetError, UsageError
from test_framework.services.probe import read_records
from test_framework.services.worker import STOP_LIMIT_S

CENSUS_LIMIT_S = 5.0

_HOST = "127.0.0.1"
_SECRET_BYTES = 36
"""They make 48 characters."""
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
class HostPlan:
    """How to run the service under test.

    Attributes:
        target: ``module:attribute``, an ASGI application or what makes one.
        workers: Processes (count, >= 1).
        app_dir: Folder that the module is imported from, and current folder.
        env: Variables of the service on top of ours.
        secrets: Names of variables that get a fresh random value of 48 characters,
            the same in all workers; a value given in ``env`` stays.
        uvicorn: More options of ``uvicorn.Config``.
        port: TCP port; 0 takes a free one.
        start_limit_s: Seconds until every worker must accept connections.
    """

    target: str
    workers: int = 2
    app_dir: Path = field(default_factory=Path.cwd)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    uvicorn: Mapping[str, object] = field(default_factory=dict)
    port: int = 0
    start_limit_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Census:
    """What one worker process holds at an instant.

    Attributes:
        worker: Number of the worker.
        tasks: Tasks that are not done, counted by the name of their coroutine.
        open_files: File descriptors.
        rss_bytes: Memory in use.
        threads: Threads.
    """

    worker: int
    tasks: Mapping[str, int]
    open_files: int
    rss_bytes: int
    threads: int


class Host:
    """The running service; made by ``hosting``.

    Attributes:
        url: Where it listens.
        log_paths: What each worker printed.
    """

    def __init__(self, url: str, workers: Sequence["_Worker"]) -> None:
        self.url = url
        self.log_paths = tuple(worker.log for worker in workers)
        self._workers = workers

    @property
    def pids(self) -> tuple[int, ...]:
        """Process of each worker."""
        return tuple(worker.pid for worker in self._workers)

    def handlers(self) -> list[HandlerRecord]:
        """Return when each handler of the audit's requests ran, worker by worker."""
        return [
            record
            for worker in self._workers
            for record in read_records(worker.record, worker=worker.index)
        ]

    def census(self) -> list[Census]:
        """Return what each worker holds now.

        Raises:
            TargetError: A worker ended, or does not answer because its loop is
                blocked.
        """
        for worker in self._workers:
            worker.ask_census()
        deadline = time.monotonic() + CENSUS_LIMIT_S
        return [worker.read_census(deadline) for worker in self._workers]

    def require_alive(self) -> None:
        """Do nothing while all workers run.

        Raises:
            TargetError: One ended; the message has the end of its log.
        """
        for worker in self._workers:
            worker.require_alive()


@contextlib.contextmanager
def hosting(plan: HostPlan, *, work_dir: Path) -> Iterator[Host]:
    """Yield the service once every worker accepts connections; end it afterwards.

    Args:
        plan: What to run.
        work_dir: Folder for logs and records; the caller removes it.

    Raises:
        TargetError: The service does not start, or the port is taken.
        UsageError: The plan is wrong.
    """
    _require_sound(plan)
    environment = os.environ | dict(plan.env)
    for name in plan.secrets:
        if name not in plan.env:
            environment[name] = secrets.token_urlsafe(_SECRET_BYTES)
    workers: list[_Worker] = []
    try:
        with contextlib.ExitStack() as ours:
            port, listeners = _bind(plan, ours)
            for index, listener in enumerate(listeners):
                workers.append(
                    _Worker(plan, index, listener, work_dir, environment=environment)
                )
        # Our copies of the sockets are closed now: a worker that dies refuses
        # connections instead of leaving them in a queue that nobody reads.
        deadline = time.monotonic() + plan.start_limit_s
        for worker in workers:
            worker.await_ready(deadline)
        yield Host(f"http://{_HOST}:{port}", workers)
    finally:
        _end(workers)


def _require_sound(plan: HostPlan) -> None:
    if plan.workers < 1:
        message = f"workers={plan.workers}: at least 1 is needed. Pass --workers 2."
        raise UsageError(message)
    if not re.fullmatch(r"[\w.]+:[\w.]+", plan.target):
        message = (
            f"{plan.target!r} is neither a URL nor module:app. Write the module, a "
            "colon and the name of the application, such as 'app.main:create_app'."
        )
        raise UsageError(message)
    if not 0 <= plan.port <= 65535:
        message = f"port={plan.port} is no TCP port. Pass 0 for a free one."
        raise UsageError(message)
    if not plan.app_dir.is_dir():
        message = (
            f"The folder {str(plan.app_dir)!r} to import {plan.target!r} from does "
            "not exist. Correct it."
        )
        raise UsageError(message)
    try:
        json.dumps(dict(plan.uvicorn))
    except TypeError as exc:
        message = (
            f"uvicorn={dict(plan.uvicorn)!r} cannot be handed to another process: "
            f"{exc}. Use text, numbers, lists and tables."
        )
        raise UsageError(message) from exc


def _bind(
    plan: HostPlan, ours: contextlib.ExitStack
) -> tuple[int, list[socket.socket]]:
    port = plan.port
    try:
        if port:
            _require_free(port)
        listeners = []
        for _ in range(plan.workers):
            listener = ours.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((_HOST, port))
            port = listener.getsockname()[1]
            listeners.append(listener)
    except OSError as exc:
        reason = (
            "somebody else listens there"
            if exc.errno == errno.EADDRINUSE
            else exc.strerror
        )
        message = (
            f"The service cannot listen on {_HOST}:{port}: {reason}. Pass another "
            "--port, or none to take a free one."
        )
        raise TargetError(message) from exc
    return port, listeners


def _require_free(port: int) -> None:
    # SO_REUSEPORT would let us share the port of another audit of the same user.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((_HOST, port))


class _Worker:
    """One worker process, seen from the parent."""

    def __init__(
        self,
        plan: HostPlan,
        index: int,
        listener: socket.socket,
        work_dir: Path,
        *,
        environment: Mapping[str, str],
    ) -> None:
        work_dir.mkdir(parents=True, exist_ok=True)
        self.index = index
        self.log = work_dir / f"worker-{index}.log"
        self.record = work_dir / f"worker-{index}.handlers"
        self._target = plan.target
        self._start_limit_s = plan.start_limit_s
        self._unread = b""
        self._reply, reply = os.pipe()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  # this interpreter, our own module
                [
                    *(sys.executable, "-u", "-P", "-c"),
                    _BOOT.format(root=str(_PACKAGE_ROOT)),
                ],
                stdin=subprocess.PIPE,
                stdout=log,
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
                "uvicorn": dict(plan.uvicorn),
            }
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def await_ready(self, deadline: float) -> None:
        """Return once it accepts connections."""
        if self._read(deadline) is not None:
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

    def ask_census(self) -> None:
        """Ask for a census; ``read_census`` returns it."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(b"census\n")

    def read_census(self, deadline: float) -> Census:
        """Return the census that was asked for."""
        answer = self._read(deadline)
        if answer is None:
            if self._status() is not None:
                self.require_alive()
            message = (
                f"Worker {self.index} of {self._target!r} did not answer for "
                f"{CENSUS_LIMIT_S:.0f} s: its event loop is blocked. Look for a "
                f"blocking call in it.{self._tail()}"
            )
            raise TargetError(message)
        return Census(self.index, **answer)

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


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.let_go()
    deadline = time.monotonic() + STOP_LIMIT_S + 1
    for worker in workers:
        worker.end(deadline)
