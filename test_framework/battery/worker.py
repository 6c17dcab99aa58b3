"""What a worker is given, and the turns that it takes, whatever kind it is of."""

import asyncio
import contextlib
import inspect
import random
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar, TypeVarTuple

from test_framework.battery.config import RaceTestConfig
from test_framework.battery.journal import Journal, RefusedError, StoppedError
from test_framework.battery.preemption import Preemption
from test_framework.core import TargetError, UsageError, stream

Shared = TypeVar("Shared")
Connected_co = TypeVar("Connected_co", covariant=True)
Arguments = TypeVarTuple("Arguments")

SETUP = -1
"""The iteration of what goes wrong before the first one."""

CANCELLED: Final = object()
"""What ``Worker.cancelled`` returns for a coroutine that was cancelled."""

_BROKEN = (asyncio.BrokenBarrierError, threading.BrokenBarrierError)
"""Raised to those who wait for a worker that has given up, or for a run that is over."""

MAX_STEPS_BEFORE_CANCEL = 6
MAX_DELAY_BEFORE_CANCEL_S = 0.002


class Connectable(Protocol[Connected_co]):
    """What workers share through a connection of each of them."""

    def connect(self) -> contextlib.AbstractAsyncContextManager[Connected_co]:
        """Return a worker's own connection, which it enters and leaves."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerError:
    """What a worker met and did not expect.

    Attributes:
        worker: Number of the worker.
        iteration: Its turn, from 0; ``SETUP`` before the first one.
        type: Name of the exception's class.
        message: Its text.
        trace: Its traceback, as lines.
        is_of_target: Whether it says that a service is down: that proves nothing.
    """

    worker: int
    iteration: int
    type: str
    message: str
    trace: str
    is_of_target: bool

    def __str__(self) -> str:
        when = "setting up" if self.iteration == SETUP else f"turn {self.iteration}"
        return f"worker {self.worker}, {when}: {self.type}: {self.message}"


@dataclass(slots=True)
class Worker(Generic[Shared]):
    """One of the concurrent workers.

    Attributes:
        index: Its number, from 0.
        config: The run's configuration.
        shared: What all workers share, or this one's connection to it.
        rng: Its choices, from the seed and its number.
        journal: What it did.
        errors: What it met.
        iteration: Its current turn, from 0.
        barrier: Where it waits for the others; set by who runs it.
    """

    index: int
    config: RaceTestConfig
    shared: Shared
    rng: random.Random = field(init=False)
    journal: Journal = field(init=False)
    errors: list[WorkerError] = field(default_factory=list)
    iteration: int = SETUP
    barrier: Callable[[], Awaitable[object] | object] | None = None

    def __post_init__(self) -> None:
        self.rng = stream(self.config.seed, "worker", self.index)
        self.journal = Journal(self.index)
        config = self.config
        if config.kind != "task" and config.preemptions:
            rng = stream(config.seed, "preemption", self.index)
            self.journal.begin = Preemption(rng, config.preemptions).call

    async def pause(self) -> None:
        """Let others go on, by the chance that is configured; a checkpoint then."""
        if self.rng.random() < self.config.pauses:
            await asyncio.sleep(0)

    async def meet(self) -> None:
        """Wait until all workers are here; each must come as often as the others.

        A worker that waits for what nobody will do is not helped by later turns of the
        others then, so it shows as a hang.
        """
        ready = self.barrier() if self.barrier is not None else None
        if isinstance(ready, Awaitable):
            await ready

    async def call_cancelled(
        self,
        kind: str,
        operation: Callable[[*Arguments], Any],
        *arguments: *Arguments,
        key: object = None,
    ) -> Any:  # noqa: ANN401  # as ``journal.call``
        """Do an operation as ``journal.call`` does, and cancel it underway.

        Returns:
            What it answered; None if the cancellation came first. Where None is an
            answer as well, ``cancelled`` tells the two apart.

        Raises:
            Exception: What it raised.
        """
        answer = await self.cancelled(
            self.journal.call(kind, operation, *arguments, key=key)
        )
        return None if answer is CANCELLED else answer

    async def cancelled(self, coroutine: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401  # whatever it returns
        """Run a coroutine in a task, and cancel that underway.

        It is cancelled after some turns of the loop, or after up to 2 ms, so it may be
        done before.

        Returns:
            What it returned; ``CANCELLED`` if the cancellation came first.

        Raises:
            Exception: What it raised.
        """
        doing = asyncio.ensure_future(coroutine)
        try:
            if self.rng.random() < 0.5:
                for _ in range(self.rng.randint(1, MAX_STEPS_BEFORE_CANCEL)):
                    await asyncio.sleep(0)
            else:
                delay_s = self.rng.random() * MAX_DELAY_BEFORE_CANCEL_S
                await asyncio.wait({doing}, timeout=delay_s)
        finally:
            doing.cancel()
            await asyncio.wait({doing})
        return CANCELLED if doing.cancelled() else doing.result()

    @property
    def progress(self) -> int:
        """Counts up with each operation; 0 before the first turn."""
        return 0 if self.iteration == SETUP else 1 + len(self.journal)

    def note(self, error: BaseException) -> None:
        """Keep an error."""
        self.errors.append(
            WorkerError(
                worker=self.index,
                iteration=self.iteration,
                type=type(error).__name__,
                message=str(error),
                trace="".join(traceback.format_exception(error)),
                is_of_target=_is_of_target(error),
            )
        )


def _is_of_target(error: BaseException) -> bool:
    """Whether a service is down. Clients of Redis and Postgres have names of their own."""
    if isinstance(error, (TargetError, OSError)):
        return True
    names = {one.__name__ for one in type(error).__mro__}
    return not names.isdisjoint({"ConnectionError", "PostgresConnectionError"})


Work = Callable[[Worker[Shared]], Awaitable[None] | None]
"""One turn of a worker."""


async def take_turns(worker: Worker[Any], work: Work[Any]) -> None:
    """Connect, wait for all others, then take every turn, whatever each one raises.

    Args:
        worker: Who takes them.
        work: A turn.

    Raises:
        asyncio.CancelledError: The run was cut off.
    """
    async with connected(worker.shared) as own:
        worker.shared = own
        await worker.meet()
        for iteration in range(worker.config.iterations):
            worker.iteration = iteration
            try:
                outcome = work(worker)
                if outcome is not None:
                    await outcome
            except RefusedError:
                continue
            except (StoppedError, *_BROKEN):
                return
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except asyncio.CancelledError as error:
                if is_cancelled():
                    raise
                worker.note(error)
            except BaseException as error:  # noqa: BLE001  # none is lost, pytest's neither
                worker.note(error)


def is_cancelled() -> bool:
    """Whether somebody asked for the end of this task: else it is an error of others."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@contextlib.asynccontextmanager
