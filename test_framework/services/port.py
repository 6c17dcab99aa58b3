"""A TCP port of loopback that the workers of a service share.

Each worker listens on a socket of its own (``SO_REUSEPORT``: the kernel spreads the
connections). One more socket that does not listen holds the port, so that nobody else
gets it while no worker is alive; the kernel leads no connection to it.
"""

import contextlib
import errno
import socket
from collections.abc import Iterator

from test_framework.core import TargetError

HOST = "127.0.0.1"


class Port:
    """A port that is held; made by ``hold_port``.

    Attributes:
        number: The port.
    """

    def __init__(self, number: int) -> None:
        self.number = number

    def bind(self) -> socket.socket:
        """Return one more socket on the port, for a worker to listen on.

        Raises:
            TargetError: The port cannot be had.
        """
        bound = socket.socket()
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind((HOST, self.number))
        except OSError as exc:
            bound.close()
            raise _refusal(self.number, exc) from exc
        return bound


@contextlib.contextmanager
def hold_port(number: int) -> Iterator[Port]:
    """Yield a port that is ours for the length of the block.

    Args:
        number: TCP port; 0 takes a free one.

    Raises:
        TargetError: Somebody else has it.
    """
    if number:
        _require_free(number)
    with Port(number).bind() as holder:
        yield Port(holder.getsockname()[1])


def _require_free(number: int) -> None:
    # SO_REUSEPORT would let us share the port of another audit of the same user.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, number))
        except OSError as exc:
            raise _refusal(number, exc) from exc


def _refusal(number: int, exc: OSError) -> TargetError:
    reason = (
        "somebody else listens there" if exc.errno == errno.EADDRINUSE else exc.strerror
    )
    return TargetError(
        f"The service cannot listen on {HOST}:{number}: {reason}. Pass another "
        "--port, or none to take a free one."
    )
