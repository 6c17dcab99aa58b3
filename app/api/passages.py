"""Passages of the user's documents, found by what they are about."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.dependencies import PartsOf, Plain
from app.api.schemas import Limit, Text
from app.llm import retrieve
from app.storage import Hit

router = APIRouter(prefix="/documents", tags=["documents"])


@router.get("/passages")
async def get_passages(
    context: Plain,
    parts: PartsOf,
    q: Annotated[Text, Query(min_length=1, max_length=500)],
    limit: Limit = 20,
) -> list[Hit]:
    """Find the passages that fit the question best, by words and by embedding."""
    return await retrieve(
        context,
        q,
        sessions=parts.sessions,
        passages=parts.passages,
        embedder=parts.embedder,
        limit=limit,
    )
