"""Passages: documents cut into pieces that can be found by what they are about.

They are written and deleted in the transaction of their document, so a search never
shows what a document no longer says. Finding is done in the store, under row-level
security and the user's id; nothing is filtered here.

Embeddings come later, from a model that may be slow or down, and are kept by the
passage's id: a document that is replaced meanwhile has new passages with new ids, so
what was made of the old text finds nothing to be written to.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import uuid4

from sqlalchemy import TextClause, delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.context import UserExecutionContext
from app.storage.tables import passages

PASSAGE_CHARS = 800
LEAST_NEARNESS = 0.2
"""Cosine below which a passage is not about the question: chance alone gives about
one over the root of the dimensions, 0.125 for 64."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for.

    Attributes:
        words: Any of these words.
        model: What made the point; empty when there is none.
        point: The question's embedding.
    """

    words: tuple[str, ...]
    model: str = ""
    point: tuple[float, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found.

    Attributes:
        document_id: Its document.
        title: The document's title.
        position: Its number within the document, from 0.
        text: What it says.
        score: How well it fits; comparable within one answer only.
    """

    document_id: str
    title: str
    position: int
    text: str
    score: float


class Passages(Protocol):
    """A way to find passages."""

    @property
    def keeps_embeddings(self) -> bool:
        """Whether points are of any use."""
        ...

    async def search(
        self, context: UserExecutionContext, question: Question, *, limit: int
    ) -> list[Hit]:
        """Return the user's passages that fit best, best first."""
        ...

    async def without_embedding(
        self, context: UserExecutionContext, model: str, *, limit: int
    ) -> Mapping[str, str]:
        """Return texts by id of passages that have no embedding of this model."""
        ...

    async def keep_embeddings(
        self,
        context: UserExecutionContext,
        model: str,
        points: Mapping[str, tuple[float, ...]],
    ) -> None:
        """Keep embeddings by the ids of passages; ids that are gone are skipped."""
        ...


# The distance is asked only where one model made both points: others have other
# dimensions, which is an error, and a CASE is evaluated in its order.
_NEARNESS = """
CASE WHEN p.embedded_by = :model
    THEN 1 - (p.embedding <=> CAST(CAST(:point AS text) AS vector)) END
"""
_FIND = """
WITH question AS MATERIALIZED (
    SELECT string_agg('(' || plainto_tsquery('simple', word)::text || ')', ' | ')::tsquery
        AS words
    FROM unnest(CAST(:words AS text[])) AS word
    WHERE numnode(plainto_tsquery('simple', word)) > 0
), own AS (
    SELECT p.document_id, p.position, p.text, {nearness} AS nearness,
        ts_rank(p.words, question.words) AS rank, p.words @@ question.words AS has_word
    FROM passages p, question
    WHERE p.user_id = :user_id
)
SELECT own.document_id::text, d.title, own.position, own.text,
    coalesce(own.nearness, 0) + coalesce(own.rank, 0) AS score
FROM own JOIN documents d ON d.id = own.document_id AND d.user_id = :user_id
WHERE own.has_word OR own.nearness > :least
ORDER BY score DESC, own.document_id, own.position
LIMIT :limit
"""


class TextPassages:
    """Finds passages by their words."""

    keeps_embeddings = False

    async def search(
        self, context: UserExecutionContext, question: Question, *, limit: int
    ) -> list[Hit]:
        """Return the user's passages with any of the words, best first."""
        return await _find(context, _BY_WORDS, question, limit)

    async def without_embedding(
        self,
        context: UserExecutionContext,  # noqa: ARG002  # of the protocol
        model: str,  # noqa: ARG002  # as above
        *,
        limit: int,  # noqa: ARG002  # as above
    ) -> Mapping[str, str]:
        """Return nothing: no embedding is wanted."""
        return {}

    async def keep_embeddings(
        self,
        context: UserExecutionContext,
        model: str,
        points: Mapping[str, tuple[float, ...]],
    ) -> None:
        """Keep nothing."""


