"""Who holds an object that no walk from the modules came to, seen from the object.

Walks backwards over ``gc.get_referrers``, nearest holder first, until it meets something
that lives by itself: a timer or callback of the loop, a task, a module of a library, the
frame of a function that failed. Each step looks at all objects of the process, some milliseconds, so
only few are made, and only for what is told anyway.

Source: the idea is that of objgraph's ``find_backref_chain``.
"""

import asyncio
import functools
import gc
import sys
import threading
from types import (
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
)
from typing import Any

from test_framework.detect.leaks.modules import relative_site

MOST_STEPS = 25
"""Objects whose holders are asked for."""

_SHOWN = 3


def last_holder(value: object) -> str:
    """Return what keeps an object alive; empty when it was not found.

    Args:
        value: The object; variables of functions that run do not count.
    """
    modules = {
        id(vars(module)): name
        for name, module in list(sys.modules.items())
        if type(module) is ModuleType  # others may answer with code of their own
    }
    # Lists of our own refer to what they hold as well, so each is known by its id.
    kept: list[Any] = [value]
    parents: list[int] = [-1]
    seen = {id(kept), id(parents), id(value)}
    for index in range(MOST_STEPS):
        if index >= len(kept):
            return ""
        holders = gc.get_referrers(kept[index])
        seen.add(id(holders))
        for holder in holders:
            if id(holder) in seen:
                continue
            seen.add(id(holder))
            told = _told(holder, modules)
            if told:
                return told + _way(kept, parents, index)
            kept.append(holder)
            parents.append(index)
        del holders
    return ""


def _told(holder: Any, modules: dict[int, str]) -> str:  # noqa: ANN401  # any object
    """Return what lives by itself as words; empty for what is merely on the way."""
    if id(holder) in modules:
        return f"module {modules[id(holder)]}"
    kind = type(holder)
    if issubclass(kind, asyncio.Handle):
        what = "a timer" if issubclass(kind, asyncio.TimerHandle) else "a callback"
        return f"{what} of the loop that calls {_name(holder._callback)}"  # noqa: SLF001  # it has no public name
    if issubclass(kind, asyncio.Task):
        return f"task {holder.get_name()}"
    if issubclass(kind, threading.Thread):
        return f"thread {holder.name}"
    if kind is FrameType:
        # The collector does not know of frames that run.
        code = holder.f_code
        line = relative_site(code.co_filename, holder.f_lineno or code.co_firstlineno)
        return f"the frame of {code.co_qualname} at {line}, which a traceback keeps"
    if kind is CoroutineType or kind is GeneratorType:
        return f"{holder.__qualname__}, which waits"
    return ""


def _name(callback: Any) -> str:  # noqa: ANN401  # any callable
    """Return how a callback is called, without asking it."""
    while type(callback) is functools.partial:
        callback = callback.func
    if type(callback) is MethodType:
        callback = callback.__func__
    if type(callback) is not FunctionType:
        return type(callback).__qualname__
    code = callback.__code__
    line = relative_site(code.co_filename, code.co_firstlineno)
    return f"{callback.__qualname__} ({line})"


def _way(kept: list[Any], parents: list[int], index: int) -> str:
    """Return the types between the last holder and the object, outermost first."""
    steps = []
    while index > 0:
        steps.append(type(kept[index]).__qualname__)
        index = parents[index]
    if not steps:
        return ""
    return f", by way of {', '.join(steps[:_SHOWN])}"
