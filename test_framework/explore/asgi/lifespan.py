"""Startup and shutdown of an app, as a server does them.

Source: the lifespan protocol of ASGI; an app that raises before it takes the startup
message does not speak it, and is served without, as uvicorn does.
"""

import asyncio
import re
from typing import Any

from test_framework.explore.asgi.messages import App, Message

_LIFESPAN = {"version": "3.0", "spec_version": "2.0"}


class LifespanError(Exception):
    """Raised when the startup or the shutdown of an app fails."""


class Lifespan:
    """The lifespan of one app in one run.

    Args:
        app: The app.

    Attributes:
        state: What the app keeps for its requests.
        task: In which the app lives; None until it is started.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self.state: dict[str, Any] = {}
        self.task: asyncio.Task[None] | None = None
        self._is_supported = True
        self._was_started = False
        self._stop: asyncio.Future[None]
        self._answer: asyncio.Future[None]

    async def start(self) -> None:
        """Start the app.

        Raises:
            LifespanError: It said that its startup failed.
            Exception: What its startup raised without saying so.
        """
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        self._stop = loop.create_future()
        self.task = loop.create_task(self._live(), name="lifespan")
        await self._answer

    async def stop(self) -> None:
        """Stop the app, if it was started.

        Raises:
            LifespanError: It said that its shutdown failed.
        """
        if not self._is_supported or self.task is None or self.task.done():
            return
        self._answer = asyncio.get_running_loop().create_future()
        self._stop.set_result(None)
        await self._answer
        await self.task

    async def _live(self) -> None:
        scope = {"type": "lifespan", "asgi": dict(_LIFESPAN), "state": self.state}
        try:
            await self._app(scope, self._receive, self._send)
        except Exception as exc:
            self._is_supported = self._was_started
            if self._answer.done():
                # Nobody waits for it, so it is told as any lost exception is.
                raise
            if self._was_started:
                self._answer.set_exception(exc)
            else:
                self._answer.set_result(None)
        else:
            # An app may return at once, and then has no lifespan.
            self._is_supported = False
            if not self._answer.done():
                self._answer.set_result(None)

    async def _receive(self) -> Message:
        if not self._was_started:
            self._was_started = True
            return {"type": "lifespan.startup"}
        await self._stop
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._answer.done():
            return
        if kind.endswith(".failed"):
            verb = "startup" if "startup" in kind else "shutdown"
            words = _gist(message.get("message", "")) or "without a message"
            self._answer.set_exception(
                LifespanError(f"The {verb} of the app failed: {words}")
            )
        elif kind.endswith(".complete"):
            self._answer.set_result(None)


def _gist(message: str) -> str:
    """Return what a traceback says was raised; other messages as they are.

    Starlette sends the whole traceback. Groups have their lines behind a bar.
    """
    lines = [re.sub(r"^ *\| ", "", line) for line in message.splitlines()]
    frames = [at for at, line in enumerate(lines) if line.startswith("  File ")]
    if not frames:
        return message
    # The lines of code are indented, and what was raised may go on for several lines.
    raised = (line for line in lines[frames[-1] + 1 :] if line[:1].strip())
    return next(raised, message)
