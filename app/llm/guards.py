"""Everything that stands between a run and the model, in its order.

    cache -> budget -> retry -> slot of the user -> breaker -> model

Each is a class of its own that knows none of the others, and may be left out. An
answer from the cache costs neither budget nor slot; a call that waits to be retried
holds its budget and no slot; a call that the breaker refuses never reaches the model,
and costs nothing.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from app.context import UserExecutionContext
from app.llm.breaker import CircuitBreaker
from app.llm.budgets import Reservation, TokenBudgets
from app.llm.client import (
    ChatMessage,
    ModelBusyError,
    ModelClient,
    ModelNotAskedError,
    ModelRejectedError,
    Reply,
    ToolSpec,
)
from app.llm.limits import UserLimits
from app.llm.responses import ResponseCache
from app.llm.retry import Retry
from app.llm.wire import chat_request

_UNCHARGED = (ModelBusyError, ModelRejectedError, ModelNotAskedError)
"""What providers do not charge for: the model was not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelGuards:
    """The guards of one model, shared by all users; None leaves one out.

    Attributes:
        cache: Remembers answers, by user.
        budgets: Bounds what a user and a run may spend.
        retry: Comes back when the provider asks for it.
        limits: Shares the connections out between users.
        breaker: Leaves a provider that is down alone.
        max_reply_tokens: The longest answer the model is asked for, in tokens.
    """

    cache: ResponseCache | None = None
    budgets: TokenBudgets | None = None
    retry: Retry | None = None
    limits: UserLimits | None = None
    breaker: CircuitBreaker | None = None
    max_reply_tokens: int = 1024

    async def complete(
        self,
        model: ModelClient,
        context: UserExecutionContext,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec],
    ) -> Reply:
        """Return the model's next reply of a conversation, for the context's user.

        Raises:
            ModelError: The model does not answer, answers nonsense, or may not be
                asked: ``BudgetError``, ``CircuitOpenError``.
        """

        async def ask() -> Reply:
            async with self._reserved(context, messages, tools) as held:
                try:
                    reply = await self._ask(model, context, messages, tools)
                except _UNCHARGED:
                    held.used = 0
                    raise
                if reply.tokens is not None:
                    held.used = reply.tokens
                return reply

        if self.cache is None:
            return await ask()
        return await self.cache.get(context, messages, tools, ask)

    async def aclose(self) -> None:
        """End the calls that are under way."""
        if self.cache is not None:
            await self.cache.aclose()

    async def _ask(
        self,
        model: ModelClient,
        context: UserExecutionContext,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec],
    ) -> Reply:
        async def attempt() -> Reply:
            if self.breaker is not None:
                # Also before waiting: while it is open nobody queues for a slot.
                self.breaker.refuse_if_open()
            async with self._slot(context.user_id):
                with self._attempt():
                    return await model.complete(messages, tools=tools)

        if self.retry is None:
            return await attempt()
        return await self.retry.run(attempt)

    def _slot(self, user_id: str) -> contextlib.AbstractAsyncContextManager[None]:
        return (
            contextlib.nullcontext()
            if self.limits is None
            else self.limits.slot(user_id)
        )

    def _attempt(self) -> contextlib.AbstractContextManager[None]:
        return (
            contextlib.nullcontext() if self.breaker is None else self.breaker.attempt()
        )

    @contextlib.asynccontextmanager
    async def _reserved(
        self,
        context: UserExecutionContext,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec],
    ) -> AsyncIterator[Reservation]:
        if self.budgets is None:
            yield Reservation(0)
            return
        tokens = prompt_tokens(messages, tools) + self.max_reply_tokens
        async with self.budgets.reserved(context, tokens) as held:
            yield held


def prompt_tokens(messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> int:
    """Return what a prompt costs at most, in tokens, without the model's tokenizer.

    A token stands for one byte at least, so the bytes of the request bound them.
    """
    body = chat_request("", messages, tools, max_tokens=0, is_streamed=False)
    return len(json.dumps(body, ensure_ascii=False).encode())
