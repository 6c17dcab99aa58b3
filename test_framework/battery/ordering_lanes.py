"""Lanes: where the workers of a litmus test run, as tasks, threads or processes.

A lane makes the calls that it is given on its own view of the registers, and answers.
Between two calls of different lanes that are made one after the other stands a wake-up
of the operating system, so what the first wrote has left every buffer.
"""

import asyncio
import contextlib
import multiprocessing
import os
import queue
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from test_framework.battery.config import WorkerKind
from test_framework.battery.ordering_parts import Answer, Part, play
from test_framework.battery.worker import connected
from test_framework.core import TargetError, UsageError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_START_S = 60.0
_END_S = 1.0


class Lane(Protocol):
    """One worker."""

    async def play(self, part: Part) -> list[Answer] | None:
        """Make the calls of a part; None if they were refused.

        Raises:
            Exception: What a call raised.
        """
        ...


@dataclass(slots=True)
class _TaskLane:
    registers: Any

    async def play(self, part: Part) -> list[Answer] | None:
        return await play(self.registers, part)


class _ThreadLane:
    """A daemon: one that a call never returns from is left behind."""

    def __init__(self, registers: object, cpu: int | None) -> None:
        self._registers, self._cpu = registers, cpu
        self._parts: queue.SimpleQueue[
            tuple[Part, asyncio.Future[Any], asyncio.AbstractEventLoop] | None
        ] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    async def play(self, part: Part) -> list[Answer] | None:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[list[Answer] | None] = loop.create_future()
        self._parts.put((part, answered, loop))
        return await answered

    def end(self) -> None:
        """Let the thread end after its last part."""
        self._parts.put(None)

    def _main(self) -> None:
        _bind(self._cpu)
        with asyncio.Runner() as runner:
            while (job := self._parts.get()) is not None:
                part, answered, loop = job
                try:
                    result = runner.run(play(self._registers, part))
                except Exception as error:  # noqa: BLE001  # it is raised in the driver
                    _tell(loop, answered, error=error)
                else:
                    _tell(loop, answered, result)


def _tell(
    loop: asyncio.AbstractEventLoop,
    answered: "asyncio.Future[Any]",
    result: object = None,
    *,
    error: Exception | None = None,
) -> None:
    def tell() -> None:
        if answered.done():
            return
        if error is None:
            answered.set_result(result)
        else:
            answered.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the driver has given up, and its loop
        loop.call_soon_threadsafe(tell)


class _ProcessLane:
    def __init__(self, registers: object, cpu: int | None) -> None:
        methods = multiprocessing.get_all_start_methods()
        # Forking this process would copy its locks as its threads left them.
        method = "forkserver" if "forkserver" in methods else "spawn"
        context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            # Imported once, when the first process is started, and not by each of them.
            modules = {__name__, type(registers).__module__}
            context.set_forkserver_preload(["__main__", *sorted(modules)])
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_process_main, args=(registers, cpu, theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        self._answered: asyncio.Future[list[Answer] | None] | None = None
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._receive)

    async def play(self, part: Part) -> list[Answer] | None:
        self._answered = asyncio.get_running_loop().create_future()
        self._pipe.send(part)
        return await self._answered

    def _receive(self) -> None:
        answered = self._answered
        try:
            answer: list[Answer] | Exception | None = self._pipe.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self._process.join(_END_S)  # it is ending already
            code = self._process.exitcode
            answer = TargetError(
                f"the process of a lane ended with exit code {code}. See what its "
                "registers do to it."
            )
        if answered is None or answered.done():
            return
        if isinstance(answer, Exception):
            answered.set_exception(answer)
        else:
            answered.set_result(answer)

    def end(self) -> None:
        """End the process."""
        asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()


def _process_main(
    registers: object, cpu: int | None, pipe: "Connection[Any, Any]"
) -> None:
    _bind(cpu)
    with asyncio.Runner() as runner, contextlib.suppress(EOFError):
        while (part := pipe.recv()) is not None:
            try:
                pipe.send(runner.run(play(registers, part)))
            except Exception as error:  # noqa: BLE001  # it is raised in the driver
                pipe.send(error)


def _bind(cpu: int | None) -> None:
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})  # on Linux 0 is the calling thread


@contextlib.asynccontextmanager
async def lanes(
    registers: object,
    kind: WorkerKind,
    count: int,
    *,
    cpus: Sequence[int] = (),
    needs: Sequence[str] = (),
) -> AsyncIterator[list[Lane]]:
    """Start lanes on registers, and end them.

    Args:
        registers: What they share; connected to by each task, if it has ``connect``.
        kind: What a lane is.
        count: How many (>= 1).
        cpus: The CPUs that threads or processes are bound to, in turns.
        needs: Methods that a worker's view of the registers must have.

    Raises:
        UsageError: One of them is missing.
    """
    async with contextlib.AsyncExitStack() as stack:
        if kind == "task":
            views = [
                await stack.enter_async_context(connected(registers))
                for _ in range(count)
            ]
            _demand(views[0], needs)
            yield [_TaskLane(view) for view in views]
            return
        _demand(registers, needs)
        started: list[Lane] = []
        for index in range(count):
            cpu = cpus[index % len(cpus)] if cpus else None
            make = _ThreadLane if kind == "thread" else _ProcessLane
            lane = make(registers, cpu)
            stack.callback(lane.end)
            started.append(lane)
        # Processes start slowly; what is measured later is not to wait for that.
        async with asyncio.timeout(_START_S):
            await asyncio.gather(*(lane.play(Part(())) for lane in started))
        yield started


def _demand(registers: object, needs: Sequence[str]) -> None:
    for method in needs:
        if not callable(getattr(registers, method, None)):
            raise UsageError(
                f"{type(registers).__name__} has no method {method}, and is to have "
                f"{', '.join(needs)}; see Registers in test_framework.battery.registers. "
                "Add it, or pass a model that does without."
            )