async def connected(shared: Any) -> AsyncIterator[Any]:  # noqa: ANN401  # anything
    """Yield a worker's own connection to what is shared, if it has such."""
    connect = getattr(shared, "connect", None)
    if connect is None:
        yield shared
        return
    connection = connect()
    if not hasattr(connection, "__aenter__"):
        if inspect.iscoroutine(connection):
            connection.close()
        message = (
            f"connect() of {type(shared).__name__} returned a "
            f"{type(connection).__name__}. It must return an asynchronous context "
            "manager: write it with contextlib.asynccontextmanager and yield."
        )
        raise UsageError(message)
    async with connection as own:
        yield own


async def live(
    worker: Worker[Any],
    work: Work[Any],
    give_up: Callable[[], Coroutine[Any, Any, None] | None],
) -> None:
    """Take all turns; what goes wrong around them is kept, and frees the others.

    Args:
        worker: Who takes them.
        work: A turn.
        give_up: Breaks the barrier, so that nobody waits for this worker.

    Raises:
        asyncio.CancelledError: The run was cut off.
    """
    try:
        await take_turns(worker, work)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        worker.note(error)
    except BaseException as error:  # noqa: BLE001  # none is lost
        if not isinstance(error, _BROKEN):
            worker.note(error)
            freed = give_up()
            if freed is not None:
                await freed
