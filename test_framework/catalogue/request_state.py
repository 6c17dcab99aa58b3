"""State of one request in a place that all requests share.

The service object, the module, the thread, the log scope and the client are made once;
what one request leaves there before an await, another replaces during it.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from test_framework.catalogue.pattern import Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Mailbox:
    """Made once when the service starts."""

    def __init__(self) -> None:
        self.user = ""

    async def letters(self, user: str) -> str:
        self.user = user
        await external("verify the session")
        return f"letters of {self.user}"


class _StatelessMailbox(_Mailbox):
    async def letters(self, user: str) -> str:
        await external("verify the session")
        return f"letters of {user}"


async def _read_letters(mailbox: _Mailbox, user: int) -> None:
    assert await mailbox.letters(NAMES[user]) == f"letters of {NAMES[user]}"


REQUEST_ON_SERVICE = Pattern(
    id="P01",
    title="request state on a shared service",
    summary=(
        "A handler keeps its user on the service object and reads it back after an "
        "await, when it is the user of a later request. Pass it as an argument."
    ),
    source="https://cwe.mitre.org/data/definitions/488.html",
    vulnerable=visits(_Mailbox, _read_letters),
    safe=visits(_StatelessMailbox, _read_letters),
)


_request: dict[str, str] = {}


class _Settings:
    """Remembers in the module who is asking."""

    def __init__(self) -> None:
        _request.clear()

    def enter(self, user: str) -> None:
        _request["user"] = user

    def current(self) -> str:
        return _request["user"]

    async def theme(self, user: str) -> str:
        self.enter(user)
        await external("SELECT theme")
        return f"theme of {self.current()}"


_user: ContextVar[str] = ContextVar("_user")


class _ContextSettings(_Settings):
    def enter(self, user: str) -> None:
        _user.set(user)

    def current(self) -> str:
        return _user.get()


class _ThreadSettings(_Settings):
    """Written for threads: one request, one thread."""

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    def enter(self, user: str) -> None:
        self._local.user = user

    def current(self) -> str:
        user: str = self._local.user
        return user


async def _read_theme(settings: _Settings, user: int) -> None:
    assert await settings.theme(NAMES[user]) == f"theme of {NAMES[user]}"


GLOBAL_USER = Pattern(
    id="P02",
    title='module-global "current user"',
    summary=(
        "A module variable says who is asking; all requests write the same one. Use a "
        "ContextVar, of which every task has its own value."
    ),
    source="https://github.com/openedx/openedx-platform/issues/38740",
    vulnerable=visits(_Settings, _read_theme),
    safe=visits(_ContextSettings, _read_theme),
)

THREAD_LOCAL_USER = Pattern(
    id="C08",
    title="threading.local as request-local",
    summary=(
        "Code that came from threads keeps the user in a threading.local, but all "
        "requests of a loop share its thread. Use a ContextVar."
    ),
    source="https://github.com/openedx/openedx-platform/issues/38740",
    vulnerable=visits(_ThreadSettings, _read_theme),
    safe=visits(_ContextSettings, _read_theme),
)


class _Exporter:
    """Collects the rows of a report in a buffer that it keeps."""

    def __init__(self) -> None:
        self.buffer: list[str] = []

    async def export(self, user: str) -> list[str]:
        self.buffer.clear()
        for page in range(2):
            await external("next page of rows")
            self.buffer.append(f"{user}/{page}")
        return list(self.buffer)


class _LocalExporter(_Exporter):
    async def export(self, user: str) -> list[str]:
        buffer = []
        for page in range(2):
            await external("next page of rows")
            buffer.append(f"{user}/{page}")
        return buffer


async def _export(exporter: _Exporter, user: int) -> None:
    name = NAMES[user]
    assert await exporter.export(name) == [f"{name}/0", f"{name}/1"]


SCRATCH_BUFFER = Pattern(
    id="P08",
    title="shared scratch buffer",
    summary=(
        "A list on the service is filled across awaits and then returned; rows of two "
        "users end up in one report. Use a local variable."
    ),
    source="https://cwe.mitre.org/data/definitions/488.html",
    vulnerable=visits(_Exporter, _export),
    safe=visits(_LocalExporter, _export),
)


Render = Callable[[str], Awaitable[str]]


def _renderer() -> Render:
    """Make the view function that all requests call."""
    locale = ""

    async def render(user: str) -> str:
        nonlocal locale
        locale = f"language of {user}"
        await external("load the template")
        return locale

    return render


def _stateless_renderer() -> Render:
    async def render(user: str) -> str:
        locale = f"language of {user}"
        await external("load the template")
        return locale

    return render


async def _render_page(render: Render, user: int) -> None:
    assert await render(NAMES[user]) == f"language of {NAMES[user]}"


CLOSURE_STATE = Pattern(
    id="P10",
    title="closure keeps state of a request",
    summary=(
        "A view made by a factory keeps a value in a nonlocal variable, of which there "
        "is one for all requests. Make it a local of the view."
    ),
    source="https://cwe.mitre.org/data/definitions/488.html",
    vulnerable=visits(_renderer, _render_page),
    safe=visits(_stateless_renderer, _render_page),
)


class _Client:
    """An HTTP client that all requests share; the upstream answers whoever is named."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    async def get(self, headers: dict[str, str] | None = None) -> str:
        sent = self.headers | (headers or {})
        return f"files of {sent['Authorization']}"

    async def files(self, user: str) -> str:
        self.headers["Authorization"] = user
        await external("resolve the host")
        return await self.get()


