"""Everything that stands between a run and the model, in its order.

    cache -> budget -> retry -> slot of the user -> breaker -> model

Each is a class of its own that knows none of the others, and may be left out. An
answer from the cache costs neither budget nor slot; a call that waits to be retried
holds its budget and no slot; a call that the breaker refuses never reaches the model,
and costs nothing.

A stream is one call. It holds its slot until it has ended or was left, and its end is
what the breaker counts: the reply at last is an answer, a broken stream a failure, and
one that its reader leaves is neither. It is tried again as any call is until its first
piece was handed out, and never after: the reader would see the beginning twice.
"""

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

from app.context import UserExecutionContext
from app.llm.breaker import CircuitBreaker
from app.llm.budgets import Reservation, TokenBudgets
from app.llm.client import (
    ChatMessage,
    ModelBusyError,
    ModelClient,
    ModelError,
    ModelNotAskedError,
    ModelRejectedError,
    Reply,
    StreamingModel,
    ToolSpec,
)
from app.llm.limits import UserLimits
from app.llm.responses import ResponseCache
from app.llm.retry import Retry
from app.llm.wire import chat_request

_UNCHARGED = (ModelBusyError, ModelRejectedError, ModelNotAskedError)
"""What providers do not charge for: the model was not asked."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """A stream that has begun.

    Attributes:
        first: What came first; None when it ended at once.
        rest: The rest of it.
        stack: Ends it and gives back what it holds.
    """

    first: str | Reply | None
    rest: AsyncGenerator[str | Reply, None]
    stack: contextlib.AsyncExitStack


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

                async def attempt() -> Reply:
                    async with self._attempt(context, held):
                        reply = await model.complete(messages, tools=tools)
                        if reply.tokens is not None:
                            held.used = reply.tokens
                        return reply

                if self.retry is None:
                    return await attempt()
                return await self.retry.run(attempt)

        if self.cache is None:
            return await ask()
        return await self.cache.get(context, messages, tools, ask)

    async def stream(
        self,
        model: StreamingModel,
        context: UserExecutionContext,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec],
    ) -> AsyncGenerator[str | Reply, None]:
        """Yield the pieces of the answer's text as they come, and the reply at last.

        The reply comes when all that the call held was given back, so who stops reading
        at it leaves nothing. Who leaves earlier closes the generator
        (``contextlib.aclosing``); one that is dropped instead is closed by the event
        loop, in a task of its own, as soon as Python collects it.

        What is spent is what the provider says. Of a stream that broke off or was left
        after its first piece it is the bound of the prompt and of the text that came;
        before the first piece nobody can tell, and all that was reserved is.
        A kept answer comes in one piece. Two streams of one question are two calls: each
        has a reader of its own, who may leave.

        Raises:
            ModelError: As for ``complete``, and when the answer breaks off.
        """
        if self.cache is not None:
            kept = await self.cache.kept(context, messages, tools)
            if kept is not None:
                if kept.content:
                    yield kept.content
                yield kept
                return
        asked = self._ask(model, context, messages, tools)
        async with contextlib.aclosing(asked):
            async for piece in asked:
                if self.cache is not None and isinstance(piece, Reply):
                    await self.cache.keep(context, messages, tools, piece)
                yield piece

    async def aclose(self) -> None:
        """End the calls that are under way."""
        if self.cache is not None:
            await self.cache.aclose()

    async def _ask(
        self,
        model: StreamingModel,
        context: UserExecutionContext,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec],
    ) -> AsyncGenerator[str | Reply, None]:
        prompt = prompt_tokens(messages, tools)
        async with self._reserved(context, messages, tools) as held:

            async def begin() -> _Begun:
                async with contextlib.AsyncExitStack() as stack:
                    await stack.enter_async_context(self._attempt(context, held))
                    pieces = await stack.enter_async_context(
                        contextlib.aclosing(model.stream(messages, tools=tools))
                    )
                    return _Begun(await anext(pieces, None), pieces, stack.pop_all())

            begun = await (begin() if self.retry is None else self.retry.run(begin))
            async with begun.stack:
                piece, received = begun.first, 0
                while isinstance(piece, str):
                    received += len(piece.encode())
                    held.used = min(held.tokens, prompt + received)
                    yield piece
                    piece = await anext(begun.rest, None)
                if piece is None:
                    message = "The model's stream ended without a reply. Try again."
                    raise ModelError(message)
                held.used = held.tokens if piece.tokens is None else piece.tokens
        yield piece

    @contextlib.asynccontextmanager
    async def _attempt(
        self, context: UserExecutionContext, held: Reservation
    ) -> AsyncIterator[None]:
        """Ask the model once in the block; it costs all that is held, if it is asked."""
        if self.breaker is not None:
            # Also before waiting: while it is open nobody queues for a slot.
            self.breaker.refuse_if_open()
        async with self._slot(context.user_id):
            with self._circuit():
                held.used = held.tokens
                try:
                    yield
                except _UNCHARGED:
                    held.used = 0
                    raise

    def _slot(self, user_id: str) -> contextlib.AbstractAsyncContextManager[None]:
        return (
            contextlib.nullcontext()
            if self.limits is None
            else self.limits.slot(user_id)
        )

    def _circuit(self) -> contextlib.AbstractContextManager[None]:
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
            held.used = 0  # nobody was asked so far
            yield held


def prompt_tokens(messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> int:
    """Return what a prompt costs at most, in tokens, without the model's tokenizer.

    A token stands for one byte at least, so the bytes of the request bound them.
    """
    body = chat_request("", messages, tools, max_tokens=0, is_streamed=False)
    return len(json.dumps(body, ensure_ascii=False).encode())
