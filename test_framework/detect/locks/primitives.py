"""The patches of asyncio's own primitives: ``Lock``, ``Semaphore`` and ``Queue``.

``Condition`` acquires through a ``Lock`` and ``Barrier`` through a ``Condition``; what a
task waits for in them, in an ``Event`` or a ``Queue`` is read from its frames when
somebody asks. Each patch calls the original and then keeps the books, so fairness,
cancellation and errors are those of asyncio. Only where nobody waits and nothing is to be
decided, which is nearly always, it does what the original would do: a coroutine and two
calls less pay for most of the books. Subclasses are watched as far as they call the
methods of their base.

A patched method that outlives its watch, bound in a ``Condition`` say, only calls the
original.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from test_framework.detect.locks.ledger import Carried, Hold
from test_framework.detect.locks.patching import Patches
from test_framework.detect.locks.stacks import (
    Place,
    awaiter_of,
    current_task,
    in_step,
    is_plumbing,
    program_frame,
)
from test_framework.detect.locks.stalls import GETTERS, PUTTERS
from test_framework.detect.locks.watch import Watch

_LOCKS = (
    asyncio.locks._ContextManagerMixin.__aenter__.__code__.co_filename
)  # private: nobody patches it
_STACKS = contextlib.AsyncExitStack.enter_async_context.__code__.co_filename
_ENTERING = (_LOCKS, sys._getframe().f_code.co_filename, _STACKS)
"""Files of what calls ``acquire``, or ``__aenter__``, for a line of the program."""

_PLAIN: dict[type, tuple[type, ...]] = {
    asyncio.Lock: (asyncio.Lock,),
    asyncio.Semaphore: (asyncio.Semaphore, asyncio.BoundedSemaphore),
}
"""Types that take what is free by one assignment; a subclass may do more."""

_STEPS = 0x80 | 0x100 | 0x200 | 0x20
"""Flags of code that can await: coroutine, its kin, and plain generator."""
_monotonic = time.monotonic
_new = tuple.__new__
_getframe = sys._getframe  # the documented way to a caller's line


def patch_primitives(watch: Watch, patches: Patches) -> None:
    """Patch the classes of asyncio."""

    def replace(
        kind: type, name: str, make: Callable[[Watch, Any, type], Callable[..., Any]]
    ) -> None:
        patches.replace(kind, name, lambda original: make(watch, original, kind))

    for kind in (asyncio.Lock, asyncio.Semaphore):
        replace(kind, "__init__", _init)
        replace(kind, "acquire", _acquire)
        replace(kind, "release", _release)
        replace(kind, "__aenter__", _enter)
    patches.replace(asyncio.Queue, "put_nowait", lambda it: _noting(watch, it, PUTTERS))
    patches.replace(asyncio.Queue, "get_nowait", lambda it: _noting(watch, it, GETTERS))


def _init(watch: Watch, original: Any, _kind: type) -> Callable[..., None]:
    ledger = watch.ledger

    def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if not ledger.is_open:
            return
        # Of a Condition the line that made it, not that which made its lock.
        frame = program_frame(_getframe(1))
        place = None if frame is None else Place(frame.f_code, frame.f_lasti)
        watch.enrol(self, place)

    return initialise


def _acquire(watch: Watch, original: Any, kind: type) -> Callable[..., Any]:
    ledger = watch.ledger
    held_by = ledger.held_by
    is_lock = kind is asyncio.Lock

    async def acquire(self: Any) -> Any:
        if not ledger.is_open:
            return await original(self)
        frame = _getframe(1)
        code = frame.f_code
        task = current_task()
        if task is None:  # somebody drives the coroutine by hand
            return await original(self)
        is_carried = False
        if not code.co_flags & _STEPS:
            owner = awaiter_of(task)
            is_carried = owner is None
            task = owner or task
            frame, code = _lines_of(task, frame)
        elif code.co_filename in _ENTERING:
            frame = frame.f_back or frame
            code = frame.f_code
            if code.co_filename in _ENTERING:  # a stack of contexts, Condition.wait
                frame = program_frame(frame) or frame
                code = frame.f_code
        offset = frame.f_lasti
        del frame  # it would keep what the caller's names refer to
        try:
            resource = self._watched_resource
            if resource.ledger is not ledger:
                resource = watch.adopt(self)
        except AttributeError:
            resource = watch.adopt(self)
        held = held_by.get(task)
        if held and (len(held) > 1 or resource.serial not in held[0].resource.settled):
            watch.nested(held, resource, task, code, offset)
        # One that was released has its next holder, who has not run yet.
        if self._waiters or (self._locked if is_lock else self._value == 0):
            wait = watch.block(resource, task, code, offset)
            try:
                result = await original(self)
            except BaseException:
                watch.give_up(wait)
                raise
            watch.unblock(wait)
            held = held_by.get(task)
        else:
            result = await original(self)
        made = Carried if is_carried else Hold
        hold = _new(made, (resource, task, code, offset, _monotonic()))
        resource.holders.append(hold)
        if held is None:
            held_by[task] = [hold]
        else:
            held.append(hold)
        return result

    return acquire


def _enter(watch: Watch, original: Any, kind: type) -> Callable[..., Any]:
    """Return what ``async with`` calls: it takes what is free, or else asks for it."""
    ledger = watch.ledger
    held_by = ledger.held_by
    is_lock, plain = kind is asyncio.Lock, _PLAIN[kind]

    async def __aenter__(self: Any) -> None:  # noqa: N807  # it stands in for one
        is_free = not self._locked if is_lock else self._value > 0
        task: asyncio.Task[Any] | None
        if len(in_step) == 1:  # as current_task does, without the call
            [task] = in_step.values()
        else:
            task = current_task()
        try:
            resource = self._watched_resource
        except AttributeError:  # made before the watch began
            resource = watch.adopt(self)
        if (
            not is_free
            or self._waiters
            or task is None
            or resource.ledger is not ledger
            or type(self) not in plain
        ):
            await original(self)
            return
        frame = _getframe(1)
        code = frame.f_code
        if code.co_filename in _ENTERING:
            frame = program_frame(frame) or frame
            code = frame.f_code
        offset = frame.f_lasti
        del frame
        held = held_by.get(task)
        if held and (len(held) > 1 or resource.serial not in held[0].resource.settled):
            watch.nested(held, resource, task, code, offset)
        if is_lock:
            self._locked = True
        else:
            self._value -= 1
        hold = _new(Hold, (resource, task, code, offset, _monotonic()))
        resource.holders.append(hold)
        if held is None:
            held_by[task] = [hold]
        else:
            held.append(hold)

    return __aenter__


def _lines_of(task: asyncio.Task[Any], frame: FrameType) -> tuple[FrameType, CodeType]:
    """Return where the task stands for whom a task of its own acquires."""
    code = frame.f_code
    coroutine: Any = task.get_coro()
    own = getattr(coroutine, "cr_frame", None)
    while coroutine is not None:
        step = getattr(coroutine, "cr_frame", None)
        if step is None or is_plumbing(step.f_code):
            break
        own = step
        coroutine = coroutine.cr_await
    return (frame, code) if own is None else (own, own.f_code)


def _release(watch: Watch, original: Any, kind: type) -> Callable[..., None]:
    ledger = watch.ledger
    held_by = ledger.held_by
    slow_s = watch.limits.slow_hold_s
    is_lock, plain = kind is asyncio.Lock, _PLAIN[kind]

    def release(self: Any) -> None:
        if self._waiters or type(self) not in plain:
            original(self)
        elif not is_lock:
            self._value += 1
        elif self._locked:
            self._locked = False
        else:
            original(self)  # it raises
        task: asyncio.Task[Any] | None
        if len(in_step) == 1:  # as current_task does, without the call
            [task] = in_step.values()
        else:
            task = current_task()
        try:
            resource = self._watched_resource
        except AttributeError:  # taken and made before the watch began
            return
        if resource.ledger is not ledger or not ledger.is_open:
            return
        held = held_by.get(task)  # type: ignore[arg-type]  # nobody is None
        if held is None:
            watch.released_by_stranger(resource, task)
            return
        hold = held[-1]
        if hold.resource is resource:
            held.pop()
        else:
            mine = next((one for one in held if one.resource is resource), None)
            if mine is None:
                watch.released_by_stranger(resource, task)
                return
            hold = mine
            held.remove(hold)
        if not held:
            del held_by[task]  # type: ignore[arg-type]  # it was found there
        resource.holders.remove(hold)
        if _monotonic() - hold.since_s >= slow_s:
            watch.held_long(hold)

    return release


def _noting(watch: Watch, original: Any, attribute: str) -> Callable[..., Any]:
    """Return a patch that notes which tasks ever did this to a queue.

    A task that waits at the queue can only be helped by one that does the opposite.
    """
    ledger = watch.ledger

    def noting(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if ledger.is_open:
            watch.note_partner(self, attribute)
        return result

    return noting
