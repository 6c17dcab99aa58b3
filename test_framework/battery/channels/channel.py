"""What a channel is: for tasks, and for threads and processes that block."""

from typing import Protocol, runtime_checkable


class Channel(Protocol):
    """What messages are sent into and received from, by many tasks at once.

    Calls are cancelled underway; see ``Cancelled`` for what that may cost. One that
    has to know its consumers before the first send has a coroutine function
    ``subscribe(consumer)`` as well; one that has to be given back, ``aclose()``.
    """

    async def send(self, message: str, to: int) -> None:
        """Send a message; return when the channel has it.

        Args:
            message: Letters, digits, dots and spaces.
            to: The consumer it is for; of no meaning where any consumer may have it.
        """
        ...

    async def receive(self, consumer: int) -> str:
        """Wait for a message and return it.

        Args:
            consumer: Who receives, from 0.
        """
        ...


@runtime_checkable
class BlockingChannel(Protocol):
    """A channel of threads or processes: its calls block, and give up by themselves.

    Giving up is to raise ``TimeoutError``, ``queue.Full`` or ``queue.Empty``.
    """

    def send(self, message: str, to: int, timeout_s: float) -> None:
        """Send a message, or give up."""
        ...

    def receive(self, consumer: int, timeout_s: float) -> str:
        """Wait for a message, or give up."""
        ...
