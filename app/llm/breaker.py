"""A circuit breaker: a provider that is down is left alone for a while.

Closed, it lets calls through and counts failures in a row. Open, it refuses them at
once. After ``open_s`` it is half open: one call, the probe, goes through, and its end
closes or opens the breaker again; all others are refused meanwhile
(Michael Nygard, "Release It!", 2007, chapter 5).

Only what shows the provider down counts. A refused request (4xx) is its sender's
affair, or one user could cut off all; a request to come back later (429) is an answer.
A call that sent nothing, for want of a credential, proves nothing.
A call that is cancelled proves nothing: a probe that is leaves its place to the next
one. Calls that began before the last change of state are not counted: a slow one from
before an outage neither ends nor prolongs it.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Literal

from app.llm.client import ModelError, ModelNotAskedError, ModelUnavailableError

State = Literal["closed", "open", "half-open"]


class CircuitOpenError(ModelNotAskedError):
    """Raised instead of a call while the provider is left alone."""


class CircuitBreaker:
    """The breaker of one provider, shared by all users; never awaits."""

    def __init__(
        self,
        *,
        failures: int = 5,
        open_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open after so many failures in a row, for ``open_s`` by ``clock``."""
        self._most_failures = failures
        self._open_s = open_s
        self._clock = clock
        self._state: State = "closed"
        self._failures = 0
        self._opened_at = 0.0
        self._is_probing = False
        # Counts changes of state; a call ends in the era it began in or is ignored.
        self._era = 0

    @property
    def state(self) -> State:
        """Where it stands; open still, when the time to probe has come."""
        return self._state

    def refuse_if_open(self) -> None:
        """Raise what a call would meet now, and begin none.

        Raises:
            CircuitOpenError: It would be refused.
        """
        if self._state == "open" and not self._is_over():
            self._refuse()
        if self._state == "half-open" and self._is_probing:
            self._refuse()

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Make a call in the block.

        Raises:
            CircuitOpenError: The provider is left alone; the block is not entered.
        """
        era = self._enter()
        try:
            yield
        except ModelUnavailableError:
            if era == self._era:
                self._count_failure()
            raise
        except BaseException as exc:
            if era == self._era:
                self._is_probing = False
                if _is_answer(exc):
                    self._count_answer()
            raise
        if era == self._era:
            self._count_answer()

    def _enter(self) -> int:
        self.refuse_if_open()
        if self._state != "closed":
            self._change("half-open")
            self._is_probing = True
        return self._era

    def _count_failure(self) -> None:
        self._failures += 1
        if self._state == "half-open" or self._failures >= self._most_failures:
            self._change("open")
            self._opened_at = self._clock()

    def _count_answer(self) -> None:
        self._failures = 0
        if self._state == "half-open":
            self._change("closed")

    def _change(self, state: State) -> None:
        self._state = state
        self._era += 1
        self._failures = 0
        self._is_probing = False

    def _is_over(self) -> bool:
        return self._clock() - self._opened_at >= self._open_s

    def _refuse(self) -> None:
        message = "The model does not answer and is left alone for a while. Try later."
        raise CircuitOpenError(message)


def _is_answer(exc: BaseException) -> bool:
    return isinstance(exc, ModelError) and not isinstance(exc, ModelNotAskedError)