class VectorPassages:
    """Finds passages by their words and by their embeddings, with pgvector."""

    keeps_embeddings = True

    async def search(
        self, context: UserExecutionContext, question: Question, *, limit: int
    ) -> list[Hit]:
        """Return the user's passages with any of the words or near, best first."""
        if not any(question.point):
            return await _find(context, _BY_WORDS, question, limit)
        return await _find(
            context,
            _BY_BOTH,
            question,
            limit,
            model=question.model,
            point=_vector(question.point),
        )

    async def without_embedding(
        self, context: UserExecutionContext, model: str, *, limit: int
    ) -> Mapping[str, str]:
        """Return texts by id of the user's passages that await an embedding."""
        rows = await context.database.execute(
            select(passages.c.id, passages.c.text)
            .where(
                passages.c.user_id == context.user_id,
                passages.c.embedded_by.is_distinct_from(model),
            )
            .order_by(passages.c.id)
            .limit(limit)
        )
        return {row.id: row.text for row in rows}

    async def keep_embeddings(
        self,
        context: UserExecutionContext,
        model: str,
        points: Mapping[str, tuple[float, ...]],
    ) -> None:
        """Keep embeddings by the ids of passages; ids that are gone are skipped."""
        await context.database.execute(
            _KEEP,
            {
                "user_id": context.user_id,
                "model": model,
                # In one order, so that two writers of the same rows do not deadlock.
                "ids": sorted(points),
                # Nothing is near to a point without direction, so it is not kept.
                "points": [
                    _vector(points[one]) if any(points[one]) else None
                    for one in sorted(points)
                ],
            },
        )


async def open_passages(engine: AsyncEngine) -> Passages:
    """Return the way to find passages that this database has."""
    async with engine.connect() as connection:
        has_vectors = await connection.scalar(_HAS_VECTORS)
    return VectorPassages() if has_vectors else TextPassages()


def cut(body: str) -> Iterator[str]:
    """Yield a text in pieces of at most ``PASSAGE_CHARS``, cut between words.

    The pieces joined are the text; a word longer than a piece is cut itself.
    """
    start = 0
    while len(body) - start > PASSAGE_CHARS:
        end = start + PASSAGE_CHARS
        space = max(body.rfind(blank, start, end) for blank in " \n")
        end = end if space < start else space + 1
        yield body[start:end]
        start = end
    if start < len(body):
        yield body[start:]


async def write_passages(
    context: UserExecutionContext, document_id: str, body: str
) -> None:
    """Write the passages of a new document."""
    rows = [
        {
            "id": str(uuid4()),
            "user_id": context.user_id,
            "document_id": document_id,
            "position": position,
            "text": piece,
        }
        for position, piece in enumerate(cut(body))
    ]
    if rows:
        await context.database.execute(insert(passages), rows)


async def replace_passages(
    context: UserExecutionContext, document_id: str, body: str
) -> None:
    """Write a document's passages anew; the caller has locked the document's row."""
    await context.database.execute(
        delete(passages).where(
            passages.c.document_id == document_id,
            passages.c.user_id == context.user_id,
        )
    )
    await write_passages(context, document_id, body)


async def _find(
    context: UserExecutionContext,
    statement: TextClause,
    question: Question,
    limit: int,
    **more: str,
) -> list[Hit]:
    given = {
        "user_id": context.user_id,
        "words": list(question.words),
        "least": LEAST_NEARNESS,
        "limit": limit,
    }
    rows = await context.database.execute(statement, given | more)
    return [Hit(*row) for row in rows]


def _vector(point: tuple[float, ...]) -> str:
    return f"[{','.join(map(str, point))}]"


_BY_WORDS = text(_FIND.format(nearness="NULL::float8"))
_BY_BOTH = text(_FIND.format(nearness=_NEARNESS))
_KEEP = text(
    "UPDATE passages SET embedded_by = :model, embedding = CAST(new.point AS vector) "
    "FROM (SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:points AS text[])) "
    "AS given (id, point)) AS new "
    "WHERE passages.id = new.id AND passages.user_id = :user_id"
)
_HAS_VECTORS = text(
    "SELECT EXISTS (SELECT FROM pg_attribute WHERE attname = 'embedding' "
    "AND attrelid = 'passages'::regclass AND NOT attisdropped)"
)
