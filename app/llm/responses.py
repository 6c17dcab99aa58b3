"""Answers of a model, kept for a while, each for the one user who got it.

The key is all that the answer depends on: the model, the messages and the tools. The
user is not a part of the key that could be forgotten: answers lie in the keyspace of the
context, which can name no other user's keys, and flights are kept by user. Two calls
of one user for the same answer at one time are one call, unless they are streams, which
look for what is kept and keep what was read to its end. Failures are not kept.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence

from app.context import UserExecutionContext
from app.llm.client import ChatMessage, Reply, ToolSpec
from app.llm.flight import SingleFlight
from app.llm.wire import NONSENSE, chat_request, dump_reply, load_reply

Ask = Callable[[], Awaitable[Reply]]


class ResponseCache:
    """Answers by user; they lie in Redis, so all workers share them."""

    def __init__(self, *, model: str, ttl_s: int) -> None:
        """Keep answers of ``model`` for ``ttl_s`` seconds."""
        self._model = model
        self._ttl_s = ttl_s
        self._flights: SingleFlight[tuple[str, str], Reply] = SingleFlight()

    async def get(
        self,
        context: UserExecutionContext,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec],
        ask: Ask,
    ) -> Reply:
        """Return the kept answer, or what ``ask`` returns.

        Raises:
            Exception: What ``ask`` raised.
        """
        name = self._name(messages, tools)

        async def look_or_ask() -> Reply:
            kept = await self.kept(context, messages, tools)
            if kept is not None:
                return kept
            reply = await ask()
            await self.keep(context, messages, tools, reply)
            return reply

        return await self._flights.join((context.user_id, name), look_or_ask)

    async def kept(
        self,
        context: UserExecutionContext,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec],
    ) -> Reply | None:
        """Return the kept answer, if there is one."""
        found = await context.keyspace.get(self._name(messages, tools))
        try:
            return None if found is None else load_reply(found)
        except NONSENSE:
            return None  # of another version of the service

    async def keep(
        self,
        context: UserExecutionContext,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec],
        reply: Reply,
    ) -> None:
        """Keep an answer, which must be whole."""
        name = self._name(messages, tools)
        await context.keyspace.set(name, dump_reply(reply), ttl_s=self._ttl_s)

    async def aclose(self) -> None:
        """End the calls that are under way."""
        await self._flights.aclose()

    def _name(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> str:
        body = chat_request(
            self._model, messages, tools, max_tokens=0, is_streamed=False
        )
        text = json.dumps(body, sort_keys=True)
        return f"model:{hashlib.sha256(text.encode()).hexdigest()}"
