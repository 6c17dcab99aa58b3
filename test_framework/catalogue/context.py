"""Contexts that reach further than the request they were made for."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from test_framework.catalogue.pattern import Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external

_user: ContextVar[str] = ContextVar("_user")


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
    assert len(auditor.written) == 2, "a line is lost"
    for actor, line in auditor.written:
        assert line == f"{actor} logged in", f"{line!r} is booked on {actor}"


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


class _Writer:
    """A worker that is started when there is work and stops when there is none."""

    def __init__(self) -> None:
        self.texts: deque[tuple[str, str]] = deque()
        self.written: list[tuple[str, str]] = []
        self.worker: asyncio.Task[None] | None = None

    def author(self, user: str) -> str:  # noqa: ARG002  # the twin uses it
        return _user.get()

    async def work(self) -> None:
        while self.texts:
            user, text = self.texts.popleft()
            await external("INSERT")
            self.written.append((self.author(user), text))
        self.worker = None

    async def submit(self, text: str) -> None:
        self.texts.append((_user.get(), text))
        if self.worker is None:
            # create_task copies the context of whoever happens to call it.
            self.worker = asyncio.create_task(self.work())
        await asyncio.wait({self.worker})


class _NamingWriter(_Writer):
    def author(self, user: str) -> str:
        return user


async def _write(writer: _Writer, user: int) -> None:
    _user.set(NAMES[user])
    await writer.submit(f"diary of {NAMES[user]}")


def _authors_are_right(writer: _Writer) -> None:
    assert len(writer.written) == 2, "a text is lost"
    for author, text in writer.written:
        assert text == f"diary of {author}", f"{text!r} is signed by {author}"


WORKER_CONTEXT = Pattern(
    id="C05",
    title="worker keeps the context of its first user",
    summary=(
        "A worker that is started inside of a request has its ContextVars for as long "
        "as it lives, and works for others too. Put the identity into the job."
    ),
    source="https://docs.python.org/3/library/contextvars.html#asyncio-support",
    vulnerable=visits(_Writer, _write, _authors_are_right),
    safe=visits(_NamingWriter, _write, _authors_are_right),
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
        got = tracker.capture("decline")
        assert got == f"decline of {NAMES[user]}", f"{NAMES[user]} is told as {got}"


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
    got = await agents.run(NAMES[user])
    assert got == f"thread of {NAMES[user]}", f"{NAMES[user]} got {got}"


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


PATTERNS = (
    CALLBACK_CONTEXT,
    WORKER_CONTEXT,
    SCOPE_STACK,
    SHARED_METADATA,
)
