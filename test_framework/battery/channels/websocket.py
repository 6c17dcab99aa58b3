"""A channel of WebSockets: a hub on this machine that passes messages on."""

import contextlib
import json
from typing import Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve

from test_framework.check.channels import Order, Promise


class WebSocketChannel:
    """A hub between sockets of producers and sockets of consumers.

    A producer's send returns when the hub has written the message to the socket of its
    consumer. Cancelling a receive of ``websockets`` takes nothing.
    """

    promise = Promise(order=Order.FIFO, is_addressed=True)

    def __init__(self) -> None:
        self._server: Server | None = None
        self.inboxes: dict[int, ServerConnection] = {}
        self._consumers: dict[int, ClientConnection] = {}
        self._idle: list[ClientConnection] = []
        self._producers: list[ClientConnection] = []

    async def open(self) -> Self:
        """Start the hub; what makes the channel awaits it."""
        self._server = await serve(self._attend, "127.0.0.1", 0, compression=None)
        return self

    async def _connect(self, path: str) -> ClientConnection:
        if self._server is None:
            await self.open()
        server = self._server
        port = next(iter(server.sockets)).getsockname()[1] if server else 0
        return await connect(
            f"ws://127.0.0.1:{port}/{path}", compression=None, proxy=None
        )

    async def _attend(self, socket: ServerConnection) -> None:
        path = socket.request.path if socket.request else ""
        if path != "/producer":
            consumer = int(path.rpartition("/")[2])
            self.inboxes[consumer] = socket
            await socket.send("ready")
            await socket.wait_closed()
            return
        async for frame in socket:
            to, message = json.loads(frame)
            await self.deliver(message, to)
            await socket.send("done")

    async def deliver(self, message: str, to: int) -> None:
        """Write a message to the socket of its consumer; in the hub."""
        await self.inboxes[to].send(message)

    async def subscribe(self, consumer: int) -> None:
        """Connect a consumer."""
        socket = await self._connect(f"consumer/{consumer}")
        await socket.recv()
        self._consumers[consumer] = socket

    async def send(self, message: str, to: int) -> None:
        """Hand it to the hub over a connection that nobody uses now."""
        socket = self._idle.pop() if self._idle else await self._connect("producer")
        self._producers.append(socket)
        # One that was cancelled may still be owed an answer: it is not used again.
        await socket.send(json.dumps([to, message]))
        await socket.recv()
        self._producers.remove(socket)
        self._idle.append(socket)

    async def receive(self, consumer: int) -> str:
        """Return the next frame."""
        return str(await self._consumers[consumer].recv())

    async def aclose(self) -> None:
        """Close every socket, then the hub."""
        for socket in (*self._consumers.values(), *self._idle, *self._producers):
            with contextlib.suppress(OSError):
                await socket.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
