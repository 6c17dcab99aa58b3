"""Stands in front of the service under test and notes when its requests ran.

``Probe`` is pure ASGI and outermost in each worker. It looks at three headers that the
audit sends and takes them away before the service could see them:

``x-isolation-op: N``
    The request is operation N. When its handler ended, one record goes to the file
    of the worker: operation, kind, first and last instant on ``CLOCK_MONOTONIC``,
    which is one clock for all processes of a machine, and which function answered.
``x-isolation-user: N``
    The request is one of user N; for detectors alone.
``x-isolation-burst: NAME``
    The request is a member of a burst, and waits at the door until the burst is
    complete (see ``_Meeting``).

What it must not do is change what it measures. A request without these headers is
handed to the service untouched. No task is made for a request and no context
variable is set, so a server that lets context variables live on from one request to
the next on a kept-alive connection is seen doing it. (Only where detectors run, one
variable of ours says for which operation a line runs.) Cancellation and exceptions
go through as they came.
"""

import asyncio
import contextvars
import os
import struct
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, Final

from test_framework.core import HandlerRecord
from test_framework.detect import operation_scope
from test_framework.services.handlers import Handlers

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPERATION_HEADER: Final = b"x-isolation-op"
BURST_HEADER: Final = b"x-isolation-burst"
USER_HEADER: Final = b"x-isolation-user"

QUIET_S: Final = 0.002
LONGEST_WAIT_S: Final = 0.025

_PREFIX: Final = b"x-isolation-"
_RECORD: Final = struct.Struct("<qqqBI")
_KINDS: Final = ("http", "websocket")


class Probe:
    """Wraps the service: notes the requests of the audit and gathers its bursts.

    Args:
        app: The service.
        record: File descriptor to append records to; the caller closes it.
        quiet_s: A burst is complete when nobody else came for this long.
        longest_wait_s: Nobody is held longer than this.
        is_scoped: Whether detectors ask for which operation a line runs.
        handlers: Tells which function answered.
    """

    def __init__(
        self,
        app: App,
        *,
        record: int,
        handlers: Handlers | None = None,
        quiet_s: float = QUIET_S,
        longest_wait_s: float = LONGEST_WAIT_S,
        is_scoped: bool = False,
    ) -> None:
        self._app = app
        self._record = record
        self._quiet_s = quiet_s
        self._longest_wait_s = longest_wait_s
        self._is_scoped = is_scoped
        self._handlers = handlers
        self._meetings: dict[bytes, _Meeting] = {}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Hand a request to the service, by way of the record if the audit sent it."""
        # Not a coroutine itself: requests of others cost one loop over their headers.
        if scope["type"] in _KINDS:
            for name, _ in scope["headers"]:
                if name.startswith(_PREFIX):
                    return self._observe(scope, receive, send)
        return self._app(scope, receive, send)

    async def _observe(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_ns = time.monotonic_ns()
        operation = user = burst = None
        kept = []
        for header in scope["headers"]:
            if header[0] == OPERATION_HEADER:
                operation = header[1]
            elif header[0] == BURST_HEADER:
                burst = header[1]
            elif header[0] == USER_HEADER:
                user = header[1]
            else:
                kept.append(header)
        inner = {**scope, "headers": kept}
        try:
            if burst is not None:
                await self._gathered(burst)
            if self._is_scoped and operation is not None and operation.isdigit():
                known = int(user) if user is not None and user.isdigit() else None
                with operation_scope(int(operation), user=known):
                    await self._app(inner, receive, send)
            else:
                await self._app(inner, receive, send)
        finally:
            if operation is not None and operation.isdigit():
                self._note(int(operation), inner, started_ns)

    def _note(self, operation: int, scope: Scope, started_ns: int) -> None:
        # Straight to the file: a worker that is killed loses nothing that ended.
        ended_ns = time.monotonic_ns()
        kind = _KINDS.index(scope["type"])
        handler = self._handlers.number(scope) if self._handlers is not None else 0
        os.write(
            self._record, _RECORD.pack(operation, started_ns, ended_ns, kind, handler)
        )

    def _gathered(self, burst: bytes) -> Awaitable[None]:
        meeting = self._meetings.get(burst)
        if meeting is None or meeting.is_over:
            meeting = self._meetings[burst] = _Meeting(
                lambda: self._meetings.pop(burst, None),
                quiet_s=self._quiet_s,
                longest_wait_s=self._longest_wait_s,
            )
        return meeting.join()


class _Meeting:
    """The members of one burst that came to this process, held until all are there.

    The server reads connections one after the other, and a service's first step is
    often synchronous (parse, check a signature, compute a hash). The first member
    would be far into its handler before the last one was even read, and a race that
    needs two users at the same line would be missed because of the order in which
    one thread reads sockets. So each is held at the door and all are let go in the
    order they came, in one turn of the loop. ``started_ns`` is the arrival: holding
    them adds to the overlap that is there and claims none that is not.
    """

    def __init__(
        self,
        on_over: Callable[[], object],
        *,
        quiet_s: float,
        longest_wait_s: float,
    ) -> None:
        self.is_over = False
        self._quiet_s = quiet_s
        self._loop = asyncio.get_running_loop()
        self._on_over = on_over
        self._waiting: list[asyncio.Future[None]] = []
        self._latest = self._loop.time()
        self._deadline = self._latest + longest_wait_s
        # Timers would otherwise keep, and run in, the context of the first request.
        self._context = contextvars.Context()
        self._wait(quiet_s)

    def join(self) -> asyncio.Future[None]:
        """Return what the next member waits for."""
        self._latest = self._loop.time()
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(future)
        return future

    def _wait(self, seconds: float) -> None:
        self._loop.call_later(seconds, self._look, context=self._context)

    def _look(self) -> None:
        # A busy loop runs a timer late, with members read in this very turn whose
        # tasks start in the next one: ask again after those.
        self._loop.call_soon(
            self._decide, len(self._waiting), self._loop.time(), context=self._context
        )

    def _decide(self, count: int, looked: float) -> None:
        quiet_until = self._latest + self._quiet_s
        is_growing = len(self._waiting) > count or quiet_until > looked
        now = self._loop.time()
        if is_growing and now < self._deadline:
            self._wait(max(0.0, min(quiet_until, self._deadline) - now))
            return
        self.is_over = True
        self._on_over()
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


def read_records(path: Path, *, worker: int) -> list[HandlerRecord]:
    """Return what a worker recorded so far, in the order its handlers ended."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    # The last record may be half written.
    whole = len(content) - len(content) % _RECORD.size
    return [
        HandlerRecord(operation, _KINDS[kind], started_ns, ended_ns, worker, handler)
        for operation, started_ns, ended_ns, kind, handler in _RECORD.iter_unpack(
            content[:whole]
        )
    ]
