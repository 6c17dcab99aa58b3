"""Answers of a model, kept for a while, each for the one user who got it.

The key is all that the answer depends on: the model, the messages and the tools. The
user is not a part of the key that could be forgotten: answers lie in the keyspace of the
context, which can name no other user's keys, and flights are kept by user. Two calls
of one user for the same answer at one time are one call. Failures are not kept.
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
            kept = await context.keyspace.get(name)
            if kept is not None:
                try:
                    return load_reply(kept)
                except NONSENSE:
                    pass  # of another version of the service
            reply = await ask()
            await context.keyspace.set(name, dump_reply(reply), ttl_s=self._ttl_s)
            return reply

        return await self._flights.join((context.user_id, name), look_or_ask)

    async def aclose(self) -> None:
        """End the calls that are under way."""
        await self._flights.aclose()

    def _name(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> str:
        body = chat_request(
            self._model, messages, tools, max_tokens=0, is_streamed=False
        )
        text = json.dumps(body, sort_keys=True)
        return f"model:{hashlib.sha256(text.encode()).hexdigest()}"
