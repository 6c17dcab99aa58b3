"""What asyncio asks of a loop beside its queues: tasks, errors, generators, no sockets."""

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

from test_framework.explore.endings import MisuseError
from test_framework.explore.handles import Entry
from test_framework.explore.names import NamedTasks, default_name
from test_framework.explore.waits import calling_frame, place, source

# Sockets, signals and processes are not there; a loop without them is not abstract.
_Base: Any = asyncio.AbstractEventLoop


class Face(NamedTasks, _Base):  # type: ignore[misc]  # see _Base
    """The part of ``ExplorationLoop`` that decides nothing.

    Attributes:
        errors: Contexts given to ``call_exception_handler``.
        invariants: What must hold after every step.
        disconnects: How the client of a request goes away, by task of the request.
        services: What serves users and is settled before the state is checked.
        cancelled: Tasks that a fault cancelled.
    """

    _handler: Callable[[Any, dict[str, Any]], object] | None
    _task_factory: Any

    slow_callback_duration = 0.1

    def _reset(self) -> None:
        """Begin a run without anything of the one before."""
        self.forget_tasks()
        # After the tasks: futures that die with them report to the old list.
        self.errors: list[dict[str, Any]] = []
        self.invariants: list[Callable[[], object]] = []
        self.disconnects: dict[asyncio.Task[Any], Callable[[], object]] = {}
        self.services = []
        self.cancelled: set[asyncio.Task[Any]] = set()
        self._generators: weakref.WeakSet[Any] | None = None
        self._default_executor: Any = None

    def set_debug(self, enabled: bool) -> None:  # noqa: FBT001  # the signature of the base
        """Do nothing: debug mode formats every handle."""

    def get_debug(self) -> bool:
        """Return False: debug mode formats every handle."""
        return False

    def is_closed(self) -> bool:
        """Return False."""
        return False

    def _timer_handle_cancelled(self, handle: Entry) -> None:
        """Do nothing: cancelled timers are dropped when they come up."""

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: object = None, **options: Any
    ) -> asyncio.Task[Any]:
        """Start a task; its number is the count of tasks before it."""
        number = len(self.tasks)
        given = default_name(number) if name is None else str(name)
        task: asyncio.Task[Any]
        if self._task_factory is None:
            task = asyncio.Task(coro, loop=self, name=given, **options)
        else:
            task = self._task_factory(self, coro, **options)
            task.set_name(given)
        if task not in self._numbers:
            # An eager task that has not been queued, or was already finished.
            self._register(task)
        return task

    def set_task_factory(self, factory: Any) -> None:
        """Use ``factory(loop, coro, **options)`` for tasks of this run."""
        self._task_factory = factory

    def get_task_factory(self) -> Any:
        """Return the factory, None for plain tasks."""
        return self._task_factory

    def set_exception_handler(
        self,
        handler: Callable[[Any, dict[str, Any]], object] | None,
    ) -> None:
        """Take the handler of the program; errors are collected as well."""
        self._handler = handler

    def get_exception_handler(self) -> Any:
        """Return the handler of the program."""
        return self._handler

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Collect what went wrong outside of any awaiting task."""
        self.errors.append(context)
        if self._handler is not None:
            self._handler(self, context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Do nothing more: the error was collected."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # the signature of the base
        """Do nothing: there are no threads."""

    def set_default_executor(self, executor: Any) -> None:
        """Give it the jobs for which no executor is named."""
        self._default_executor = executor

    async def shutdown_asyncgens(self) -> None:
        """Close the async generators that the program left open."""
        while self._generators:
            await self._generators.pop().aclose()

    def add_signal_handler(self, *_: Any) -> None:
        """Do nothing: no signal is an event of a schedule."""

    def remove_signal_handler(self, *_: Any) -> bool:
        """Do nothing."""
        return False

    def _tell(self, exc: BaseException, entry: Entry | None) -> None:
        callback = entry.callback if entry is not None else None
        self.call_exception_handler(
            {"message": f"Exception in callback {callback!r}", "exception": exc}
        )

    def _first_iteration(self, generator: Any) -> None:
        if self._generators is None:
            self._generators = weakref.WeakSet()
        self._generators.add(generator)

    def _finalise(self, generator: Any) -> None:
        if self._generators is not None:
            self._generators.discard(generator)
        self.call_soon(self.create_task, generator.aclose())


def _refused(name: str) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> Any:
        frame = calling_frame()
        raise MisuseError(
            f"{place(frame)} ({source(frame)}) does real I/O (loop.{name}), and no "
            "scheduler decides when its answer comes. Stand external() in for it; "
            "real I/O is for isolation-audit run."
        )

    return refuse


for _name in (
    "add_reader",
    "add_writer",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "getnameinfo",
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_sendto",
    "sock_sendall",
    "start_tls",
    "subprocess_exec",
    "subprocess_shell",
):
    setattr(Face, _name, _refused(_name))
