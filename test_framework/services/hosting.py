"""Runs the service under test as real uvicorn worker processes.

The parent binds one socket per worker on the same port (see ``port``) and hands each
worker its own. A pipe from parent to worker keeps it: when the parent closes it, or
dies in any way, the worker ends. What the service prints is kept as the log of its
worker.

A worker can be killed or stopped on purpose, and another one started in its place. The
sockets of workers are their own: those who wait in the queue of a killed one are reset
by the kernel, as before any server whose workers listen for themselves (``reuseport``),
and whoever comes next is taken to a living worker. Were the parent to hold the socket,
half of all users would wait in a queue that nobody reads until the next worker is up.
"""

import contextlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from test_framework.core import HandlerRecord, TargetError, UsageError
from test_framework.services.handlers import Handler, read_handlers
from test_framework.services.plan import MOST_WORKERS, HostPlan
from test_framework.services.port import HOST, Port, hold_port
from test_framework.services.probe import read_records
from test_framework.services.process import (
    ALARMS_LIMIT_S,
    CENSUS_LIMIT_S,
    STOP_LIMIT_S,
    AlarmReport,
    Census,
    WorkerProcess,
)

_SECRET_BYTES = 36
"""They make 48 characters."""
_CLOCK_LIMIT_S = 10.0

_Answer = TypeVar("_Answer")


class Host:
    """The running service; made by ``hosting``.

    Attributes:
        url: Where it listens.
        log_paths: What each worker printed.
        is_watched: Whether detectors run in the workers.
    """

    def __init__(self, launch: "_Launch") -> None:
        self.url = f"http://{HOST}:{launch.port.number}"
        self.is_watched = bool(launch.plan.detectors)
        self.log_paths = tuple(
            launch.log_path(place) for place in range(launch.plan.workers)
        )
        self._launch = launch
        # By place; those that were replaced still have their records.
        self._workers: list[WorkerProcess] = []
        self._replaced: list[WorkerProcess] = []
        self._identities: Path | None = None
        self._identified = 0
        self._clock_s = 0.0
        # One asks at a time, because answers carry no name; and one replaces.
        self._asking = threading.Lock()
        self._replacing = threading.Lock()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process of each worker, by place."""
        return tuple(worker.pid for worker in self._workers)

    def handlers(self) -> list[HandlerRecord]:
        """Return when each handler of the audit's requests ran, worker by worker."""
        return [
            record
            for worker in (*self._replaced, *self._workers)
            for record in read_records(worker.record, worker=worker.index)
        ]

    def routes(self) -> dict[tuple[int, int], Handler]:
        """Return what answers requests, by worker and by the number of a handler."""
        return {
            (worker.index, number): handler
            for worker in (*self._replaced, *self._workers)
            for number, handler in enumerate(read_handlers(worker.routes), 1)
        }

    def census(self, *, limit_s: float = CENSUS_LIMIT_S) -> list[Census]:
        """Return what each worker holds now; one that was killed holds nothing.

        Args:
            limit_s: Seconds that the workers have to answer.

        Raises:
            TargetError: A worker ended, or does not answer because its loop is
                blocked.
        """
        return self._ask(
            lambda worker: worker.ask("census"), WorkerProcess.read_census, limit_s
        )

    def identify(self, identities: Mapping[int, Collection[str]]) -> None:
        """Tell the detectors of all workers how the service calls the users.

        Args:
            identities: What names each user or what it made, by the number of the
                user; those of an earlier call are forgotten.
        """
        if not self.is_watched:
            return
        text = json.dumps({user: sorted(names) for user, names in identities.items()})
        path = self._launch.work_dir / f"identities-{self._identified}"
        path.write_text(text, encoding="utf-8")
        self._identities = path.absolute()
        self._identified += 1
        for worker in self._workers:
            worker.identify(self._identities)

    def alarms(self, *, limit_s: float = ALARMS_LIMIT_S) -> AlarmReport:
        """Return what the detectors of all workers say so far.

        What those of a killed worker saw died with it.

        Args:
            limit_s: Seconds that the workers have to answer.

        Raises:
            TargetError: A worker ended, or does not answer because its loop is
                blocked.
        """
        reports = self._ask(
            lambda worker: worker.ask("alarms"), WorkerProcess.read_alarms, limit_s
        )
        return AlarmReport(
            [alarm for report in reports for alarm in report.alarms],
            [watch for report in reports for watch in report.watches],
        )

    def require_alive(self) -> None:
        """Do nothing while all workers run; one that ``kill`` ended is excused.

        Raises:
            TargetError: One ended by itself; the message has the end of its log.
        """
        for worker in self._workers:
            if not worker.is_killed:
                worker.require_alive()

    def kill(self, place: int) -> None:
        """End a worker with SIGKILL; ``replace`` starts another one.

        Args:
            place: Which one, as in ``pids``.

        Raises:
            TargetError: It does not end.
        """
        self._workers[place].kill()

    def replace(self) -> None:
        """Start a worker in place of each that was killed; return once all serve.

        Blocks for as long as the service takes to start. The new process is told what
        the old one was: users, and how far the clock is off.

        Raises:
            TargetError: The service does not start.
        """
        with self._replacing:
            deadline = time.monotonic() + self._launch.plan.start_limit_s
            for place, worker in enumerate(self._workers):
                if worker.is_killed:
                    self._take_place(place, deadline)

    def stop(self, place: int) -> None:
        """Stop a worker with SIGSTOP: it keeps all it holds, and does nothing.

        Args:
            place: Which one, as in ``pids``.
        """
        self._workers[place].stop()

    def resume(self) -> None:
        """Let workers that were stopped go on."""
        for worker in self._workers:
            worker.resume()

    def set_clock(self, offset_s: float, *, limit_s: float = _CLOCK_LIMIT_S) -> None:
        """Set the wall clock of the workers, and of those to come, forth by so much.

        A worker that is stopped sets it when it goes on, and is not waited for.

        Args:
            offset_s: Seconds that it is ahead of the true time; negative sets it back,
                0 sets it right.
            limit_s: Seconds that the workers have to do so.

        Raises:
            TargetError: A worker ended, or does not answer.
        """
        self._clock_s = offset_s
        self._ask(
            lambda worker: worker.set_clock(offset_s),
            lambda worker, deadline: worker.read_clock(offset_s, deadline),
            limit_s,
        )

    def start(self) -> None:
        """Start the workers; return once all serve; for ``hosting``.

        Raises:
            TargetError: The service does not start.
        """
        for place, log in enumerate(self.log_paths):
            log.unlink(missing_ok=True)
            self._workers.append(self._launch.start(place))
        deadline = time.monotonic() + self._launch.plan.start_limit_s
        for worker in self._workers:
            worker.await_ready(deadline)

    def end(self) -> None:
        """End all workers; for ``hosting``."""
        # One that is stopped would not hear that it may go.
        self.resume()
        _end([*self._replaced, *self._workers])

    def _take_place(self, place: int, deadline: float) -> None:
        worker = self._launch.start(place)
        try:
            worker.await_ready(deadline)
            if self._identities is not None:
                worker.identify(self._identities)
            if self._clock_s:
                worker.set_clock(self._clock_s)
                worker.read_clock(self._clock_s, deadline)
        except BaseException:
            _end([worker])
            raise
        self._replaced.append(self._workers[place])
        self._workers[place] = worker

    def _ask(
        self,
        ask: Callable[[WorkerProcess], None],
        read: Callable[[WorkerProcess, float], _Answer],
        limit_s: float,
    ) -> list[_Answer]:
        """Ask all workers at once, then read their answers one by one."""
        with self._asking:
            workers = [worker for worker in self._workers if not worker.is_killed]
            for worker in workers:
                ask(worker)
            deadline = time.monotonic() + limit_s
            answers = []
            for worker in workers:
                try:
                    answers.append(read(worker, deadline))
                except TargetError:
                    # It may have been killed meanwhile.
                    if not worker.is_killed:
                        raise
            return answers


