"""Models: one interface, answered locally or by an OpenAI-compatible server.

Each protection is a class of its own; ``guards`` puts them around a model.
"""

from app.llm.batcher import Batcher
from app.llm.breaker import CircuitBreaker, CircuitOpenError
from app.llm.budgets import BudgetError, Reservation, TokenBudgets
from app.llm.client import (
    ChatMessage,
    KeysBusyError,
    ModelBusyError,
    ModelClient,
    ModelError,
    ModelNotAskedError,
    ModelRejectedError,
    ModelThrottledError,
    ModelUnauthorizedError,
    ModelUnavailableError,
    Reply,
    StreamingModel,
    ToolCall,
    ToolSpec,
)
from app.llm.credentials import (
    Credentials,
    FileKey,
    ProviderTokens,
    SharedCredentials,
    StaticKey,
    token_fetcher,
)
from app.llm.embeddings import Embedder, Embedding, HashingEmbedder
from app.llm.flight import SingleFlight
from app.llm.guards import ModelGuards
from app.llm.keys import PooledKeys
from app.llm.limits import UserLimits
from app.llm.local import LocalModel
from app.llm.openai import (
    MAX_REPLY_TOKENS,
    OpenAICompatibleEmbedder,
    OpenAICompatibleModel,
)
from app.llm.pool import HttpPool
from app.llm.provider import Provider
from app.llm.responses import ResponseCache
from app.llm.retrieval import BatchedEmbedder, retrieve
from app.llm.retry import Retry

__all__ = [
    "MAX_REPLY_TOKENS",
    "BatchedEmbedder",
    "Batcher",
    "BudgetError",
    "ChatMessage",
    "CircuitBreaker",
    "CircuitOpenError",
    "Credentials",
    "Embedder",
    "Embedding",
    "FileKey",
    "HashingEmbedder",
    "HttpPool",
    "KeysBusyError",
    "LocalModel",
    "ModelBusyError",
    "ModelClient",
    "ModelError",
    "ModelGuards",
    "ModelNotAskedError",
    "ModelRejectedError",
    "ModelThrottledError",
    "ModelUnauthorizedError",
    "ModelUnavailableError",
    "OpenAICompatibleEmbedder",
    "OpenAICompatibleModel",
    "PooledKeys",
    "Provider",
    "ProviderTokens",
    "Reply",
    "Reservation",
    "ResponseCache",
    "Retry",
    "SharedCredentials",
    "SingleFlight",
    "StaticKey",
    "StreamingModel",
    "TokenBudgets",
    "ToolCall",
    "ToolSpec",
    "UserLimits",
    "retrieve",
    "token_fetcher",
]
