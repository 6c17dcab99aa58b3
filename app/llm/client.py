"""The interface of a model: chat messages in, text or tool calls out.

The shape is that of OpenAI's chat completions. A client keeps nothing between calls:
the conversation is an argument each time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol


class ModelError(RuntimeError):
    """Raised when a model does not answer or answers nonsense: the model's fault."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model's wish to use a tool."""

    call_id: str
    name: str
    arguments: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a conversation.

    Attributes:
        role: Who speaks.
        content: The text.
        tool_calls: Tools the assistant asked for.
        call_id: The call a tool's message answers.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it: each parameter is a text with a description."""

    name: str
    description: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model answered: a final text, or tools to use first."""

    content: str
    tool_calls: tuple[ToolCall, ...] = ()


class ModelClient(Protocol):
    """A model that can be asked."""

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> Reply:
        """Return the next reply of a conversation.

        Raises:
            ModelError: The model does not answer, or answers nonsense.
        """
        ...

    async def aclose(self) -> None:
        """Give back connections."""
        ...
