"""Retrieval: a question in words becomes the user's passages that are about it.

Embeddings are asked for between transactions, so that no connection to the database
waits for a model: first what passages the user has without one, then their points,
then the search. A model that is down costs the nearness: words find passages alone.
"""

import asyncio
from collections.abc import Mapping, Sequence

from app.context import UserExecutionContext
from app.llm.batcher import MAX_ITEMS, MAX_WAIT_S, Batcher
from app.llm.breaker import CircuitBreaker
from app.llm.client import ModelError
from app.llm.embeddings import Embedder, Embedding
from app.storage import Hit, Passages, Question, SessionFactory, transaction

MAX_WORDS = 10
EMBEDDED_AT_ONCE = 256
_ROUNDS = 4


class BatchedEmbedder:
    """Puts the texts of all users into common requests to an embedder."""

    def __init__(
        self,
        embedder: Embedder,
        *,
        breaker: CircuitBreaker,
        max_items: int = MAX_ITEMS,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        """Ask ``embedder`` for up to ``max_items`` texts at once."""
        self.model = embedder.model
        self._embedder = embedder
        self._breaker = breaker
        self._batcher: Batcher[str, Embedding] = Batcher(
            self._process, max_items=max_items, max_wait_s=max_wait_s
        )

    async def embed(self, texts: Sequence[str]) -> list[Embedding]:
        """Return an embedding for each text, in their order.

        Raises:
            ModelError: The model refuses one of them, or does not answer.
        """
        # With exceptions: the first one must not leave the others running alone.
        found = await asyncio.gather(
            *(self._batcher.submit(text) for text in texts), return_exceptions=True
        )
        for one in found:
            if isinstance(one, BaseException):
                raise one
        return [one for one in found if not isinstance(one, BaseException)]

    async def aclose(self) -> None:
        """End what is under way."""
        await self._batcher.aclose()

    async def _process(self, texts: Mapping[int, str]) -> Mapping[int, Embedding]:
        numbers = list(texts)
        with self._breaker.attempt():
            points = await self._embedder.embed([texts[number] for number in numbers])
        return dict(zip(numbers, points, strict=True))


async def retrieve(
    context: UserExecutionContext,
    query: str,
    *,
    sessions: SessionFactory,
    passages: Passages,
    embedder: Embedder,
    limit: int,
) -> list[Hit]:
    """Return the passages of the context's user that fit a question, best first."""
    words = tuple(query.split()[:MAX_WORDS])
    question = Question(words)
    if passages.keeps_embeddings:
        try:
            point = await _point_of(context, query, sessions, passages, embedder)
            question = Question(words, embedder.model, point)
        except ModelError:
            pass  # found by words alone
    async with transaction(sessions, context) as reading:
        return await passages.search(reading, question, limit=limit)


async def _point_of(
    context: UserExecutionContext,
    query: str,
    sessions: SessionFactory,
    passages: Passages,
    embedder: Embedder,
) -> Embedding:
    """Return the question's embedding, once the user's passages have theirs."""
    point: Embedding = ()
    for _ in range(_ROUNDS):
        async with transaction(sessions, context) as reading:
            texts = await passages.without_embedding(
                reading, embedder.model, limit=EMBEDDED_AT_ONCE
            )
        asked = list(texts.values()) if point else [query, *texts.values()]
        points = await embedder.embed(asked)
        if not point:
            point, *points = points
        if texts:
            async with transaction(sessions, context) as writing:
                await passages.keep_embeddings(
                    writing,
                    embedder.model,
                    dict(zip(texts, points, strict=True)),
                )
        if len(texts) < EMBEDDED_AT_ONCE:
            break
    return point
