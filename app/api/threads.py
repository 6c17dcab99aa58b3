"""Threads and messages."""

from uuid import UUID

from fastapi import APIRouter, Response

from app.api.dependencies import PartsOf, Work
from app.api.problems import not_found
from app.api.schemas import Limit, NewMessage, NewThread
from app.storage import (
    Message,
    Thread,
    add_message,
    create_thread,
    delete_thread,
    find_thread,
    list_messages,
    list_threads,
    rename_thread,
)

router = APIRouter(prefix="/threads", tags=["threads"])


@router.get("")
async def get_threads(context: Work, limit: Limit = 100) -> list[Thread]:
    """List the newest threads."""
    return await list_threads(context, limit=limit)


@router.post("", status_code=201)
async def post_thread(
    new: NewThread, context: Work, parts: PartsOf, response: Response
) -> Thread:
    """Start a thread."""
    thread = await create_thread(
        context, thread_id=str(parts.new_id()), title=new.title
    )
    response.headers["location"] = f"/threads/{thread.thread_id}"
    return thread


@router.get("/{thread_id}")
async def get_thread(thread_id: UUID, context: Work) -> Thread:
    """Show a thread."""
    thread = await find_thread(context, str(thread_id))
    if thread is None:
        raise not_found("thread")
    return thread


@router.patch("/{thread_id}")
async def patch_thread(thread_id: UUID, new: NewThread, context: Work) -> Thread:
    """Rename a thread."""
    thread = await rename_thread(context, str(thread_id), title=new.title)
    if thread is None:
        raise not_found("thread")
    return thread


@router.delete("/{thread_id}", status_code=204)
async def remove_thread(thread_id: UUID, context: Work) -> None:
    """Delete a thread with its messages and runs."""
    if not await delete_thread(context, str(thread_id)):
        raise not_found("thread")


@router.get("/{thread_id}/messages")
async def get_messages(
    thread_id: UUID, context: Work, limit: Limit = 100
) -> list[Message]:
    """List the first messages of a thread, in order."""
    messages = await list_messages(context, str(thread_id), limit=limit)
    if messages is None:
        raise not_found("thread")
    return messages


@router.post("/{thread_id}/messages", status_code=201)
async def post_message(
    thread_id: UUID, new: NewMessage, context: Work, parts: PartsOf
) -> Message:
    """Add a message to a thread."""
    message = await add_message(
        context,
        str(thread_id),
        message_id=str(parts.new_id()),
        role="user",
        content=new.content,
    )
    if message is None:
        raise not_found("thread")
    return message
