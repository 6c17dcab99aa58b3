"""Models behind OpenAI-compatible endpoints: chat completions and embeddings.

Knows the wire and nothing else: who may ask how often stands in ``guards``, connections
are those of ``pool``.
"""

import json
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import TypeVar

from app.llm.client import ChatMessage, ModelUnavailableError, Reply, ToolSpec
from app.llm.embeddings import Embedding
from app.llm.pool import unusable
from app.llm.provider import Provider
from app.llm.wire import (
    DONE,
    NONSENSE,
    StreamedReply,
    chat_request,
    read_embeddings,
    read_reply,
)

MAX_REPLY_TOKENS = 1024
_CHAT = "/chat/completions"
_DATA = "data:"
_T = TypeVar("_T")


class OpenAICompatibleModel:
    """Asks a remote model; keeps no conversation."""

    def __init__(
        self,
        provider: Provider,
        *,
        model: str,
        max_reply_tokens: int = MAX_REPLY_TOKENS,
    ) -> None:
        """Ask ``model`` for at most ``max_reply_tokens`` an answer."""
        self._provider = provider
        self._model = model
        self._max_reply_tokens = max_reply_tokens

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> Reply:
        """Return the remote model's next reply.

        Raises:
            ModelError: It cannot be reached, refuses, or answers nonsense.
        """
        body = self._body(messages, tools, is_streamed=False)
        answer = await self._provider.fetch(_CHAT, body)
        return _read(self._provider, lambda: read_reply(json.loads(answer)))

    async def stream(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[str | Reply, None]:
        """Yield the pieces of the text as they come, and the reply at last.

        The stream must end with ``[DONE]``; one that ends before was cut.

        Raises:
            ModelError: It cannot be reached, refuses, answers nonsense or breaks off.
        """
        body = self._body(messages, tools, is_streamed=True)
        reply, events, is_done = StreamedReply(), _Events(), False
        async with self._provider.exchange(_CHAT, body) as pieces:
            async for piece in pieces:
                for data in events.add(piece):
                    if is_done:
                        raise unusable(self._provider.host, "it goes on after its end")
                    if data == DONE:
                        is_done = True
                    elif text := self._take(reply, data):
                        yield text
        if not is_done:
            raise unusable(
                self._provider.host, "the stream was cut", ModelUnavailableError
            )
        yield _read(self._provider, reply.whole)

    async def aclose(self) -> None:
        """Do nothing: the connections are the pool's."""

    def _take(self, reply: StreamedReply, data: str) -> str:
        return _read(self._provider, lambda: reply.add(json.loads(data)))

    def _body(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec],
        *,
        is_streamed: bool,
    ) -> dict[str, object]:
        return chat_request(
            self._model,
            messages,
            tools,
            max_tokens=self._max_reply_tokens,
            is_streamed=is_streamed,
        )


class OpenAICompatibleEmbedder:
    """Asks a remote model for embeddings, all texts in one request."""

    def __init__(self, provider: Provider, *, model: str) -> None:
        """Ask ``model``."""
        self._provider = provider
        self.model = model

    async def embed(self, texts: Sequence[str]) -> list[Embedding]:
        """Return an embedding for each text, in their order.

        Raises:
            ModelError: It cannot be reached, refuses, or answers nonsense.
        """
        body = {"model": self.model, "input": list(texts)}
        answer = await self._provider.fetch("/embeddings", body)
        return _read(
            self._provider,
            lambda: read_embeddings(json.loads(answer), count=len(texts)),
        )


def _read(provider: Provider, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except NONSENSE as exc:
        raise unusable(provider.host, type(exc).__name__) from exc


class _Events:
    """Cuts a stream into the data of server-sent events, each of which is one line here.

    A line that was begun and not ended is no event (WHATWG HTML, section 9.2.6).
    """

    def __init__(self) -> None:
        self._rest = b""

    def add(self, piece: bytes) -> Iterator[str]:
        """Yield the data of events that are whole now."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").strip()
            if text.startswith(_DATA):
                yield text.removeprefix(_DATA).strip()
