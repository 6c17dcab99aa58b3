"""``DeepAgentState`` as old code imports it; for migration only.

The original was a mutable bag that agents passed around, and users met in it: its
default lists were shared, ids could be overwritten, and merging two states mixed two
users. This one belongs to one context for its whole life. New code takes the
``UserExecutionContext`` itself and returns its results.
"""

import copy
import warnings
from collections.abc import Mapping
from typing import Self

from app.context import ContextError, UserExecutionContext


class DeepAgentState:
    """The state of one agent run of one user."""

    __slots__ = (
        "_context",
        "final_report",
        "messages",
        "metadata",
        "results",
        "step_count",
        "user_request",
    )

    _context: UserExecutionContext
    user_request: str
    messages: list[object]
    results: dict[str, object]
    metadata: dict[str, object]
    step_count: int
    final_report: str | None

    def __init__(
        self,
        context: object,
        *,
        user_request: str = "",
        messages: list[object] | None = None,
        results: Mapping[str, object] | None = None,
        metadata: Mapping[str, object] | None = None,
        step_count: int = 0,
        final_report: str | None = None,
    ) -> None:
        """Make a state of the context's user.

        Everything passed in is copied deeply, so no object is shared with whoever
        made it.

        Raises:
            ContextError: ``context`` is not a context.
        """
        warnings.warn(
            "DeepAgentState is kept for migration only; pass the "
            "UserExecutionContext on and return results instead.",
            DeprecationWarning,
            stacklevel=2,
        )
        if not isinstance(context, UserExecutionContext):
            problem = (
                f"DeepAgentState needs a UserExecutionContext, not "
                f"{type(context).__name__}: a state belongs to one user. Build one "
                "with UserExecutionContext.from_agent_execution_context."
            )
            raise ContextError(problem)
        object.__setattr__(self, "_context", context)
        self.user_request = user_request
        self.messages = copy.deepcopy(messages or [])
        self.results = copy.deepcopy(dict(results or {}))
        self.metadata = copy.deepcopy(dict(metadata or {}))
        self.step_count = step_count
        self.final_report = final_report

    @property
    def context(self) -> UserExecutionContext:
        """The context this state belongs to."""
        return self._context

    @property
    def user_id(self) -> str:
        """Whose state it is."""
        return self._context.user_id

    @property
    def chat_thread_id(self) -> str | None:
        """The thread, under the name old code uses."""
        return self._context.thread_id

    @property
    def thread_id(self) -> str | None:
        """The thread."""
        return self._context.thread_id

    @property
    def run_id(self) -> str | None:
        """The run."""
        return self._context.run_id

    def __setattr__(self, name: str, value: object) -> None:
        """Set a field; the context and its ids never change.

        Raises:
            ContextError: The name is one of the context's.
        """
        if name in {"_context", "context", "user_id", "thread_id", "run_id"} or (
            name == "chat_thread_id"
        ):
            problem = (
                f"{name!r} of a DeepAgentState comes from its context and cannot be "
                "set. Make a state for the other context."
            )
            raise ContextError(problem)
        object.__setattr__(self, name, value)

    def copy_with_updates(self, **updates: object) -> Self:
        """Return a deep copy in the same context, with some fields changed."""
        fields = {
            name: getattr(self, name) for name in self.__slots__ if name != "_context"
        }
        return type(self)(self._context, **{**fields, **updates})

    def merge_from(self, other: "DeepAgentState") -> Self:
        """Return a copy with the other state's results, which must be the same user's.

        Raises:
            ContextError: The other state belongs to another user.
        """
        if other.user_id != self.user_id:
            problem = (
                f"A state of user {other.user_id!r} cannot be merged into one of "
                f"user {self.user_id!r}. States of two users never mix."
            )
            raise ContextError(problem)
        return self.copy_with_updates(
            messages=[*self.messages, *other.messages],
            results={**self.results, **other.results},
            metadata={**self.metadata, **other.metadata},
            step_count=max(self.step_count, other.step_count),
            final_report=other.final_report or self.final_report,
        )
