"""Documents of a user."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, insert, or_, select, update

from app.context import UserExecutionContext
from app.storage.passages import replace_passages, write_passages
from app.storage.tables import documents


@dataclass(frozen=True, slots=True)
class DocumentSummary:
    """A document without its body."""

    document_id: str
    title: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Document:
    """A document."""

    document_id: str
    title: str
    body: str
    created_at: datetime
    updated_at: datetime


_SUMMARY = (
    documents.c.id,
    documents.c.title,
    documents.c.created_at,
    documents.c.updated_at,
)
_DOCUMENT = (
    documents.c.id,
    documents.c.title,
    documents.c.body,
    documents.c.created_at,
    documents.c.updated_at,
)


async def create_document(
    context: UserExecutionContext, *, document_id: str, title: str, body: str
) -> Document:
    """Add a document and its passages."""
    row = (
        await context.database.execute(
            insert(documents)
            .values(id=document_id, user_id=context.user_id, title=title, body=body)
            .returning(*_DOCUMENT)
        )
    ).one()
    await write_passages(context, document_id, body)
    await context.audit.record("document.created", document_id)
    return Document(*row)


async def list_documents(
    context: UserExecutionContext, *, limit: int
) -> list[DocumentSummary]:
    """Return the user's newest documents, newest first."""
    rows = await context.database.execute(
        select(*_SUMMARY)
        .where(documents.c.user_id == context.user_id)
        .order_by(documents.c.created_at.desc(), documents.c.id)
        .limit(limit)
    )
    return [DocumentSummary(*row) for row in rows]


async def find_document(
    context: UserExecutionContext, document_id: str
) -> Document | None:
    """Return a document, None when the user has no such document."""
    row = (
        await context.database.execute(
            select(*_DOCUMENT).where(
                documents.c.id == document_id, documents.c.user_id == context.user_id
            )
        )
    ).first()
    return None if row is None else Document(*row)


async def search_documents(
    context: UserExecutionContext, words: list[str], *, limit: int
) -> list[Document]:
    """Return the newest documents that contain any of the words, newest first."""
    if not words:
        return []
    anywhere = [
        column.icontains(word, autoescape=True)
        for word in words
        for column in (documents.c.title, documents.c.body)
    ]
    rows = await context.database.execute(
        select(*_DOCUMENT)
        .where(documents.c.user_id == context.user_id, or_(*anywhere))
        .order_by(documents.c.created_at.desc(), documents.c.id)
        .limit(limit)
    )
    return [Document(*row) for row in rows]


async def update_document(
    context: UserExecutionContext, document_id: str, *, title: str, body: str
) -> Document | None:
    """Replace a document and its passages; None when the user has no such document."""
    row = (
        await context.database.execute(
            update(documents)
            .where(
                documents.c.id == document_id, documents.c.user_id == context.user_id
            )
            .values(title=title, body=body, updated_at=func.now())
            .returning(*_DOCUMENT)
        )
    ).first()
    if row is None:
        return None
    await replace_passages(context, document_id, body)
    await context.audit.record("document.updated", document_id)
    return Document(*row)


async def delete_document(context: UserExecutionContext, document_id: str) -> bool:
    """Delete a document and its passages; False when there is none."""
    deleted = (
        await context.database.execute(
            delete(documents)
            .where(
                documents.c.id == document_id, documents.c.user_id == context.user_id
            )
            .returning(documents.c.id)
        )
    ).first()
    if deleted is None:
        return False
    await context.audit.record("document.deleted", document_id)
    return True
