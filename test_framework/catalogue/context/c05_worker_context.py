"""C05: worker keeps the context of its first user.

alice                           bob
                                current_user.set(NAMES[user])
                                await writer.submit(f"diary of {NAMES[user]}")
                                self.texts.append((current_user.get(), text))
                                if self.worker is None:
                                self.worker = asyncio.create_task(self.work())
                                await asyncio.wait({self.worker})
                                while self.texts:
                                user, text = self.texts.popleft()
                                await external("INSERT")
current_user.set(NAMES[user])
await writer.submit(f"diary of {NAMES[user]}")
self.texts.append((current_user.get(), text))
if self.worker is None:
await asyncio.wait({self.worker})
                                self.written.append((self.author(user), text))
                                return current_user.get()
                                while self.texts:
                                user, text = self.texts.popleft()
                                await external("INSERT")
                                self.written.append((self.author(user), text))
                                return current_user.get()
                                while self.texts:
                                self.worker = None
-> 'diary of alice' is signed by bob
"""

import asyncio
from collections import deque

from test_framework.catalogue.context import current_user
from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Writer:
    """A worker that is started when there is work and stops when there is none."""

    def __init__(self) -> None:
        self.texts: deque[tuple[str, str]] = deque()
        self.written: list[tuple[str, str]] = []
        self.worker: asyncio.Task[None] | None = None

    def author(self, user: str) -> str:  # noqa: ARG002  # the twin uses it
        return current_user.get()

    async def work(self) -> None:
        while self.texts:
            user, text = self.texts.popleft()
            await external("INSERT")
            self.written.append((self.author(user), text))
        self.worker = None

    async def submit(self, text: str) -> None:
        self.texts.append((current_user.get(), text))
        if self.worker is None:
            # create_task copies the context of whoever happens to call it.
            self.worker = asyncio.create_task(self.work())
        await asyncio.wait({self.worker})


class _NamingWriter(_Writer):
    def author(self, user: str) -> str:
        return user


async def _write(writer: _Writer, user: int) -> None:
    current_user.set(NAMES[user])
    await writer.submit(f"diary of {NAMES[user]}")


def _authors_of(writer: _Writer, user: int) -> list[str]:
    diary = f"diary of {NAMES[user]}"
    return [author for author, text in writer.written if text == diary]


def _authors_are_right(writer: _Writer) -> None:
    assert len(writer.written) == 2, "a text is lost"
    for author, text in writer.written:
        assert text == f"diary of {author}", f"{text!r} is signed by {author}"


PATTERN = Pattern(
    id="C05",
    title="worker keeps the context of its first user",
    mechanism=(
        "A worker that is started inside of a request has its ContextVars for as long "
        "as it lives, and works for others too."
    ),
    fix="Put the identity into the job.",
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "swarm"),
    source="https://docs.python.org/3/library/contextvars.html#asyncio-support",
    vulnerable=visits(_Writer, _write, _authors_are_right),
    safe=visits(_NamingWriter, _write, _authors_are_right),
    module=__name__,
    hosted=Hosted(shown=_authors_of),
)
