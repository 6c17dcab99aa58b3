"""State of one request in a place that all requests share.

The service object, the module, the thread, the log scope and the client are made once;
what one request leaves there before an await, another replaces during it.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
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
    got = await mailbox.letters(NAMES[user])
    assert got == f"letters of {NAMES[user]}", f"{NAMES[user]} got {got}"


REQUEST_ON_SERVICE = Pattern(
    id="P01",
    title="request state on a shared service",
    summary=(
        "A handler keeps its user on the service object and reads it back after an "
        "await, when it is the user of a later request. Pass it as an argument."
    ),
    source="https://github.com/inclusionAI/Avernet/pull/877",
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
    got = await settings.theme(NAMES[user])
    assert got == f"theme of {NAMES[user]}", f"{NAMES[user]} got {got}"


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
    got = await exporter.export(name)
    assert got == [f"{name}/0", f"{name}/1"], f"{name} got {got}"


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
    got = await render(NAMES[user])
    assert got == f"language of {NAMES[user]}", f"{NAMES[user]} got {got}"


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
    got = await client.files(NAMES[user])
    assert got == f"files of {NAMES[user]}", f"{NAMES[user]} got {got}"


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
    for event in socket:
        assert event == f"answer for {NAMES[user]}", f"{NAMES[user]} got {event}"
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
        assert f"{user}'s money moved by {user}" in ledger.entries, (
            f"{user} did not move it: {ledger.entries}"
        )


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
    THREAD_LOCAL_USER,
    SCRATCH_BUFFER,
    CLOSURE_STATE,
    DEFAULT_HEADERS,
    AGENT_SINGLETON,
    LATE_ACTOR,
)
