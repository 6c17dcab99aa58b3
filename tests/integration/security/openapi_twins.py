"""Siblings of the service with one endpoint that fuzzing must find fault with."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, FastAPI, Query, Response

from app.api.dependencies import PartsOf, Work
from app.api.documents import get_document, get_search, post_document
from app.api.schemas import Limit, NewDocument, Text
from app.main import create_app
from app.settings import Settings
from app.storage import Document
from tests.e2e.sabotage.overriding import override


def create_ownerless(settings: Settings) -> FastAPI:
    """Shows a document, and deletes a thread, for whoever knows its id (CWE-639)."""
    router = APIRouter(include_in_schema=False)
    kept: dict[UUID, Document] = {}

    @router.post("/documents", status_code=201)
    async def post(
        new: NewDocument, context: Work, parts: PartsOf, response: Response
    ) -> Document:
        document = await post_document(new, context, parts, response)
        kept[UUID(document.document_id)] = document
        return document

    @router.get("/documents/{document_id:uuid}")
    async def get(document_id: UUID, context: Work) -> Document:
        if document_id in kept:
            return kept[document_id]
        return await get_document(document_id, context)

    @router.delete("/threads/{thread_id}", status_code=204)
    async def delete(thread_id: UUID, context: Work) -> None:
        # As one that deletes it would answer, whosever it is.
        del thread_id, context

    return override(create_app(settings), router)


def create_brittle(settings: Settings) -> FastAPI:
    """Fails at a search for text that is not ASCII."""
    router = APIRouter(include_in_schema=False)

    @router.get("/documents/search")
    async def search(
        context: Work,
        q: Annotated[Text, Query(min_length=1, max_length=500)],
        limit: Limit = 20,
    ) -> list[Document]:
        q.encode("ascii")
        return await get_search(context, q, limit)

    return override(create_app(settings), router)


def create_untold(settings: Settings) -> FastAPI:
    """Lets anybody in, though the document says that a token is asked for."""
    router = APIRouter(include_in_schema=False)

    @router.get("/me")
    async def me() -> dict[str, str]:
        return {"user_id": "?", "username": "?", "created_at": "?"}

    return override(create_app(settings), router)
