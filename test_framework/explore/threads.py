"""Thread pools of libraries, run as executor jobs while an exploration goes on.

Starlette and FastAPI run sync endpoints by ``anyio.to_thread.run_sync``, which starts
threads of its own. Here it queues a job of the loop instead: the limiter of anyio and
its shielding stay, the work becomes one step. ``asyncio.to_thread`` needs nothing, it
asks the loop. anyio is touched only when it is loaded, and put back afterwards.

Not for races inside of a job; and a job cannot call back into the loop
(``anyio.from_thread``), since the loop stands still while it runs.
"""

import asyncio
import contextlib
import contextvars
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from test_framework.explore.names import job_name

if TYPE_CHECKING:
    from test_framework.explore.guards import Guards

_BACKEND = "anyio._backends._asyncio"


class _Rerouting:
    """What was changed of anyio, to be put back.

    Args:
        guards: Refuse what cannot be done.
    """

    def __init__(self, guards: "Guards") -> None:
        self._guards = guards
        self._backend: Any = None
        self._saved: dict[str, Any] = {}
        self._run: list[int] | None = None

    def install(self) -> None:
        """Change anyio if it is loaded and was not changed yet."""
        if self._backend is not None or "anyio" not in sys.modules:
            return
        module: Any = importlib.import_module(_BACKEND)
        self._backend = backend = module.AsyncIOBackend
        self._module = module
        changes = {
            "run_sync_in_worker_thread": self._run_sync,
            "run_async_from_thread": self._refuse,
            "run_sync_from_thread": self._refuse,
        }
        for name, change in changes.items():
            self._saved[name] = backend.__dict__[name]
            setattr(backend, name, staticmethod(change))

    def remove(self) -> None:
        """Put anyio back."""
        for name, saved in self._saved.items():
            setattr(self._backend, name, saved)

    async def _run_sync(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        abandon_on_cancel: bool = False,  # noqa: FBT001, FBT002  # the signature of anyio
        limiter: Any = None,
    ) -> Any:
        backend = self._backend
        loop: Any = asyncio.get_running_loop()
        if not hasattr(loop, "external_event"):
            original = self._saved["run_sync_in_worker_thread"].__get__(None, backend)
            return await original(func, args, abandon_on_cancel, limiter)
        await backend.checkpoint()
        if self._run is not loop.order:
            # The loop is used again from run to run, and with it anyio's limiter.
            self._run = loop.order
            with contextlib.suppress(LookupError, AttributeError):
                self._forget_limiter(loop)
        context = contextvars.copy_context()
        anyio: Any = sys.modules["anyio"]

        def job() -> Any:
            with self._module.claim_worker_thread(backend, loop):
                return context.run(func, *args)

        job.__qualname__ = job_name(func)
        async with limiter or backend.current_default_thread_limiter():
            with anyio.CancelScope(shield=not abandon_on_cancel):
                return await loop.run_in_executor(None, job)

    def _forget_limiter(self, loop: Any) -> None:
        variables = importlib.import_module("anyio.lowlevel")
        variables._run_vars[loop].pop(self._module._default_thread_limiter, None)

    def _refuse(self, func: Callable[..., Any], *_: Any, **__: Any) -> Any:
        self._guards.refuse(
            f"calls {job_name(func)} in the loop from a job, which is one step",
            "Make the endpoint async, or return what the loop is to do.",
        )


_current: _Rerouting | None = None


@contextlib.contextmanager
def threads_as_jobs(guards: "Guards") -> Iterator[None]:
    """Run work for threads of anyio as jobs meanwhile.

    Args:
        guards: Of the exploration.
    """
    global _current  # noqa: PLW0603  # anyio may be loaded in the middle of it
    outer, _current = _current, _Rerouting(guards)
    _current.install()
    try:
        yield
    finally:
        _current.remove()
        _current = outer


def reroute() -> None:
    """Look again whether anyio is loaded: a scenario may have imported it since."""
    if _current is not None:
        _current.install()
