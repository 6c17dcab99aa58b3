"""The guards of a stream with one protection removed each."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from app.context import UserExecutionContext
from app.llm import (
    ChatMessage,
    ModelBusyError,
    ModelGuards,
    Reply,
    Reservation,
    StreamingModel,
    TokenBudgets,
    ToolSpec,
)
from tests.unit.app.parts import Ledger


class LetsGoOfTheSlot(ModelGuards):
    """Gives the slot back when the stream has begun, as if that were the call."""

    @contextlib.asynccontextmanager
    async def _slot(self, user_id: str) -> AsyncIterator[None]:
        async with ModelGuards._slot(self, user_id):
            pass
        yield


class RepeatsTheBeginning(ModelGuards):
    """Begins a stream again that broke off after pieces were handed out."""

    async def stream(
        self,
        model: StreamingModel,
        context: UserExecutionContext,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec],
    ) -> AsyncGenerator[str | Reply, None]:
        while True:
            stream = ModelGuards.stream(self, model, context, messages, tools=tools)
            try:
                async with contextlib.aclosing(stream):
                    async for piece in stream:
                        yield piece
            except ModelBusyError:
                continue
            return


class SettlesGoodEndsOnly(TokenBudgets):
    """Settles when the call is over, and knows no other end than the good one."""

    @contextlib.asynccontextmanager
    async def reserved(
        self, context: UserExecutionContext, tokens: int
    ) -> AsyncIterator[Reservation]:
        number = await self.reserve(context, tokens)
        held = Reservation(tokens)
        yield held
        await self.settle(context, number, held.used)


class ForgetfulLedger(Ledger):
    """A ledger that settles good ends only."""

    @contextlib.asynccontextmanager
    async def reserved(
        self,
        context: UserExecutionContext,  # noqa: ARG002  # of the protocol
        tokens: int,
    ) -> AsyncIterator[Reservation]:
        self.open += 1
        held = Reservation(tokens)
        yield held
        self.open -= 1
        self.charged.append((tokens, held.used))


_LATEST: list[str | Reply] = []


class SharesItsBuffer(ModelGuards):
    """Keeps the piece to hand out where all streams keep theirs."""

    async def stream(
        self,
        model: StreamingModel,
        context: UserExecutionContext,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec],
    ) -> AsyncGenerator[str | Reply, None]:
        stream = ModelGuards.stream(self, model, context, messages, tools=tools)
        async with contextlib.aclosing(stream):
            async for piece in stream:
                _LATEST[:] = [piece]
                await asyncio.sleep(0.001)
                yield _LATEST[0]
