"""Model clients: one interface, answered locally or by an OpenAI-compatible server."""

from app.llm.client import (
    ChatMessage,
    ModelClient,
    ModelError,
    Reply,
    ToolCall,
    ToolSpec,
)
from app.llm.local import LocalModel
from app.llm.openai import OpenAICompatibleModel

__all__ = [
    "ChatMessage",
    "LocalModel",
    "ModelClient",
    "ModelError",
    "OpenAICompatibleModel",
    "Reply",
    "ToolCall",
    "ToolSpec",
]
