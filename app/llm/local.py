"""A small planner that needs no network and gives the same answer every time.

It does what a model is used for here: it reads the goal, looks things up with the
tools it is offered, writes a note, and sums up what the tools returned.
"""

import re
from collections.abc import AsyncGenerator, Sequence

from app.llm.client import ChatMessage, Reply, ToolCall, ToolSpec

MAX_WORDS = 5
_EXCERPT_CHARS = 400
_WORD = re.compile(r"\w{3,}")
_FILLER = frozenset(
    [
        "about",
        "and",
        "all",
        "any",
        "find",
        "for",
        "from",
        "have",
        "into",
        "make",
        "notes",
        "our",
        "out",
        "passages",
        "over",
        "please",
        "read",
        "search",
        "show",
        "summarise",
        "summarize",
        "that",
        "the",
        "then",
        "this",
        "thread",
        "what",
        "where",
        "which",
        "who",
        "with",
        "write",
        "you",
        "your",
        "document",
        "documents",
    ]
)


def keywords(goal: str) -> list[str]:
    """Return the words of a goal that are worth a search: longest first, at most 5."""
    words = {word for word in _WORD.findall(goal) if word.lower() not in _FILLER}
    return sorted(words, key=lambda word: (-len(word), word))[:MAX_WORDS]


class LocalModel:
    """Plans in three turns: look up, write down, sum up. Holds no state."""

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> Reply:
        """Return the next reply, at no cost; a pure function of the conversation."""
        goal = next(m.content for m in reversed(messages) if m.role == "user")
        offered = {tool.name for tool in tools}
        used = {
            call.call_id: call.name
            for message in messages
            for call in message.tool_calls
        }
        if not used and (calls := _lookups(goal, offered)):
            return Reply("I look up what there is.", calls, tokens=0)
        summary = _summary(goal, messages, used)
        if "write_note" in offered - set(used.values()):
            note = ToolCall(f"call_{len(used) + 1}", "write_note", {"text": summary})
            return Reply("I write down what I found.", (note,), tokens=0)
        return Reply(summary, tokens=0)

    async def stream(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[str | Reply, None]:
        """Yield the next reply's text line by line, and the reply at last."""
        reply = await self.complete(messages, tools=tools)
        for line in reply.content.splitlines(keepends=True):
            yield line
        yield reply

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


def _lookups(goal: str, offered: set[str]) -> tuple[ToolCall, ...]:
    words = " ".join(keywords(goal))
    wanted = [
        ("search_passages", {"question": words})
        if "passage" in goal.lower() and "search_passages" in offered
        else ("search_documents", {"query": words}),
        ("read_thread", {}),
    ]
    return tuple(
        ToolCall(f"call_{number}", name, arguments)
        for number, (name, arguments) in enumerate(wanted, 1)
        if name in offered
    )


def _summary(goal: str, messages: Sequence[ChatMessage], used: dict[str, str]) -> str:
    lines = [f"Goal: {goal}"]
    for message in messages:
        tool = used.get(message.call_id or "")
        if message.role == "tool" and tool != "write_note":
            found = " ".join(message.content.split())
            lines.append(f"{tool}: {found[:_EXCERPT_CHARS] or 'nothing'}")
    return "\n".join(lines)
