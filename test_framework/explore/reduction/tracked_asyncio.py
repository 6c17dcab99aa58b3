"""Asyncio's own state made visible to a tracked run.

Tasks and futures are subclasses of those of CPython that report who asks, awaits,
completes and cancels them. Locks, events, conditions, semaphores, queues, barriers and
task groups report the use of their attributes, whatever methods this version of Python
has; each is one location. Callbacks by which asyncio joins tasks commute where the
result does not depend on their order; others keep state in a closure, one location.
"""

import asyncio
import contextlib
import functools
import heapq
import inspect
import sys
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, MethodType
from typing import Any

from test_framework.explore.reduction.tracked import Recorder
from test_framework.explore.reduction.watched import WatchedList, recorder
from test_framework.explore.waits import is_program_file

_FUTURE: Any = asyncio.Future
_PRIMITIVES: tuple[Any, ...] = (
    asyncio.Lock,
    asyncio.Event,
    asyncio.Condition,
    asyncio.Semaphore,
    asyncio.BoundedSemaphore,
    asyncio.Queue,
    asyncio.PriorityQueue,
    asyncio.LifoQueue,
    asyncio.Barrier,
    asyncio.TaskGroup,
)
_SCALARS = (int, float, bool, str, type(None))
# Bound once, when the primitive is made.
_CONSTANT = (MethodType, asyncio.Lock)


def _code_inside(function: Any, name: str) -> Any:
    return next(
        code
        for code in function.__code__.co_consts
        if getattr(code, "co_name", "") == name
    )


_GATHER = _code_inside(asyncio.gather, "_done_callback")
_GROUP: Any = asyncio.TaskGroup._on_task_done  # the callback of its tasks


# -- tasks and futures ---------------------------------------------------------------


class _Joining:
    """A callback by which asyncio collects a finished task: it commutes with its like.

    Args:
        callback: What asyncio registered.
        target: The result that is collected.
        takes_errors: Whether a failed task is collected like any other.
    """

    __slots__ = ("_callback", "_takes_errors", "_target")

    def __init__(self, callback: Any, target: Any, *, takes_errors: bool) -> None:
        self._callback = callback
        self._target = target
        self._takes_errors = takes_errors

    def __call__(self, future: Any) -> None:
        active = recorder()
        if active is None:
            self._callback(future)
            return
        target = self._target() if callable(self._target) else self._target
        bit = active.bit(target)
        result = target
        if isinstance(target, asyncio.TaskGroup):
            result = object.__getattribute__(target, "_on_completed_fut")
            if result is not None:
                # The last task completes it, unless it was cancelled before.
                bit |= active.bit(result)
        commutes = self._takes_errors or self._is_well(future)
        if commutes and not _has_callbacks(result):
            active.begin_join(bit)
            try:
                self._callback(future)
            finally:
                active.end_join()
        else:
            # The first failure decides; the last task causes callbacks. So their order
            # matters.
            active.write(bit)
            self._callback(future)

    @staticmethod
    def _is_well(future: Any) -> bool:
        return not _FUTURE.cancelled(future) and future._exception is None

    def __eq__(self, other: object) -> bool:
        return bool(self._callback == other)

    def __hash__(self) -> int:
        return hash(self._callback)


def _has_callbacks(future: Any) -> bool:
    """Tell whether a future causes more than that tasks wake up."""
    callbacks = getattr(future, "_callbacks", None) or ()
    return any(type(callback) is not BuiltinFunctionType for callback, _ in callbacks)


