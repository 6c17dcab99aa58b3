"""W03: interleaved frames.

alice                           bob
                                await framed.send(NAMES[user])
                                await self.socket.send(f"from {user}: ")
                                await external("send")
await framed.send(NAMES[user])
await self.socket.send(f"from {user}: ")
await external("send")
                                self.frames.append(frame)
                                await self.socket.send(f"hello, I am {user}")
                                await external("send")
self.frames.append(frame)
await self.socket.send(f"hello, I am {user}")
await external("send")
                                self.frames.append(frame)
self.frames.append(frame)
-> words of one user under the name of another
"""

import asyncio

from test_framework.catalogue.events import Socket
from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits


class _Framed:
    """Sends a message as two frames, which the reader joins."""

    def __init__(self) -> None:
        self.socket = Socket("carol")
        self.lock = asyncio.Lock()

    async def send(self, user: str) -> None:
        await self.socket.send(f"from {user}: ")
        await self.socket.send(f"hello, I am {user}")

    def messages(self) -> list[str]:
        frames = self.socket.frames
        return [a + b for a, b in zip(frames[::2], frames[1::2], strict=True)]


class _LockedFramed(_Framed):
    async def send(self, user: str) -> None:
        async with self.lock:
            await super().send(user)


async def _greet(framed: _Framed, user: int) -> None:
    await framed.send(NAMES[user])


def _said_by(framed: _Framed, user: int) -> list[str]:
    sender = f"from {NAMES[user]}: "
    return [said for said in framed.messages() if said.startswith(sender)]


def _frames_fit(framed: _Framed) -> None:
    for message in framed.messages():
        sender, _, greeter = message.removeprefix("from ").partition(": hello, I am ")
        assert sender == greeter, "words of one user under the name of another"


PATTERN = Pattern(
    id="W03",
    title="interleaved frames",
    mechanism=("Two tasks write a message of several frames to one socket at once."),
    fix="Let one task write, or hold a lock for the whole message.",
    areas=(Area.WEBSOCKET,),
    detectors=("explorer",),
    source="https://datatracker.ietf.org/doc/html/rfc6455#section-5.4",
    vulnerable=visits(_Framed, _greet, _frames_fit),
    safe=visits(_LockedFramed, _greet, _frames_fit),
    module=__name__,
    hosted=Hosted(shown=_said_by),
)
