"""One process of the service under test: uvicorn, the probe, and a control pipe.

Started by ``hosting``. Standard input is the control pipe: the first line is the
plan, each line ``census`` or ``alarms`` asks for one, ``identify FILE`` names a file that
says how the service calls the users, ``clock SECONDS`` sets the wall clock forth, and
the end of file means that the audit is gone or
done, so the worker shuts down gracefully, and after ``STOP_LIMIT_S`` it ends anyway. Answers go to a pipe of their own: standard output
and error belong to the service and are its log.
"""

import asyncio
import gc
import importlib
import inspect
import json
import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from test_framework.core import UsageError
from test_framework.core.lines import encode
from test_framework.detect import Detector, Identifying, start_detectors
from test_framework.detect.roots import declare_root
from test_framework.detect.scope import operation_of
from test_framework.services.handlers import Handlers
from test_framework.services.probe import App, Probe
from test_framework.services.process import (
    CLOCK,
    IDENTIFY,
    OFFSET,
    REFUSED,
    STOP_LIMIT_S,
)
from test_framework.services.wallclock import WallClock

if TYPE_CHECKING:
    from test_framework.core import Record

_DEFAULTS: dict[str, Any] = {
    # A line per request would be the largest cost of a hosted service.
    "access_log": False,
    "use_colors": False,
    "timeout_graceful_shutdown": 3,
}


def main() -> None:
    """Serve until the control pipe ends."""
    control = sys.stdin.buffer
    plan: dict[str, Any] = json.loads(control.readline())
    sys.path.insert(0, plan["app_dir"])
    listener = socket.socket(fileno=plan["listener"])
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    record = os.open(plan["record"], flags, 0o600)
    routes = os.open(plan["routes"], flags, 0o600)
    try:
        detectors = start_detectors(plan["detectors"])
    except UsageError as exc:
        # The plan is wrong, and not the service.
        os.write(plan["reply"], json.dumps({REFUSED: str(exc)}).encode() + b"\n")
        return
    app = load_target(plan["target"])
    declare_root("app", app)
    config = uvicorn.Config(
        Probe(
            app,
            record=record,
            handlers=Handlers(routes, Path.cwd()),
            is_scoped=bool(detectors),
        ),
        interface="asgi3",
        **_DEFAULTS | plan["uvicorn"],
    )
    server = _Server(config, reply=plan["reply"], detectors=detectors)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        controller = threading.Thread(
            target=_obey,
            args=(control, server, runner.get_loop()),
            name="isolation-control",
            daemon=True,
        )
        controller.start()
        runner.run(server.serve(sockets=[listener]))


class _Server(uvicorn.Server):
    """Uvicorn that tells the audit when it accepts connections."""

    def __init__(
        self, config: uvicorn.Config, *, reply: int, detectors: Sequence[Detector]
    ) -> None:
        super().__init__(config)
        self.reply = reply
        self.detectors = detectors

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        _say(self.reply, {"ready": os.getpid()})


def _obey(control: Any, server: _Server, loop: asyncio.AbstractEventLoop) -> None:  # noqa: ANN401  # a raw pipe
    """Follow the control pipe, in a thread so that a wedged loop still ends."""
    answers: dict[bytes, Callable[[], Mapping[str, Any]]] = {
        b"census": lambda: _take_census(loop),
        b"alarms": lambda: _tell(server.detectors),
    }
    clock = WallClock()

    def answer(word: bytes) -> None:
        _say(server.reply, answers[word]())

    for line in control:
        word, _, rest = line.strip().partition(b" ")
        if word == IDENTIFY:
            identities = _read_identities(Path(os.fsdecode(rest)))
            loop.call_soon_threadsafe(_identify, server.detectors, identities)
        elif word == CLOCK:
            clock.move(float(rest))
            # Two threads that write at once would mix their answers.
            moved = {OFFSET: float(rest)}
            loop.call_soon_threadsafe(_say, server.reply, moved)
        else:
            loop.call_soon_threadsafe(answer, word)
    if not server.started:
        # Nobody has been served, and uvicorn does not listen while it starts.
        os._exit(1)
    server.should_exit = True
    threading.Event().wait(STOP_LIMIT_S)
    os._exit(1)


def _say(reply: int, message: Mapping[str, Any]) -> None:
    try:
        os.write(reply, json.dumps(message).encode() + b"\n")
    except BrokenPipeError:
        # The audit was killed; the control pipe ends as well and takes us down.
        return


def _take_census(loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    # Tasks that nobody holds any more are not leaked, merely not yet collected.
    gc.collect()
    tasks = asyncio.all_tasks(loop)
    return {
        "tasks": Counter(map(_name, tasks)),
        "background": Counter(
            _name(task) for task in tasks if operation_of(task) is None
        ),
        # Listing the folder opens one more.
        "open_files": len(os.listdir("/dev/fd")) - 1,  # noqa: PTH208  # only the count is wanted
        "rss_bytes": _rss_bytes(),
        # Ours does not count.
        "threads": threading.active_count() - 1,
    }


def _tell(detectors: Sequence[Detector]) -> dict[str, Any]:
    records: list[Record] = []
    for detector in detectors:
        records += detector.alarms()
        records.append(detector.coverage())
    return {"records": [json.loads(encode(record)) for record in records]}


def _read_identities(path: Path) -> dict[int, list[str]]:
    found: dict[str, list[str]] = json.loads(path.read_bytes())
    return {int(user): names for user, names in found.items()}


def _identify(
    detectors: Sequence[Detector], identities: Mapping[int, Sequence[str]]
) -> None:
    for detector in detectors:
        if isinstance(detector, Identifying):
            detector.identify(identities)


def _name(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return getattr(coroutine, "__qualname__", None) or type(coroutine).__qualname__


def _rss_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        # macOS has no /proc; the peak is the best it tells.
        import resource  # noqa: PLC0415  # absent where /proc is not needed

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * os.sysconf("SC_PAGE_SIZE")


def load_target(target: str) -> App:
    """Import ``module:attribute`` and return the ASGI application it means.

    An application takes three arguments and is awaited. Anything else that can be
    called without arguments is a factory, such as a class, or a function all of
    whose parameters have defaults.

    Raises:
        SystemExit: It is neither; the message goes to the log.
    """
    module_name, _, path = target.partition(":")
    found: Any = importlib.import_module(module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            message = f"{module_name!r} has no attribute {path!r}"
            raise SystemExit(message)
        found = getattr(found, name)
    if is_application(found):
        return found  # type: ignore[no-any-return]  # is_application checked it
    if not _takes(found, 0) or inspect.iscoroutinefunction(found):
        message = (
            "it is neither an ASGI application nor a function without arguments that "
            "returns one"
        )
        raise SystemExit(message)
    made = found()
    if not is_application(made):
        if inspect.iscoroutine(made):
            made.close()
        message = f"it returned {type(made).__name__}, which is no ASGI application"
        raise SystemExit(message)
    return made  # type: ignore[no-any-return]  # is_application checked it


def is_application(candidate: object) -> bool:
    """Whether something is an ASGI application rather than what makes one."""
    if inspect.isclass(candidate) or not callable(candidate):
        return False
    if not _takes(candidate, 3):
        return False
    is_async = inspect.iscoroutinefunction(candidate) or inspect.iscoroutinefunction(
        type(candidate).__call__
    )
    # A plain callable that insists on three arguments returns an awaitable; one
    # that could do without is a factory with options.
    return is_async or not _takes(candidate, 0)


def _takes(candidate: object, count: int) -> bool:
    if not callable(candidate):
        return False
    try:
        inspect.signature(candidate).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True
