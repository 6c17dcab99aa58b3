"""C02: context of the last request on a kept-alive connection.

alice                bob                  worker
                                          current_user.set("")
                                          while True:
                                          token, answer = await self.requests.get()
answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
token = "" if user else NAMES[user]
connections.requests.put_nowait((token, answer))
got = await answer
                                          greeting = await self.handle(token)
                                          if token:
                                          current_user.set(token)
                                          await external("render")
                                          return f"hello, {current_user.get() or 'str...
                                          answer.set_result(greeting)
                                          while True:
                                          token, answer = await self.requests.get()
return got
                     answer: asyncio.Future[str] = asyncio.get_running_loop().create_...
                     token = "" if user else NAMES[user]
                     connections.requests.put_nowait((token, answer))
                     got = await answer
                                          greeting = await self.handle(token)
                                          if token:
                                          await external("render")
                                          return f"hello, {current_user.get() or 'str...
                                          answer.set_result(greeting)
                                          while True:
                                          token, answer = await self.requests.get()
-> a stranger is greeted: hello, alice
"""

import asyncio

from test_framework.catalogue.context import current_user
from test_framework.catalogue.pattern import ANY_ORDER, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Connections:
    """A proxy sends the requests of its users over one connection, served by a task."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[tuple[str, asyncio.Future[str]]] = asyncio.Queue()
        self.task = asyncio.create_task(self.serve())

    async def serve(self) -> None:
        current_user.set("")
        while True:
            token, answer = await self.requests.get()
            greeting = await self.handle(token)
            answer.set_result(greeting)

    async def handle(self, token: str) -> str:
        if token:
            current_user.set(token)
        await external("render")
        return f"hello, {current_user.get() or 'stranger'}"


class _ResettingConnections(_Connections):
    async def handle(self, token: str) -> str:
        before = current_user.set(token)
        try:
            return await super().handle(token)
        finally:
            current_user.reset(before)


async def _greet(connections: _Connections, user: int) -> str:
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    token = "" if user else NAMES[user]
    connections.requests.put_nowait((token, answer))
    got = await answer
    assert got == f"hello, {token or 'stranger'}", f"a stranger is greeted: {got}"
    return got


PATTERN = Pattern(
    id="C02",
    title="context of the last request on a kept-alive connection",
    mechanism=(
        "One task serves all requests of a connection, and a ContextVar that one "
        "request has set is still set when the next one, which brings none, is served."
    ),
    fix="Reset what was set in finally, or run each request in a context of its own.",
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "swarm"),
    source="https://github.com/encode/starlette/issues/2335",
    vulnerable=visits(_Connections, _greet),
    safe=visits(_ResettingConnections, _greet),
    module=__name__,
    needs=ANY_ORDER,
    hosted=Hosted(),
)
