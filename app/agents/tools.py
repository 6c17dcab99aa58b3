"""The tools of an agent. Each works on the context's user and cannot name another."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

from app.context import UserExecutionContext
from app.llm import Embedder, ToolSpec, retrieve
from app.storage import (
    Passages,
    SessionFactory,
    add_message,
    list_messages,
    search_documents,
)

_MAX_HITS = 5
_MAX_MESSAGES = 50
_EXCERPT_CHARS = 500


class ToolError(RuntimeError):
    """Raised when a tool cannot do what was asked; the model is told the reason."""


@dataclass(frozen=True, slots=True)
class Tool:
    """Something an agent can do.

    Attributes:
        spec: How the model sees it.
        use: Does it, within the context's transaction, and returns a text.
        opens_sessions: Its context has no session, it opens its own: it waits for
            models, and nobody's connection may wait with it.
    """

    spec: ToolSpec
    use: Callable[[UserExecutionContext, Mapping[str, str]], Awaitable[str]]
    opens_sessions: bool = False


async def _search(context: UserExecutionContext, arguments: Mapping[str, str]) -> str:
    words = arguments.get("query", "").split()
    found = await search_documents(context, words, limit=_MAX_HITS)
    return "\n".join(f"{doc.title}: {doc.body[:_EXCERPT_CHARS]}" for doc in found)


async def _read(context: UserExecutionContext, _: Mapping[str, str]) -> str:
    thread_id = _thread_of(context)
    messages = await list_messages(context, thread_id, limit=_MAX_MESSAGES)
    if messages is None:
        problem = "The thread is gone."
        raise ToolError(problem)
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


async def _write(context: UserExecutionContext, arguments: Mapping[str, str]) -> str:
    message = await add_message(
        context,
        _thread_of(context),
        message_id=str(uuid4()),
        role="agent",
        content=arguments.get("text", ""),
    )
    if message is None:
        problem = "The thread is gone."
        raise ToolError(problem)
    return f"Noted as {message.message_id}."


def passage_search(
    sessions: SessionFactory, passages: Passages, embedder: Embedder
) -> Tool:
    """Return the tool that finds passages by what they are about."""

    async def search(
        context: UserExecutionContext, arguments: Mapping[str, str]
    ) -> str:
        found = await retrieve(
            context,
            arguments.get("question", ""),
            sessions=sessions,
            passages=passages,
            embedder=embedder,
            limit=_MAX_HITS,
        )
        return "\n".join(f"{hit.title}: {hit.text[:_EXCERPT_CHARS]}" for hit in found)

    spec = ToolSpec(
        "search_passages",
        "Find the passages of the user's documents that fit a question best.",
        {"question": "the question, in words"},
    )
    return Tool(spec, search, opens_sessions=True)


def _thread_of(context: UserExecutionContext) -> str:
    if context.thread_id is None:
        problem = "This work belongs to no thread."
        raise ToolError(problem)
    return context.thread_id


STANDARD_TOOLS = (
    Tool(
        ToolSpec(
            "search_documents",
            "Find the user's documents that contain any of some words.",
            {"query": "words, parted by spaces"},
        ),
        _search,
    ),
    Tool(ToolSpec("read_thread", "Read the messages of the current thread."), _read),
    Tool(
        ToolSpec(
            "write_note",
            "Write a message into the current thread.",
            {"text": "what to write"},
        ),
        _write,
    ),
)
