"""The interface of a model: chat messages in, text or tool calls out.

The shape is that of OpenAI's chat completions. A client keeps nothing between calls:
the conversation is an argument each time.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol


class ModelError(RuntimeError):
    """Raised when a model does not answer or answers nonsense: the model's fault."""


class ModelUnavailableError(ModelError):
    """Raised when the provider is down: unreachable, too slow, broken off, or a 5xx."""


class ModelRejectedError(ModelError):
    """Raised when the provider answers that this very request is wrong (a 4xx)."""


class ModelUnauthorizedError(ModelRejectedError):
    """Raised when the provider does not accept our credential (401)."""


class ModelNotAskedError(ModelError):
    """Raised instead of a request: nothing was sent, and nothing is known of the model."""


class ModelBusyError(ModelError):
    """Raised when the provider asks to come back later (429, or a dated 503).

    Attributes:
        retry_after_s: What it asked for, in seconds; None when it did not say.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        """Say ``message``; the request may be sent again after ``retry_after_s``."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelThrottledError(ModelBusyError):
    """Raised when the provider has had enough of this credential for now (429)."""


class KeysBusyError(ModelBusyError, ModelNotAskedError):
    """Raised instead of a request while the provider wants none with any of our keys."""


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
    """What the model answered: a final text, or tools to use first.

    Attributes:
        content: The text.
        tool_calls: Tools to use first.
        tokens: What the provider charged for the call, prompt and answer together;
            None when it did not say.
    """

    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: int | None = None


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


class StreamingModel(ModelClient, Protocol):
    """A model that can be watched while it answers."""

    def stream(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[str | Reply, None]:
        """Yield the pieces of the answer's text as they come, and the reply at last.

        The caller closes the generator (``contextlib.aclosing``) when it leaves early.

        Raises:
            ModelError: The model does not answer, answers nonsense, or breaks off.
        """
        ...
