"""The end of a run: what web frameworks leave to it ends there, as it would in a server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from test_framework.explore import Asgi
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.schedule import Fidelity
from test_framework.explore.schedulers import Stock


@pytest.mark.parametrize("fidelity", list(Fidelity))
def test_steps_come_between_rounds_of_callbacks_in_the_clean_up(
    fidelity: Fidelity,
) -> None:
    """A callback that queues itself until a task has ended does not starve the task."""

    async def reluctant() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(3):
                await asyncio.sleep(0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(reluctant())

        def chase() -> None:
            # What the cancel scope of anyio does.
            if not task.done():
                loop.call_soon(chase)

        await asyncio.sleep(0)
        task.cancel()
        chase()

    loop = ExplorationLoop(fidelity)
    loop.run(main(), Stock().begin)

    assert all(task.done() for task in loop.tasks)
    assert loop.left == []


@pytest.mark.parametrize("fidelity", list(Fidelity))
def test_middleware_with_call_next_ends_with_its_run(fidelity: Fidelity) -> None:
    """A run that ends in the middle of ``call_next`` leaves none of its tasks."""

    async def endpoint(_: Request) -> Response:
        await asyncio.Event().wait()
        return PlainTextResponse("never")

    async def middleware(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        return await call_next(request)

    app = Starlette(routes=[Route("/", endpoint)])
    app.add_middleware(BaseHTTPMiddleware, dispatch=middleware)
    loop = ExplorationLoop(fidelity)
    ends: list[Any] = []

    async def main() -> None:
        asgi = await Asgi(app).__aenter__()
        visit = asyncio.create_task(asgi.browser(0).get("/"))
        visit.add_done_callback(ends.append)
        await asyncio.sleep(1)
        raise ValueError("the scenario ends here")

    with pytest.raises(ValueError, match="ends here"):
        loop.run(main(), Stock().begin)

    assert "get[0]/GET //coro" in {loop.name(n) for n in range(len(loop.tasks))}
    assert len(ends) == 1
    assert all(task.done() for task in loop.tasks)
