"""Documents; the list is cached in the user's keyspace.

The cached list carries the version of the user's documents in its key. A write commits
first and then raises the version, and a reader asks for the version before it reads
the rows; so rows read before a commit are never kept under the version after it.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from app.api.dependencies import PartsOf, Plain, Work
from app.api.openapi import text_answer
from app.api.parts import Parts
from app.api.problems import not_found
from app.api.schemas import Limit, NewDocument, Text
from app.context import UserExecutionContext
from app.storage import (
    Document,
    DocumentSummary,
    create_document,
    delete_document,
    find_document,
    list_documents,
    search_documents,
    transaction,
    update_document,
)

CHUNK_CHARS = 16_384
_CACHED_S = 60
# Longer than any cached list lives, so a version that expires meets no old list.
_VERSION_S = 86_400
_VERSION = "documents:version"
_SUMMARIES = TypeAdapter(list[DocumentSummary])

# Ids are matched as such, or ``PUT /documents/search`` would be a document of that id.
router = APIRouter(prefix="/documents", tags=["documents"])


@router.get("", response_model=list[DocumentSummary])
async def get_documents(context: Plain, parts: PartsOf, limit: Limit = 100) -> Response:
    """List the newest documents, without their bodies."""
    version = int(await context.keyspace.get(_VERSION) or 0)
    name = f"documents:list:{version}:{limit}"
    listing = await context.keyspace.get(name)
    if listing is None:
        async with transaction(parts.sessions, context) as reading:
            found = await list_documents(reading, limit=limit)
        listing = _SUMMARIES.dump_json(found)
        await context.keyspace.set(name, listing, ttl_s=_CACHED_S)
    return Response(listing, media_type="application/json")


@router.post("", status_code=201)
async def post_document(
    new: NewDocument, context: Work, parts: PartsOf, response: Response
) -> Document:
    """Keep a document."""
    document = await create_document(
        context, document_id=str(parts.new_id()), title=new.title, body=new.body
    )
    await forget_cached(context)
    response.headers["location"] = f"/documents/{document.document_id}"
    return document


@router.get("/search")
async def get_search(
    context: Work,
    q: Annotated[Text, Query(min_length=1, max_length=500)],
    limit: Limit = 20,
) -> list[Document]:
    """Find the newest documents that contain any of the words."""
    return await search_documents(context, q.split()[:10], limit=limit)


@router.get("/{document_id:uuid}")
async def get_document(document_id: UUID, context: Work) -> Document:
    """Show a document."""
    document = await find_document(context, str(document_id))
    if document is None:
        raise not_found("document")
    return document


@router.put("/{document_id:uuid}")
async def put_document(document_id: UUID, new: NewDocument, context: Work) -> Document:
    """Replace a document."""
    document = await update_document(
        context, str(document_id), title=new.title, body=new.body
    )
    if document is None:
        raise not_found("document")
    await forget_cached(context)
    return document


@router.delete("/{document_id:uuid}", status_code=204)
async def remove_document(document_id: UUID, context: Work) -> None:
    """Delete a document."""
    if not await delete_document(context, str(document_id)):
        raise not_found("document")
    await forget_cached(context)


@router.get(
    "/{document_id:uuid}/content",
    response_class=StreamingResponse,
    responses=text_answer("text/plain"),
)
async def get_content(
    document_id: UUID, context: Plain, parts: PartsOf
) -> StreamingResponse:
    """Stream a document's body as text."""
    chunks = _read_chunks(parts, context, str(document_id))
    # Started here, so that a missing document is a 404 and not a broken stream.
    first = await anext(chunks, None)
    if first is None:
        raise not_found("document")
    return StreamingResponse(
        _encode(first, chunks), media_type="text/plain; charset=utf-8"
    )


async def forget_cached(context: UserExecutionContext) -> None:
    """Commit the context's work, then make the user's cached lists unreachable.

    A request that is cancelled meanwhile ends after both: in between, the old list would
    be shown until it expires.
    """
    await to_its_end(commit_and_forget(context))


async def commit_and_forget(context: UserExecutionContext) -> None:
    """Do what ``forget_cached`` does, but end in between when cancelled."""
    await context.database.commit()
    await context.keyspace.incr(_VERSION, ttl_s=_VERSION_S)


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await some work that a cancellation must not cut in two."""
    # Not only shielded: the request's session, which the work uses, is closed as soon
    # as the request ends.
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled from task.exception()
    task.result()


async def _read_chunks(
    parts: Parts, context: UserExecutionContext, document_id: str
) -> AsyncIterator[str]:
    # The session is the stream's own and ends before the first chunk goes out: a slow
    # reader must not keep a connection that other users wait for.
    async with transaction(parts.sessions, context) as reading:
        document = await find_document(reading, document_id)
    if document is None:
        return
    for start in range(0, max(len(document.body), 1), CHUNK_CHARS):
        yield document.body[start : start + CHUNK_CHARS]


async def _encode(first: str, rest: AsyncIterator[str]) -> AsyncIterator[bytes]:
    yield first.encode()
    async for chunk in rest:
        yield chunk.encode()
