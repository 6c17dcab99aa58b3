"""Threads and their messages."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import cast, delete, func, insert, select, update

from app.context import UserExecutionContext
from app.storage.tables import messages, threads


@dataclass(frozen=True, slots=True)
class Thread:
    """A conversation of one user."""

    thread_id: str
    title: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a thread; ``role`` is ``user`` or ``agent``."""

    message_id: str
    thread_id: str
    role: str
    content: str
    created_at: datetime


_THREAD = (threads.c.id, threads.c.title, threads.c.created_at, threads.c.updated_at)
_MESSAGE = (
    messages.c.id,
    messages.c.thread_id,
    messages.c.role,
    messages.c.content,
    messages.c.created_at,
)


async def create_thread(
    context: UserExecutionContext, *, thread_id: str, title: str
) -> Thread:
    """Add a thread."""
    row = (
        await context.database.execute(
            insert(threads)
            .values(id=thread_id, user_id=context.user_id, title=title)
            .returning(*_THREAD)
        )
    ).one()
    await context.audit.record("thread.created", thread_id)
    return Thread(*row)


async def list_threads(context: UserExecutionContext, *, limit: int) -> list[Thread]:
    """Return the user's newest threads, newest first."""
    rows = await context.database.execute(
        select(*_THREAD)
        .where(threads.c.user_id == context.user_id)
        .order_by(threads.c.created_at.desc(), threads.c.id)
        .limit(limit)
    )
    return [Thread(*row) for row in rows]


async def find_thread(
    context: UserExecutionContext, thread_id: str, *, is_kept: bool = False
) -> Thread | None:
    """Return a thread, None when the user has no such thread.

    Args:
        context: Whose thread it is.
        thread_id: The thread.
        is_kept: Keep it from being deleted until the transaction ends, so that what
            is added next can refer to it.
    """
    wanted = select(*_THREAD).where(
        threads.c.id == thread_id, threads.c.user_id == context.user_id
    )
    if is_kept:
        wanted = wanted.with_for_update(read=True, key_share=True)
    row = (await context.database.execute(wanted)).first()
    return None if row is None else Thread(*row)


async def rename_thread(
    context: UserExecutionContext, thread_id: str, *, title: str
) -> Thread | None:
    """Change a title; None when the user has no such thread."""
    row = (
        await context.database.execute(
            update(threads)
            .where(threads.c.id == thread_id, threads.c.user_id == context.user_id)
            .values(title=title, updated_at=func.now())
            .returning(*_THREAD)
        )
    ).first()
    if row is None:
        return None
    await context.audit.record("thread.renamed", thread_id)
    return Thread(*row)


async def delete_thread(context: UserExecutionContext, thread_id: str) -> bool:
    """Delete a thread with its messages and runs; False when there is none."""
    deleted = (
        await context.database.execute(
            delete(threads)
            .where(threads.c.id == thread_id, threads.c.user_id == context.user_id)
            .returning(threads.c.id)
        )
    ).first()
    if deleted is None:
        return False
    await context.audit.record("thread.deleted", thread_id)
    return True


async def add_message(
    context: UserExecutionContext,
    thread_id: str,
    *,
    message_id: str,
    role: str,
    content: str,
) -> Message | None:
    """Append a message; None when the user has no such thread."""
    # One statement checks the thread and adds the message.
    own_thread = select(
        cast(message_id, messages.c.id.type),
        threads.c.user_id,
        threads.c.id,
        cast(role, messages.c.role.type),
        cast(content, messages.c.content.type),
    ).where(threads.c.id == thread_id, threads.c.user_id == context.user_id)
    # Locked against deletion, or a thread deleted at this instant is still found here
    # and the reference to it fails. And against other messages: positions are drawn
    # before the commit, so without waiting a later one could be read first, and the
    # earlier one would then appear before what a user has read already.
    own_thread = own_thread.with_for_update(key_share=True)
    row = (
        await context.database.execute(
            insert(messages)
            .from_select(["id", "user_id", "thread_id", "role", "content"], own_thread)
            .returning(*_MESSAGE)
        )
    ).first()
    if row is None:
        return None
    await context.audit.record("message.added", thread_id)
    return Message(*row)


async def list_messages(
    context: UserExecutionContext, thread_id: str, *, limit: int
) -> list[Message] | None:
    """Return a thread's first messages in order; None when there is no such thread."""
    rows = (
        await context.database.execute(
            select(*_MESSAGE)
            .where(
                messages.c.thread_id == thread_id,
                messages.c.user_id == context.user_id,
            )
            .order_by(messages.c.position)
            .limit(limit)
        )
    ).all()
    if not rows and await find_thread(context, thread_id) is None:
        return None
    return [Message(*row) for row in rows]