class _Internal:
    """A callback of asyncio that keeps state in a closure: one location."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Any) -> None:
        self._callback = callback

    def __call__(self, *args: Any) -> None:
        active = recorder()
        if active is not None:
            active.write(
                active.bit(getattr(self._callback, "__self__", self._callback))
            )
        self._callback(*args)

    def __eq__(self, other: object) -> bool:
        return bool(self._callback == other)

    def __hash__(self) -> int:
        return hash(self._callback)


def _seen(active: Recorder, future: Any, callback: Any) -> Any:
    """Note that a callback is registered; return what to register instead."""
    if type(callback) is BuiltinFunctionType:  # the wake-up of a task
        active.awaits(future)
        return callback
    bit = active.bit(future)
    code = getattr(callback, "__code__", None)
    if code is _GATHER:
        active.read(bit)
        cells = dict(zip(code.co_freevars, callback.__closure__, strict=True))
        return _Joining(
            callback,
            lambda: cells["outer"].cell_contents,
            takes_errors=cells["return_exceptions"].cell_contents,
        )
    if getattr(callback, "__func__", None) is _GROUP:
        active.read(bit)
        return _Joining(callback, callback.__self__, takes_errors=False)
    # The callbacks of a future run in order of their registration.
    active.write(bit)
    inner = callback.func if isinstance(callback, functools.partial) else callback
    if str(getattr(inner, "__module__", "")).startswith("asyncio"):
        active.closure(getattr(callback, "__self__", callback))
        return _Internal(callback)
    return callback


def _asking(original: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any) -> Any:
        active = recorder()
        if active is not None and not active.is_muted and not _is_its_own(active, self):
            active.read(active.bit(self))
        return original(self)

    return method


def _is_its_own(active: Recorder, future: Any) -> bool:
    """Tell whether a task takes the result that woke it, or is asked by the loop.

    Until its coroutine goes on, a task remembers what it waited for.
    """
    if active.number < 0 or active.loop is None:
        return False
    task = active.loop.tasks[active.number]
    return task is future or getattr(task, "_fut_waiter", None) is future


def _completing(original: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, *args: Any) -> Any:
        active = recorder()
        if active is not None:
            active.write(active.bit(self))
        return original(self, *args)

    return method


def _cancelling(original: Any, is_done: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        active = recorder()
        if active is not None:
            if is_done(self):
                active.read(active.bit(self))
            else:
                active.write(active.bit(self))
                number = active.loop._numbers.get(self) if active.loop else None
                if number is not None:
                    active.cancelling(number)
        return original(self, *args, **kwargs)

    return method


def _awaiting(original: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any) -> Any:
        active = recorder()
        if active is not None:
            active.awaits(self)
        return original(self)

    return method


def _registering(original: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, callback: Any, **kwargs: Any) -> Any:
        active = recorder()
        if active is not None:
            callback = _seen(active, self, callback)
        return original(self, callback, **kwargs)

    return method


def _making(original: Any) -> Callable[..., None]:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        active = recorder()
        if active is not None:
            active.made(self)

    return method


def _methods(base: Any) -> dict[str, Any]:
    """Return the methods of a future or task, reporting their use."""
    methods = {
        name: _asking(getattr(base, name))
        for name in ("done", "result", "exception", "cancelled")
    }
    methods |= {
        name: _completing(getattr(base, name))
        for name in ("set_result", "set_exception")
    }
    methods |= {
        name: _completing(getattr(base, name))
        for name in ("uncancel", "remove_done_callback")
        if hasattr(base, name)
    }
    if hasattr(base, "cancelling"):
        methods["cancelling"] = _asking(base.cancelling)
    if not issubclass(base, asyncio.Task):
        # A task has the number of its process.
        methods["__init__"] = _making(base.__init__)
    methods["cancel"] = _cancelling(base.cancel, base.done)
    methods["add_done_callback"] = _registering(base.add_done_callback)
    methods["__await__"] = methods["__iter__"] = _awaiting(base.__await__)
    return methods


class _AnyFuture(type):
    """Lets the name ``asyncio.Future`` mean every future while runs are tracked."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _FUTURE)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _FUTURE)


TrackedFuture: Any = _AnyFuture(
    "Future",
    (_FUTURE,),
    {"__slots__": (), "__module__": "asyncio", **_methods(_FUTURE)},
)
"""A future that reports its use."""

TrackedTask: Any = type(
    "Task",
    (asyncio.Task,),
    {"__slots__": (), "__module__": "asyncio", **_methods(asyncio.Task)},
)
"""A task that reports its use."""


# -- primitives ------------------------------------------------------------------------


