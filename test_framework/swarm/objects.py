"""What a workload does to objects of the service, recorded to be judged afterwards.

A thread's messages are a list, a balance is a register, a ticket machine is a counter:
whatever a service is, what it promises of such an object is known, and a checker is
stricter than any expectation that a workload can state.
"""

import asyncio
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from test_framework.core import CallRecord, Outcome, UsageError

if TYPE_CHECKING:
    from test_framework.clients.recorder import Recorder

MODELS: Final = {
    "list": ("append", "read"),
    "register": ("write", "read"),
    "counter": ("increment", "read"),
    "mutex": ("acquire", "release"),
    "set": ("add", "remove", "contains", "read"),
    "queue": ("enqueue", "dequeue"),
}
"""What may be called on objects of each kind."""

Value = int | str | Sequence[int | str] | None


_SEQUENCES: Final = {("list", "read"), ("set", "read")}
_NUMBERS: Final = {("counter", "read"), ("counter", "increment")}
_BOOLEANS: Final = {("set", "contains")}


def _require_answer(model: str, key: str, kind: str, result: object) -> None:
    """Require that a workload said what it was answered, where a checker needs it."""
    asked = (model, kind)
    if asked in _SEQUENCES and not isinstance(result, list | tuple):
        wanted = "the list of all values"
    elif asked in _NUMBERS and type(result) is not int:
        wanted = "the number"
    elif asked in _BOOLEANS and type(result) is not bool:
        wanted = "True or False"
    else:
        return
    message = (
        f"user.calling({model!r}, {key!r}, {kind!r}): its result is "
        f"{type(result).__name__}. Set call.result to {wanted} that was answered before "
        "the block ends, or say call.refused() or call.lost()."
    )
    raise UsageError(message)


class Call:
    """A call that is under way.

    Attributes:
        result: What it returned: set it before the block ends.
    """

    def __init__(self) -> None:
        self.result: Value = None
        self.outcome: Outcome = "ok"

    def refused(self) -> None:
        """Say that the service refused it, so that it did not happen."""
        self.outcome = "fail"

    def lost(self) -> None:
        """Say that nobody knows whether it happened, as after a timeout."""
        self.outcome = "info"


class Objects:
    """Writes down what one user does to objects.

    Args:
        recorder: Of the run.
        user: Number of the user.
    """

    def __init__(self, recorder: "Recorder", user: int) -> None:
        self._recorder = recorder
        self._user = user
        self._processes: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._numbers = itertools.count()

    @contextmanager
    def calling(
        self, model: str, key: str, kind: str, argument: Value
    ) -> Iterator[Call]:
        """Record one call; see ``User.calling``."""
        if model not in MODELS:
            message = f"user.calling({model!r}, ...): known are {', '.join(MODELS)}."
            raise UsageError(message)
        if kind not in MODELS[model]:
            message = (
                f"user.calling({model!r}, {key!r}, {kind!r}): what a {model} can do is "
                f"{' and '.join(MODELS[model])}."
            )
            raise UsageError(message)
        clock, call = self._recorder.clock, Call()
        invoked_ns = clock.now_ns()
        try:
            yield call
            if call.outcome == "ok":
                _require_answer(model, key, kind, call.result)
        except BaseException:
            # A timeout, a cancellation, an answer that was none: it may have happened.
            if call.outcome == "ok":
                call.outcome = "info"
            raise
        finally:
            is_over = call.outcome != "info"
            given = self._kept(argument)
            self._recorder.history.add(
                CallRecord(
                    model=model,
                    key=str(key),
                    process=self._process(),
                    user=self._user,
                    kind=kind,
                    invoked_ns=invoked_ns,
                    completed_ns=clock.now_ns() if is_over else None,
                    outcome=call.outcome,
                    argument=None if isinstance(given, tuple) else given,
                    result=self._kept(call.result) if call.outcome == "ok" else None,
                )
            )

    def _process(self) -> str:
        """Name who calls: each task of a user does one thing at a time."""
        task = asyncio.current_task()
        name = self._processes.get(task)
        if name is None:
            number = next(self._numbers)
            name = f"user-{self._user:02}" + (f"/{number}" if number else "")
            self._processes[task] = name
        return name

    def _kept(self, value: Value) -> int | str | tuple[int | str, ...] | None:
        if value is None or isinstance(value, int):
            return value
        if isinstance(value, str):
            return self._digest(value)
        return tuple(
            item if isinstance(item, int) else self._digest(str(item)) for item in value
        )

    def _digest(self, text: str) -> str:
        """Return the canaries in a text, or a digest of it: no text is ever kept."""
        ids = self._recorder.ids(text.encode())
        if ids:
            return "+".join(ids)
        return "#" + hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
