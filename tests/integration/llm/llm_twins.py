"""The parts around a model with one protection removed each."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

from redis.asyncio import Redis
from sqlalchemy import select

from app.context import UserExecutionContext
from app.llm import (
    ChatMessage,
    Embedding,
    OpenAICompatibleEmbedder,
    Reply,
    Reservation,
    ResponseCache,
    SingleFlight,
    TokenBudgets,
    ToolSpec,
)
from app.llm.responses import Ask
from app.storage import Hit, Question, VectorPassages
from app.storage.tables import documents, passages


class KeyedWithoutUser(ResponseCache):
    """Joins the flight of whoever asks the same."""

    async def get(
        self,
        context: UserExecutionContext,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec],
        ask: Ask,
    ) -> Reply:
        async def look_or_ask() -> Reply:
            return await ResponseCache.get(self, context, messages, tools, ask)

        name = self._name(messages, tools)
        return await self._everybodys.join(name, look_or_ask)

    def __init__(self, *, model: str, ttl_s: int) -> None:
        super().__init__(model=model, ttl_s=ttl_s)
        self._everybodys: SingleFlight[str, Reply] = SingleFlight()


class SharedKeys(ResponseCache):
    """Keeps answers under keys that are the same for all users."""

    def __init__(self, redis: Redis, *, model: str, ttl_s: int) -> None:
        super().__init__(model=model, ttl_s=ttl_s)
        self._redis = redis

    async def get(
        self,
        context: UserExecutionContext,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec],
        ask: Ask,
    ) -> Reply:
        shared = SharedKeyspace(self._redis, context.user_id)
        return await super().get(
            replace(context, keyspace=shared), messages, tools, ask
        )


@dataclass(frozen=True, slots=True)
class SharedKeyspace:
    """A keyspace whose keys are the same for all users."""

    redis: Redis
    user_id: str

    async def get(self, name: str) -> bytes | None:
        value = await self.redis.get(f"u:all:{name}")
        return value.encode() if isinstance(value, str) else value

    async def set(self, name: str, value: bytes, *, ttl_s: int) -> None:
        await self.redis.set(f"u:all:{name}", value, ex=ttl_s)

    async def delete(self, *names: str) -> None:
        await self.redis.delete(*(f"u:all:{name}" for name in names))

    async def incr(self, name: str, *, ttl_s: int) -> int:
        assert ttl_s
        return int(await self.redis.incr(f"u:all:{name}"))


class ChecksThenCounts(TokenBudgets):
    """Looks whether there is room, and reserves in a second step."""

    async def _hold(
        self, context: UserExecutionContext, number: str, tokens: int
    ) -> None:
        key = f"u:{context.user_id}:tokens:held"
        held = int(await self._redis.get(key) or 0)
        if held + await self.spent(context) + tokens > self._user_tokens:
            await super()._hold(context, number, self._user_tokens + 1)
        await self._redis.incrby(key, tokens)


class ReservesWithoutAnId(TokenBudgets):
    """Learns the id of a reservation when it is made: too late for the cancelled."""

    @contextlib.asynccontextmanager
    async def reserved(
        self, context: UserExecutionContext, tokens: int
    ) -> AsyncIterator[Reservation]:
        number = await self.reserve(context, tokens)
        held = Reservation(tokens)
        try:
            yield held
        finally:
            await self.settle(context, number, held.used)


class KeepsDeadReservations(TokenBudgets):
    """Holds tokens for as long as nobody settles."""

    def __init__(self, redis: Redis, **options: int) -> None:
        super().__init__(redis, **{**options, "reserved_s": 100_000})


class FiltersAfterwards(VectorPassages):
    """Ranks the passages of all users and keeps the user's own.

    Under row-level security the query finds no others; this one's connections are not
    bound by it, as those of a service that filters for itself.
    """

    async def search(
        self, context: UserExecutionContext, question: Question, *, limit: int
    ) -> list[Hit]:
        found = await context.database.execute(
            select(
                passages.c.document_id,
                documents.c.title,
                passages.c.position,
                passages.c.text,
                passages.c.user_id,
            )
            .join(documents, documents.c.id == passages.c.document_id)
            .where(passages.c.text.icontains(question.words[0]))
            .order_by(passages.c.id)
            .limit(limit)
        )
        return [
            Hit(row.document_id, row.title, row.position, row.text, 1.0)
            for row in found
            if row.user_id == context.user_id
        ]


class KeepsByPosition(VectorPassages):
    """Keeps embeddings for the passages that stand where the old ones stood."""

    async def without_embedding(
        self, context: UserExecutionContext, model: str, *, limit: int
    ) -> Mapping[str, str]:
        rows = await context.database.execute(
            select(passages).where(passages.c.user_id == context.user_id).limit(limit)
        )
        assert model
        return {f"{row.document_id} {row.position}": row.text for row in rows}

    async def keep_embeddings(
        self,
        context: UserExecutionContext,
        model: str,
        points: Mapping[str, tuple[float, ...]],
    ) -> None:
        ids = {}
        for place, point in points.items():
            document_id, position = place.split()
            found = await context.database.scalar(
                select(passages.c.id).where(
                    passages.c.document_id == document_id,
                    passages.c.position == int(position),
                )
            )
            if found is not None:
                ids[str(found)] = point
        await super().keep_embeddings(context, model, ids)


class ReadsByPosition(OpenAICompatibleEmbedder):
    """Takes embeddings in the order in which the server lists them."""

    async def embed(self, texts: Sequence[str]) -> list[Embedding]:
        body = {"model": self.model, "input": list(texts)}
        answer = json.loads(await self._provider.fetch("/embeddings", body))
        return [tuple(entry["embedding"]) for entry in answer["data"]]
