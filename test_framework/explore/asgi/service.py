"""An ASGI app in process, without sockets, servers or an HTTP client."""

import asyncio
import contextvars
from asyncio import FIRST_COMPLETED
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from test_framework.core import UsageError
from test_framework.explore.asgi.browser import Browser
from test_framework.explore.asgi.lifespan import Lifespan
from test_framework.explore.asgi.messages import App
from test_framework.explore.asgi.ownership import Ownership
from test_framework.explore.loop.clock import give_up
from test_framework.explore.service import Service
from test_framework.explore.threads import reroute

if TYPE_CHECKING:
    from test_framework.explore.asgi.connection import Failed

GRACE_S = 30.0
"""How long requests may go on when all users are done, seconds of virtual time."""


class Asgi(Service):
    """An app and its browsers; enter it to start the app, leave it to stop it.

    A ``Scenario`` enters what its ``setup`` returns, so ``setup=lambda: Asgi(app)`` is
    enough. Not simulated: TCP, parsing of HTTP, limits and timeouts of a server.

    Args:
        app: An ASGI 3 application.
        app_errors: What becomes of an exception that the app lets out. ``raise``: it is
            raised where the user awaits the reply. ``reply``: as in a server the user
            gets status 500. Either way it is in ``errors``.
        may_see: Called with the numbers of a reader and an owner; true when the reader
            may be given canaries of the owner, such as members of one room.
        host: Value of the Host header.
        is_secure: Whether the scheme is https and wss.
        lifespan: Whether startup and shutdown are run.

    Raises:
        UsageError: An argument is wrong.

    Attributes:
        errors: Every exception that the app let out, in order.
        tasks: The task of every request, in order of arrival.
    """

    def __init__(
        self,
        app: App,
        *,
        app_errors: Literal["raise", "reply"] = "raise",
        may_see: Callable[[int, int], bool] | None = None,
        host: str = "testserver",
        is_secure: bool = False,
        lifespan: bool = True,
    ) -> None:
        if app_errors not in {"raise", "reply"}:
            raise UsageError(f"app_errors={app_errors!r}: expected 'raise' or 'reply'.")
        if not callable(app):
            raise UsageError(
                f"Asgi({app!r}): expected the ASGI application itself, such as the app "
                "that FastAPI() makes; import it where a server is given its name."
            )
        if may_see is not None and not callable(may_see):
            raise UsageError(
                f"may_see={may_see!r}: expected a function of the numbers of a reader "
                "and an owner, such as lambda reader, owner: True."
            )
        self.app = app
        self.raises_errors = app_errors == "raise"
        self.host = host
        self.is_secure = is_secure
        self.errors: list[Failed] = []
        self.tasks: dict[asyncio.Task[None], None] = {}
        self._numbers: set[int] = set()
        self._looked_at = 0
        self.ownership = Ownership(may_see)
        # Of the server: requests do not see what their client set.
        self.context = contextvars.copy_context()
        self._lifespan = Lifespan(app) if lifespan else None
        self._is_running = False

    async def __aenter__(self) -> Self:
        """Start the app.

        Raises:
            LifespanError: Its startup failed.
        """
        services = getattr(asyncio.get_running_loop(), "services", None)
        if services is not None:
            services.append(self)
        reroute()
        if self._lifespan is not None:
            await self._lifespan.start()
        self._is_running = True
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop the app when its requests have ended; after an exception, at once."""
        self._is_running = False
        if kind is None:
            await self.settle()
            if self._lifespan is not None:
                await self._lifespan.stop()

    def browser(
        self, user: int, *, headers: Mapping[str, str] | None = None
    ) -> Browser:
        """Return a new browser of a user.

        Args:
            user: Number of the user; the same one may have several browsers.
            headers: Sent with every request.

        Raises:
            UsageError: The app was not started.
        """
        if not self._is_running:
            raise UsageError(
                "The app is not running: enter it first (async with Asgi(app) as asgi), "
                "or return it from the setup of a Scenario."
            )
        return Browser(self, user, headers)

    async def settle(self) -> None:
        """Wait until no request goes on, nor a task that one of them started.

        What goes on for ever is waited for ``GRACE_S`` of virtual time.
        """
        going = self._going()
        if not going:
            return
        loop = asyncio.get_running_loop()
        patience = loop.create_future()
        timer = loop.call_later(GRACE_S, give_up, patience)
        while going and not patience.done():
            await asyncio.wait([*going, patience], return_when=FIRST_COMPLETED)
            going = self._going()
        timer.cancel()

    def is_inner(self, number: int) -> bool:
        """Tell whether a task was started within a request or by the lifespan."""
        loop: Any = asyncio.get_running_loop()
        if loop.tasks[number] in self.tasks:
            return False
        return number in self._begun(loop) or self._is_of_lifespan(loop, number)

    def is_spared(self, number: int) -> bool:
        """Tell whether a task is the lifespan of the app."""
        loop: Any = asyncio.get_running_loop()
        return self._lifespan is not None and loop.tasks[number] is self._lifespan.task

    def _is_of_lifespan(self, loop: Any, number: int) -> bool:
        """Tell whether the lifespan, or a task that it started, started a task."""
        while number > 0:
            if self.is_spared(number):
                return True
            number = loop.parents[number]
        return False

    def _going(self) -> list[asyncio.Task[Any]]:
        loop: Any = asyncio.get_running_loop()
        if not hasattr(loop, "parents"):
            return [task for task in self.tasks if not task.done()]
        tasks = [loop.tasks[number] for number in sorted(self._begun(loop))]
        return [task for task in tasks if not task.done()]

    def _begun(self, loop: Any) -> set[int]:
        """Return the numbers of the requests and of all that they started."""
        begun = self._numbers
        # A parent comes before its children.
        for number in range(self._looked_at, len(loop.tasks)):
            if loop.parents[number] in begun or loop.tasks[number] in self.tasks:
                begun.add(number)
        self._looked_at = len(loop.tasks)
        return begun

    @property
    def state(self) -> dict[str, Any]:
        """What the lifespan of the app keeps for its requests."""
        return {} if self._lifespan is None else self._lifespan.state

    @staticmethod
    def now() -> float:
        """Return the time of the loop, seconds."""
        return asyncio.get_running_loop().time()

    @staticmethod
    def address_of(user: int) -> tuple[str, int]:
        """Return the address from which a user comes; each has its own."""
        number = user + 1
        return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 50_000
