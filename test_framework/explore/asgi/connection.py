"""One scope that an app serves: its task, what it receives, and how its client leaves.

As in uvicorn a request is a task of its own, in the context of the server and not of
the client; it goes on when its client has left, and learns of that by ``receive``.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Protocol

from test_framework.explore.asgi.messages import App, Message, RawHeaders, Scope
from test_framework.explore.asgi.ownership import Ownership
from test_framework.explore.faults import follows
from test_framework.explore.schedule import Fidelity


class ProtocolError(RuntimeError):
    """Raised in an app that breaks the order of messages of ASGI."""


class ConnectionLostError(ConnectionError):
    """Raised where a user waits for the rest of a reply that will not come."""


class AppError(Exception):
    """Raised where a user waits for a reply and the app did not make one."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An exception that an app let out.

    Attributes:
        user: Number of the user whose request it was.
        request: Such as ``GET /notes``.
        error: The exception.
    """

    user: int
    request: str
    error: BaseException


async def arrive(label: str) -> None:
    """Wait until something sent reaches the service: in ``fifo`` that is a choice.

    In the other fidelities every step may take any time, the first one of a request
    as well.
    """
    loop: Any = asyncio.get_running_loop()
    if getattr(loop, "fidelity", None) is Fidelity.FIFO:
        await loop.external_event(label)


async def travel(label: str) -> None:
    """Wait until a part of something begun reaches the service, in every fidelity."""
    loop: Any = asyncio.get_running_loop()
    if getattr(loop, "fidelity", None) is Fidelity.FIFO:
        await loop.external_event(label)
    else:
        # Or the app could take two parts in one step, as if they came together.
        await asyncio.sleep(0)


class Server(Protocol):
    """What a connection needs of who serves it; see ``Asgi``.

    Attributes:
        app: The app.
        raises_errors: Its exceptions are raised where the user waits.
        errors: What the app let out.
        tasks: The task of every request, in order of arrival.
        context: In which requests run.
        ownership: Whose canary is whose.
    """

    app: App
    raises_errors: bool
    errors: list[Failed]
    tasks: dict[asyncio.Task[None], None]
    context: Context
    ownership: Ownership


class Connection(ABC):
    """What a client and the app share.

    Args:
        service: Who serves.
        user: Number of the user who is the client.
        label: Names the task of the app.
        scope: What the app is called with.

    Attributes:
        is_over: The app has nothing more to receive: it has answered or the client
            has left.
        has_left: The client went away before the end.
        task: Serves it; None until it has arrived.
        client: Task of the user.
    """

    def __init__(self, service: Server, user: int, label: str, scope: Scope) -> None:
        self.service = service
        self.user = user
        self.label = label
        self.scope = scope
        self.is_over = False
        self.has_left = False
        self._error: BaseException | None = None
        self._is_taken = False
        self._inbox: deque[Message] = deque()
        # Futures and no Event: then a deadlock tells that the app waits for its client.
        self._readers: list[asyncio.Future[None]] = []
        self._waiter: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None
        self.client = asyncio.current_task()

    async def open(self) -> None:
        """Let the request arrive and start the task that serves it."""
        await arrive(self.label)
        loop: Any = asyncio.get_running_loop()
        self.task = loop.create_task(
            self._serve(), name=self.label, context=self.service.context.copy()
        )
        self.service.tasks[self.task] = None
        disconnects = getattr(loop, "disconnects", None)
        if disconnects is not None:
            disconnects[self.task] = self._disconnect

    @property
    def is_abandoned(self) -> bool:
        """Whether the client ended it, in whatever way."""
        return self.has_left

    # -- the side of the app ----------------------------------------------------------

    async def _serve(self) -> None:
        try:
            await self.service.app(self.scope, self.receive, self.send)
        except (SystemExit, KeyboardInterrupt):
            raise
        except asyncio.CancelledError as exc:
            is_asked = self.task is not None and self.task.cancelling()
            # anyio takes back requests that are not its own, so faults are asked too.
            if is_asked or self.is_over or self._was_cancelled() or follows(exc):
                # From outside, by a fault or at the end: the client is cut off.
                self._disconnect()
                raise
            self._fail(exc)
        except BaseException as exc:  # noqa: BLE001  # a server goes on whatever an app raises
            self._fail(exc)
        else:
            if not self.is_over and not self.ends_by_return():
                self._fail(
                    ProtocolError(f"The app returned from {self.label} unanswered.")
                )

    async def receive(self) -> Message:
        """Give the app the next message; waits until there is one."""
        while not self._inbox:
            if self.is_over:
                return self.farewell()
            reader = asyncio.get_running_loop().create_future()
            self._readers.append(reader)
            try:
                await reader
            finally:
                # Also when cancelled: Starlette asks so whether the client has gone.
                if reader in self._readers:
                    self._readers.remove(reader)
        return self._inbox.popleft()

    @abstractmethod
    async def send(self, message: Message) -> None:
        """Take a message of the app."""

    @abstractmethod
    def farewell(self) -> Message:
        """Return what the app receives when there is nothing more."""

    @abstractmethod
    def answer_failure(self) -> bool:
        """Answer as a server does whose app failed; False when it is too late."""

    def ends_by_return(self) -> bool:
        """End as a server does when the app returns early; False when it may not."""
        return False

    def push(self, message: Message) -> None:
        """Let a message of the client arrive."""
        self._inbox.append(message)
        self._wake()

    def _wake(self) -> None:
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)
        self._readers.clear()

    def end(self) -> None:
        """Nothing more is to come from either side, but what the app still does."""
        self.is_over = True
        self._wake()
        disconnects = getattr(asyncio.get_running_loop(), "disconnects", None)
        if disconnects is not None:
            disconnects.pop(self.task, None)

    def _fail(self, exc: BaseException) -> None:
        service = self.service
        service.errors.append(Failed(self.user, self.label, exc))
        if self._was_cancelled():
            self._disconnect()
        if self.is_abandoned:
            # What an app raises because its client has gone is no news.
            return
        if not service.raises_errors:
            if not self.is_over and not self.answer_failure():
                self._error = ConnectionLostError(
                    f"{self.label} was cut off: the app raised {exc!r} in its reply."
                )
        elif self._is_taken:
            if not follows(exc):
                asyncio.get_running_loop().call_exception_handler(
                    {
                        "message": f"{self.label} of user[{self.user}] failed after it "
                        "had answered",
                        "exception": exc,
                    }
                )
        elif isinstance(exc, asyncio.CancelledError):
            self._error = AppError(f"{self.label} ended with {exc!r}.")
            self._error.__cause__ = exc
        else:
            self._error = exc
        self.end()
        self.notify()

    def _was_cancelled(self) -> bool:
        """Tell whether a fault cancelled the request."""
        return self.task in getattr(asyncio.get_running_loop(), "cancelled", ())

    # -- the side of the client -------------------------------------------------------

    def notify(self) -> None:
        """Let the client look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Wait for news from the app, as the one client.

        Raises:
            asyncio.CancelledError: The client goes away, or is cut off.
        """
        if self.has_left:
            raise asyncio.CancelledError
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def require_own(self, data: bytes, part: str) -> None:
        """Look for canaries of others in what the user is given.

        Raises:
            ForeignCanaryError: There is one.
        """
        self.service.ownership.require_own(self.user, data, self.label, part)

    def require_own_headers(self, headers: RawHeaders) -> None:
        """Look for canaries of others in the values of headers."""
        for name, value in headers:
            self.require_own(value, f"header {name.decode('latin-1')}")

    def raise_error(self) -> None:
        """Raise what the app raised, if it did.

        Raises:
            BaseException: That.
        """
        if self._error is not None:
            raise self._error

    def leave(self) -> None:
        """Go away as the client: the app goes on and may learn of it."""
        self._is_taken = True
        if not self.is_over:
            self.has_left = True
            self.end()

    def _disconnect(self) -> None:
        """Let the client go away by a fault; its user goes with it."""
        self.leave()
        if self._waiter is not None:
            self._waiter.cancel()
