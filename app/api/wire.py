"""The server's side of a WebSocket connection, bounded: ``uvicorn --ws``.

An application can bound what it sends, but not what becomes of a connection that it has
closed. Uvicorn closes one in good order: it stays, with its buffers and its file, until
the client has read what is in them. A client that never reads, or whose host is gone,
keeps it for as long as it likes. Here it is broken off after a while. When the service
stops, clients are told so in words.

    uvicorn app.main:create_app --factory --ws app.api.wire:BoundedWebSocket
"""

import socket
import struct

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

GO_AWAY_S = 5.0
"""A connection that is being closed is broken off after so long."""
SERVICE_RESTART = 1012
_AT_ONCE = struct.pack("ii", 1, 0)
STOPPING = "The service stops. Come back, to another worker."


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A connection that ends, whatever its client does."""

    async def run_asgi(self) -> None:
        """Serve the connection, and see to it that it goes away."""
        try:
            await super().run_asgi()
        finally:
            self._break_off_later()

    def keepalive_timeout(self) -> None:
        """Close a connection whose client has not answered a ping."""
        super().keepalive_timeout()
        self._break_off_later()

    def shutdown(self) -> None:
        """Tell the client that the service stops."""
        if self.handshake_complete and not self.close_sent:
            self.stop_keepalive()
            disconnect = {"type": "websocket.disconnect", "code": SERVICE_RESTART}
            self.queue.put_nowait(disconnect)  # type: ignore[arg-type]  # its own TypedDict
            self.conn.send_close(SERVICE_RESTART, STOPPING)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.transport.close()
        else:
            super().shutdown()
        self._break_off_later()

    def _break_off_later(self) -> None:
        self.loop.call_later(GO_AWAY_S, self._break_off)

    def _break_off(self) -> None:
        if self.disconnected:
            return
        # Without it the kernel goes on offering what is in its buffer, some megabytes, to
        # a client that does not take it.
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()
