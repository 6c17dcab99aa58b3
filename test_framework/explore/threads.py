"""Run the worker-thread jobs of anyio as steps of the explored loop.

Synchronous endpoints and dependencies of FastAPI go through
``anyio.to_thread.run_sync``, whose threads no scheduler can order. Meanwhile they go
through ``run_in_executor`` of the loop, where each job is one step that runs when the
scheduler lets it. Races *inside* of two such jobs are not explored. Calls back into
the loop (``anyio.from_thread``) fail, because the loop is busy with the job.
"""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import asyncio

_BACKEND = "anyio._backends._asyncio"
_METHOD = "run_sync_in_worker_thread"
_PARAMETERS = ("cls", "func", "args", "abandon_on_cancel", "limiter")


def _name_of(function: Callable[..., object]) -> str:
    """Return what a job is called in a witness."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__qualname__", type(function).__name__)


def _unfit(backend: Any) -> str | None:
    """Return what speaks against replacing the method, as one sentence."""
    kind = getattr(backend, "AsyncIOBackend", None)
    method = getattr(kind, "__dict__", {}).get(_METHOD)
    function = getattr(method, "__func__", None)
    if (
        function is not None
        and tuple(inspect.signature(function).parameters) == _PARAMETERS
        and hasattr(kind, "current_default_thread_limiter")
        and hasattr(backend, "CancelScope")
    ):
        return None
    return (
        f"The installed anyio has no {_METHOD}({', '.join(_PARAMETERS[1:])}), so jobs in "
        "worker threads (synchronous endpoints) cannot be made steps; use anyio 4, or "
        "make those endpoints async."
    )


def _replacement(backend: Any, original: Callable[..., Any]) -> Any:
    async def run_sync_in_worker_thread(
        cls: Any,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        abandon_on_cancel: bool = False,  # noqa: FBT001, FBT002  # the signature of anyio
        limiter: Any = None,
    ) -> Any:
        loop = asyncio.get_running_loop()
        if not hasattr(loop, "external_event"):
            return await original(cls, func, args, abandon_on_cancel, limiter)
        # What anyio does, with a job of the loop in place of the thread: its limit
        # of jobs can deadlock, its shield decides about cancellation.
        await cls.checkpoint()
        async with limiter or cls.current_default_thread_limiter():
            with backend.CancelScope(shield=not abandon_on_cancel):
                job = functools.partial(copy_context().run, func, *args)
                job.__qualname__ = _name_of(func)  # type: ignore[attr-defined]  # a label
                return await loop.run_in_executor(None, job)

    run_sync_in_worker_thread.is_inline = True  # type: ignore[attr-defined]  # a mark
    return classmethod(run_sync_in_worker_thread)


@contextmanager
def inline_threads() -> Iterator[str | None]:
    """Make the worker-thread jobs of anyio steps of the explored loop meanwhile.

    Other loops are not affected. May be nested; only the outermost does and undoes it.

    Yields:
        Why it cannot be done, as one sentence; None when it was, or when the program
        does not use anyio.
    """
    if "anyio" not in sys.modules:
        yield None
        return
    # The program has anyio already, which loads this part of itself on first use:
    # within the run, after we would have looked.
    backend = importlib.import_module(_BACKEND)
    problem = _unfit(backend)
    if problem is not None:
        yield problem
        return
    kind: Any = backend.AsyncIOBackend
    method = kind.__dict__[_METHOD]
    if getattr(method.__func__, "is_inline", False):
        yield None
        return
    setattr(kind, _METHOD, _replacement(backend, method.__func__))
    try:
        yield None
    finally:
        setattr(kind, _METHOD, method)