class _Launch:
    """Starts the workers of one plan, all on one port.

    Attributes:
        plan: What to run.
        work_dir: Folder for logs and records.
        port: Where they listen.
    """

    def __init__(self, plan: HostPlan, work_dir: Path, port: Port) -> None:
        self.plan = plan
        self.work_dir = work_dir
        self.port = port
        self._started = 0
        self._environment = os.environ | dict(plan.env)
        for name in plan.secrets:
            if name not in plan.env:
                self._environment[name] = secrets.token_urlsafe(_SECRET_BYTES)

    def start(self, place: int) -> WorkerProcess:
        """Start a worker; wait for it with ``await_ready``."""
        index = self._started
        self._started += 1
        # Our copy of the socket is closed at once: a worker that dies refuses
        # connections instead of leaving them in a queue that nobody reads.
        with self.port.bind() as listener:
            return WorkerProcess(
                self.plan,
                index,
                listener,
                self.work_dir,
                environment=self._environment,
                log=self.log_path(place),
            )

    def log_path(self, place: int) -> Path:
        """Return what the workers in a place print to, one after the other."""
        return self.work_dir / f"worker-{place}.log"


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
    with hold_port(plan.port) as port:
        host = Host(_Launch(plan, work_dir, port))
        try:
            host.start()
            yield host
        finally:
            host.end()


def _require_sound(plan: HostPlan) -> None:
    if plan.workers < 1:
        message = f"workers={plan.workers}: at least 1 is needed. Pass --workers 2."
        raise UsageError(message)
    if plan.workers > MOST_WORKERS:
        message = (
            f"workers={plan.workers}: at most {MOST_WORKERS} processes can be started. "
            "Pass fewer; two find what is not shared between processes."
        )
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


def _end(workers: Sequence[WorkerProcess]) -> None:
    for worker in workers:
        worker.let_go()
    deadline = time.monotonic() + STOP_LIMIT_S + 1
    for worker in workers:
        worker.end(deadline)