class _PerCallClient(_Client):
    async def files(self, user: str) -> str:
        await external("resolve the host")
        return await self.get({"Authorization": user})


async def _list_files(client: _Client, user: int) -> None:
    assert await client.files(NAMES[user]) == f"files of {NAMES[user]}"


DEFAULT_HEADERS = Pattern(
    id="P20",
    title="default headers of a shared client changed per call",
    summary=(
        "A call writes its token into the headers of the shared client, and another "
        "call goes out with it. Give headers to the call."
    ),
    source="https://cwe.mitre.org/data/definitions/567.html",
    vulnerable=visits(_Client, _list_files),
    safe=visits(_PerCallClient, _list_files),
)


class _Auditor:
    """Writes log lines in batches: the first line of a batch arms the timer."""

    def __init__(self) -> None:
        self.pending: list[tuple[str, str]] = []
        self.written: list[tuple[str, str]] = []
        self._timer: asyncio.TimerHandle | None = None

    def log(self, line: str) -> None:
        self.pending.append((_user.get(), line))
        if self._timer is None:
            # call_later keeps the context of whoever happens to call it.
            self._timer = asyncio.get_running_loop().call_later(1, self._flush)

    def actor(self, entry: tuple[str, str]) -> str:  # noqa: ARG002  # the twin reads it
        return _user.get()

    def _flush(self) -> None:
        self._timer = None
        self.written += [(self.actor(entry), entry[1]) for entry in self.pending]
        self.pending.clear()


class _BindingAuditor(_Auditor):
    def actor(self, entry: tuple[str, str]) -> str:
        return entry[0]


async def _act_and_wait(auditor: _Auditor, user: int) -> None:
    _user.set(NAMES[user])
    auditor.log(f"{NAMES[user]} logged in")
    await asyncio.sleep(2)


def _actors_are_right(auditor: _Auditor) -> None:
    assert len(auditor.written) == 2
    for actor, line in auditor.written:
        assert line == f"{actor} logged in"


CALLBACK_CONTEXT = Pattern(
    id="C09",
    title="callback runs in the context of whoever registered it",
    summary=(
        "A timer armed in one request flushes the lines of all, and the ContextVar in "
        "it names the first. Bind the actor when the line is made."
    ),
    source="https://docs.python.org/3/library/contextvars.html#asyncio-support",
    vulnerable=visits(_Auditor, _act_and_wait, _actors_are_right),
    safe=visits(_BindingAuditor, _act_and_wait, _actors_are_right),
)


class _Tracker:
    """An error tracker that keeps a stack of scopes for the whole process."""

    def __init__(self) -> None:
        self.stack: list[str] = []

    @contextmanager
    def scope(self, user: str) -> Iterator[None]:
        self.stack.append(user)
        try:
            yield
        finally:
            self.stack.pop()

    def capture(self, message: str) -> str:
        return f"{message} of {self.stack[-1]}"


class _TaskTracker(_Tracker):
    @contextmanager
    def scope(self, user: str) -> Iterator[None]:
        token = _user.set(user)
        try:
            yield
        finally:
            _user.reset(token)

    def capture(self, message: str) -> str:
        return f"{message} of {_user.get()}"


async def _fail_in_scope(tracker: _Tracker, user: int) -> None:
    with tracker.scope(NAMES[user]):
        await external("charge the card")
        assert tracker.capture("decline") == f"decline of {NAMES[user]}"