def _reporting_attributes(kind: Any) -> dict[str, Any]:
    """Return the methods by which instances of a primitive report their use."""
    in_class = frozenset(dir(kind))

    def get(self: Any, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name not in in_class:
            active = recorder()
            if active is not None and type(value) not in _CONSTANT:
                active.met(self)
                bit = active.bit(self)
                # A container is got to be changed as well as to be read.
                (active.read if type(value) in _SCALARS else active.write)(bit)
        return value

    def put(self: Any, name: str, value: Any) -> None:
        active = recorder()
        if active is not None and name != "_loop":
            if not object.__getattribute__(self, "__dict__"):
                active.made(self)
            active.met(self)
            active.write(active.bit(self))
        object.__setattr__(self, name, value)

    return {"__getattribute__": get, "__setattr__": put}


_acquire, _release = asyncio.Lock.acquire, asyncio.Lock.release


async def _acquire_tracked(self: Any) -> bool:
    active = recorder()
    if active is not None:
        while active.must_park(self):
            await active.gate(self, asyncio.get_running_loop())
    taken = await _acquire(self)
    active = recorder()
    if active is not None:
        active.acquired(self)
    return taken


def _release_tracked(self: Any) -> None:
    _release(self)
    active = recorder()
    if active is not None:
        active.released(self)


def _refusing(original: Any, reason: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def refuse(*args: Any, **kwargs: Any) -> Any:
        active = recorder()
        if active is not None:
            active.refuse(reason)
        return original(*args, **kwargs)

    return refuse


def _refused() -> Iterator[tuple[Any, str, Any]]:
    """Yield what makes a proof by classes impossible, and what takes its place."""
    for owner in (asyncio, asyncio.tasks):
        yield owner, "all_tasks", _refusing(asyncio.all_tasks, "it asks for all tasks")
    module = sys.modules.get("anyio._backends._asyncio")
    if module is not None:
        backend: Any = vars(module)["AsyncIOBackend"]
        for name in dir(backend):
            if name.startswith("create_"):
                method = _refusing(
                    getattr(backend, name), "it uses anyio, whose state is not watched"
                )
                yield backend, name, staticmethod(method)


_OF_HEAPS = ("heapify", "heappop", "heappush", "heappushpop", "heapreplace")


def _on_a_heap(original: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    def use(heap: Any, *args: Any) -> Any:
        if isinstance(heap, WatchedList):
            # It is of C, and changes the list behind its methods.
            heap._uses_all(write=True)
        return original(heap, *args)

    return use


def _of_heaps() -> Iterator[tuple[Any, str, Any]]:
    """Yield the functions of heapq wherever a program has them by name."""
    reporting = {
        original: _on_a_heap(original)
        for original in (getattr(heapq, name) for name in _OF_HEAPS)
    }
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if module is not heapq and not (file and is_program_file(file)):
            continue
        for name, value in list(vars(module).items()):
            if isinstance(value, BuiltinFunctionType) and value in reporting:
                yield module, name, reporting[value]


@contextlib.contextmanager
def instrumented() -> Iterator[None]:
    """Let asyncio's own objects report their use meanwhile."""
    gathering: Any = asyncio.tasks._GatheringFuture  # type: ignore[attr-defined]  # what gather returns
    changes: list[tuple[Any, str, Any]] = [
        (asyncio, "Future", TrackedFuture),
        (asyncio.Lock, "acquire", _acquire_tracked),
        (asyncio.Lock, "release", _release_tracked),
    ]
    changes += _refused()
    changes += _of_heaps()
    for kind in _PRIMITIVES:
        methods = _reporting_attributes(kind)
        changes += [(kind, name, method) for name, method in methods.items()]
    methods = _methods(gathering)
    changes += [(gathering, name, method) for name, method in methods.items()]
    saved = [
        (owner, name, inspect.getattr_static(owner, name), name in vars(owner))
        for owner, name, _ in changes
    ]
    for owner, name, value in changes:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value, is_own in saved:
            if is_own:
                setattr(owner, name, value)
            else:
                delattr(owner, name)
