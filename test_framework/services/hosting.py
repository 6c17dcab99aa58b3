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
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from test_framework.core import HandlerRecord, TargetError, UsageError
from test_framework.services.handlers import Handler, read_handlers
from test_framework.services.plan import HostPlan
from test_framework.services.probe import read_records
from test_framework.services.process import (
    ALARMS_LIMIT_S,
    CENSUS_LIMIT_S,
    STOP_LIMIT_S,
    AlarmReport,
    Census,
    WorkerProcess,
)

_HOST = "127.0.0.1"
_SECRET_BYTES = 36
"""They make 48 characters."""


class Host:
    """The running service; made by ``hosting``.

    Attributes:
        url: Where it listens.
        log_paths: What each worker printed.
        is_watched: Whether detectors run in the workers.
    """

    def __init__(
        self, url: str, workers: Sequence["WorkerProcess"], *, is_watched: bool = False
    ) -> None:
        self.url = url
        self.is_watched = is_watched
        self.log_paths = tuple(worker.log for worker in workers)
        self._workers = workers
        self._identified = 0

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

    def routes(self) -> dict[tuple[int, int], Handler]:
        """Return what answers requests, by worker and by the number of a handler."""
        return {
            (worker.index, number): handler
            for worker in self._workers
            for number, handler in enumerate(read_handlers(worker.routes), 1)
        }

    def census(self, *, limit_s: float = CENSUS_LIMIT_S) -> list[Census]:
        """Return what each worker holds now.

        Args:
            limit_s: Seconds that the workers have to answer.

        Raises:
            TargetError: A worker ended, or does not answer because its loop is
                blocked.
        """
        for worker in self._workers:
            worker.ask("census")
        deadline = time.monotonic() + limit_s
        return [worker.read_census(deadline) for worker in self._workers]

    def identify(self, identities: Mapping[int, Collection[str]]) -> None:
        """Tell the detectors of all workers how the service calls the users.

        Args:
            identities: What names each user or what it made, by the number of the
                user; those of an earlier call are forgotten.
        """
        if not self.is_watched:
            return
        text = json.dumps({user: sorted(names) for user, names in identities.items()})
        for worker in self._workers:
            path = worker.record.with_suffix(f".identities-{self._identified}")
            path.write_text(text, encoding="utf-8")
            worker.identify(path.absolute())
        self._identified += 1

    def alarms(self, *, limit_s: float = ALARMS_LIMIT_S) -> AlarmReport:
        """Return what the detectors of all workers say so far.

        Args:
            limit_s: Seconds that the workers have to answer.

        Raises:
            TargetError: A worker ended, or does not answer because its loop is
                blocked.
        """
        for worker in self._workers:
            worker.ask("alarms")
        deadline = time.monotonic() + limit_s
        reports = [worker.read_alarms(deadline) for worker in self._workers]
        return AlarmReport(
            [alarm for report in reports for alarm in report.alarms],
            [watch for report in reports for watch in report.watches],
        )

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
    workers: list[WorkerProcess] = []
    try:
        with contextlib.ExitStack() as ours:
            port, listeners = _bind(plan, ours)
            for index, listener in enumerate(listeners):
                workers.append(
                    WorkerProcess(
                        plan, index, listener, work_dir, environment=environment
                    )
                )
        # Our copies of the sockets are closed now: a worker that dies refuses
        # connections instead of leaving them in a queue that nobody reads.
        deadline = time.monotonic() + plan.start_limit_s
        for worker in workers:
            worker.await_ready(deadline)
        yield Host(f"http://{_HOST}:{port}", workers, is_watched=bool(plan.detectors))
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


def _end(workers: Sequence[WorkerProcess]) -> None:
    for worker in workers:
        worker.let_go()
    deadline = time.monotonic() + STOP_LIMIT_S + 1
    for worker in workers:
        worker.end(deadline)
