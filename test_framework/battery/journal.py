"""What one worker did, in columns: cheap to write, and sent whole from a process.

Each worker has its own, so writing needs no lock. Instants are those of
``time.monotonic_ns``, one clock for all processes of a machine: taken right before an
operation is begun and right after it has answered, so the interval that is written
holds the one in which it took effect.
"""

import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVarTuple

from test_framework.check.linear import Call

Arguments = TypeVarTuple("Arguments")

_now_ns = time.monotonic_ns
# Asking these whether they can be awaited would cost as much as the rest.
_PLAIN = frozenset({int, bool, str, bytes, float, tuple, type(None)})


class StoppedError(Exception):
    """Raised to a worker that goes on after its run was cut off."""


class RefusedError(Exception):
    """Raised by an object that did not do what it was asked, and is sure of it.

    A refused operation is left out of the history; an operation that raises anything
    else may have happened.
    """


class ExitedError(Exception):
    """Raised to a worker whose operation would have ended the process."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An operation that was begun and has not ended.

    Attributes:
        worker: Number of the worker.
        kind: What was called.
        argument: What it was given.
        key: The object it was called on.
        invoked: When, in nanoseconds.
    """

    worker: int
    kind: str
    argument: object
    key: object
    invoked: int


@dataclass(slots=True)
class Journal:
    """The operations of one worker, in the order in which they ended.

    Attributes:
        worker: Number of the worker, from 0.
        kinds: What was called.
        arguments: What it was given: nothing, one value, or a tuple of several.
        results: What it returned; None where it is not known.
        keys: The objects they were called on.
        invoked: When they were begun, nanoseconds.
        ended: When they answered, or when the worker no longer waited for an answer.
        known: 1 for those that answered, 0 for those of unknown outcome.
        refused: How many were refused, and so did not happen.
        begin: Calls an operation; in threads and processes it may interrupt it.
    """

    worker: int
    kinds: list[str] = field(default_factory=list)
    arguments: list[object] = field(default_factory=list)
    results: list[object] = field(default_factory=list)
    keys: list[object] = field(default_factory=list)
    invoked: "array[int]" = field(default_factory=lambda: array("q"))
    ended: "array[int]" = field(default_factory=lambda: array("q"))
    known: bytearray = field(default_factory=bytearray)
    refused: int = 0
    begin: Callable[..., Any] | None = None
    _begun: tuple[str, object, object, int] | None = None
    _is_stopped: bool = False

    def __len__(self) -> int:
        """Count the operations that ended."""
        return len(self.known)

    async def call(
        self,
        kind: str,
        operation: Callable[[*Arguments], Any],
        *arguments: *Arguments,
        key: object = None,
    ) -> Any:  # noqa: ANN401  # what was awaited, if it was: no type says so
        """Do an operation and write down what it was, when, and what it answered.

        Args:
            kind: What it is called in the history.
            operation: A function, or a coroutine function.
            *arguments: What it is given.
            key: The object in question, where there are several.

        Returns:
            What it returned.

        Raises:
            RefusedError: It was refused; the history says nothing of it.
            StoppedError: The run was cut off; it was not done.
            BaseException: What it raised; its outcome is unknown.
        """
        argument: object = arguments
        if len(arguments) < 2:
            argument = arguments[0] if arguments else None
        invoked = _now_ns()
        self._begun = (kind, argument, key, invoked)
        # Asked after it is written down: whoever stops sees it, or it is not done.
        if self._is_stopped:
            raise StoppedError
        try:
            if self.begin is None:
                result = operation(*arguments)
            else:
                result = self.begin(operation, *arguments)
            if type(result) not in _PLAIN and hasattr(result, "__await__"):
                result = await result
        except RefusedError:
            self._begun = None
            self.refused += 1
            raise
        except SystemExit as error:
            # In a task of its own it would end the loop, and the test run with it.
            self._write(kind, argument, None, key, invoked, is_known=False)
            message = f"{kind} called sys.exit({error.code!r})"
            raise ExitedError(message) from error
        except BaseException:
            self._write(kind, argument, None, key, invoked, is_known=False)
            raise
        self._write(kind, argument, result, key, invoked, is_known=True)
        return result

    def _write(
        self,
        kind: str,
        argument: object,
        result: object,
        key: object,
        invoked: int,
        *,
        is_known: bool,
    ) -> None:
        self.invoked.append(invoked)
        self.ended.append(_now_ns())
        self.kinds.append(kind)
        self.arguments.append(argument)
        self.results.append(result)
        self.keys.append(key)
        # The last one: a row counts when it is whole, whichever thread looks.
        self.known.append(is_known)
        self._begun = None

    @property
    def pending(self) -> Pending | None:
        """The operation that has not ended; None between two."""
        begun, ended = self._begun, len(self.known)
        # Between the last column and this mark it has ended.
        if begun is None or (ended and self.invoked[ended - 1] == begun[-1]):
            return None
        return Pending(self.worker, *begun)

    def stop(self) -> "Journal":
        """Let no further operation begin, and return what was done so far.

        The worker may be in the middle of an operation, in any thread: that one is of
        unknown outcome, and what it writes later is not in the answer.
        """
        self._is_stopped = True
        pending, rows = self.pending, len(self.known)
        whole = Journal(
            self.worker,
            self.kinds[:rows],
            self.arguments[:rows],
            self.results[:rows],
            self.keys[:rows],
            self.invoked[:rows],
            self.ended[:rows],
            self.known[:rows],
            self.refused,
        )
        # The worker may look for its journal again, and find this one.
        whole._is_stopped = True
        if pending is not None:
            begun = (pending.kind, pending.argument, None, pending.key)
            whole._write(*begun, pending.invoked, is_known=False)
        return whole

    def calls(self) -> Iterator[Call]:
        """Yield the operations as checkers take them."""
        rows = zip(
            self.kinds,
            self.arguments,
            self.results,
            self.keys,
            self.invoked,
            self.ended,
            self.known,
            strict=True,
        )
        for kind, argument, result, key, invoked, ended, is_known in rows:
            completed = ended if is_known else None
            yield Call(self.worker, kind, argument, result, invoked, completed, key)