SCOPE_STACK = Pattern(
    id="C10",
    title="scopes of an error tracker interleave",
    summary=(
        "Requests push and pop scopes on one stack, so a report carries the scope that "
        "was pushed last. Keep the scope in a ContextVar."
    ),
    source="https://github.com/getsentry/sentry-python/issues/147",
    vulnerable=visits(_Tracker, _fail_in_scope),
    safe=visits(_TaskTracker, _fail_in_scope),
)


@dataclass(frozen=True)
class _ExecutionContext:
    """Frozen, which does not freeze what it refers to."""

    user: str
    metadata: dict[str, str]


class _Agents:
    """Starts runs with the metadata that all runs begin with."""

    def __init__(self) -> None:
        self.defaults = {"model": "small"}

    def context(self, user: str) -> _ExecutionContext:
        return _ExecutionContext(user, self.defaults)

    async def run(self, user: str) -> str:
        context = self.context(user)
        context.metadata["thread"] = f"thread of {user}"
        await external("plan the run")
        return context.metadata["thread"]


class _CopyingAgents(_Agents):
    def context(self, user: str) -> _ExecutionContext:
        return _ExecutionContext(user, dict(self.defaults))


async def _run_agent(agents: _Agents, user: int) -> None:
    assert await agents.run(NAMES[user]) == f"thread of {NAMES[user]}"


SHARED_METADATA = Pattern(
    id="C11",
    title="frozen execution context with a shared dict inside",
    summary=(
        "Every run gets an immutable context whose metadata is the same dict. Copy the "
        "defaults for each run."
    ),
    source="https://cwe.mitre.org/data/definitions/374.html",
    vulnerable=visits(_Agents, _run_agent),
    safe=visits(_CopyingAgents, _run_agent),
)


class _Bridge:
    """An agent engine that sends events to the socket of the run."""

    def __init__(self) -> None:
        self.socket: list[str] = []

    async def start(self, user: str, socket: list[str]) -> None:
        self.socket = socket
        await external("call the model")
        self.socket.append(f"answer for {user}")


class _PerRunBridge(_Bridge):
    async def start(self, user: str, socket: list[str]) -> None:
        await external("call the model")
        socket.append(f"answer for {user}")


async def _ask(bridge: _Bridge, user: int) -> None:
    socket: list[str] = []
    await bridge.start(NAMES[user], socket)
    await asyncio.sleep(0)
    assert all(event == f"answer for {NAMES[user]}" for event in socket)
    assert socket, "the answer went elsewhere"


AGENT_SINGLETON = Pattern(
    id="L02",
    title="agent engine keeps the socket of the last run",
    summary=(
        "The socket of a run is set on the shared engine, so answers go to whoever "
        "started last. Pass it through the run."
    ),
    source="https://cwe.mitre.org/data/definitions/488.html",
    vulnerable=visits(_Bridge, _ask),
    safe=visits(_PerRunBridge, _ask),
)


@dataclass
class _Ledger:
    """Books transfers; the middleware says who acts."""

    actor: str = ""
    entries: list[str] = field(default_factory=list)

    async def transfer(self, user: str) -> None:
        self.actor = user
        await external("UPDATE accounts")
        self.entries.append(f"{user}'s money moved by {self.actor}")


@dataclass
class _CapturingLedger(_Ledger):
    async def transfer(self, user: str) -> None:
        self.actor = user
        actor = self.actor
        await external("UPDATE accounts")
        self.entries.append(f"{user}'s money moved by {actor}")


async def _transfer(ledger: _Ledger, user: int) -> None:
    await ledger.transfer(NAMES[user])


def _moved_by_owner(ledger: _Ledger) -> None:
    for user in NAMES[: len(ledger.entries)]:
        assert f"{user}'s money moved by {user}" in ledger.entries


LATE_ACTOR = Pattern(
    id="A11",
    title="actor of the audit log read after the await",
    summary=(
        "The audit entry asks who acts after the statement has run, when it is somebody "
        "else. Capture the actor on entry."
    ),
    source="https://cwe.mitre.org/data/definitions/778.html",
    vulnerable=visits(_Ledger, _transfer, _moved_by_owner),
    safe=visits(_CapturingLedger, _transfer, _moved_by_owner),
)


PATTERNS = (
    REQUEST_ON_SERVICE,
    GLOBAL_USER,
    SCRATCH_BUFFER,
    CLOSURE_STATE,
    DEFAULT_HEADERS,
    THREAD_LOCAL_USER,
    CALLBACK_CONTEXT,
    SCOPE_STACK,
    SHARED_METADATA,
    AGENT_SINGLETON,
    LATE_ACTOR,
)
