"""What an object does when its operations come one after the other.

A model is an initial state and a step. States are hashable values; a step returns the
next one, or ``ILLEGAL`` when the object could not have answered so.
"""

from collections.abc import Hashable
from typing import Final, Protocol

from test_framework.check.linear.calls import Call
from test_framework.core import UsageError

ILLEGAL: Final = object()
"""No object of this kind answers so in this state."""

State = Hashable


class Model(Protocol):
    """An object whose operations take effect one at a time."""

    @property
    def initial(self) -> State:
        """The state before the first operation."""
        ...

    def step(self, state: State, call: Call) -> object:
        """Return the state after a call, or ``ILLEGAL`` if it cannot answer so.

        A call of unknown outcome has no result to object to.
        """
        ...

    def is_read(self, call: Call) -> bool:
        """Whether a call changes no state, whatever it is."""
        ...


class Register:
    """A cell that is read and written.

    Args:
        initial: What it holds first.
    """

    def __init__(self, initial: Hashable = None) -> None:
        self.initial = initial

    def step(self, state: State, call: Call) -> object:
        """Step over ``read`` and ``write``."""
        if call.kind == "write":
            return call.argument
        if call.kind == "read":
            return state if not call.is_known or call.result == state else ILLEGAL
        raise _unheard_of(self, call)

    def is_read(self, call: Call) -> bool:
        """Whether it is ``read``."""
        return call.kind == "read"


class CasRegister(Register):
    """A register with compare-and-set: ``cas`` of ``(expected, new)`` returns a bool."""

    def step(self, state: State, call: Call) -> object:
        """Step over ``read``, ``write`` and ``cas``."""
        if call.kind != "cas":
            return super().step(state, call)
        expected, new = call.argument
        matches = state == expected
        if not call.is_known:
            return new if matches else state
        if call.result is matches:
            return new if matches else state
        return ILLEGAL

    def is_read(self, call: Call) -> bool:
        """Whether it is ``read``, or a ``cas`` that is known to have failed."""
        return call.kind == "read" or (
            call.kind == "cas" and call.is_known and not call.result
        )


class KeyValue:
    """One key of a store of texts: ``get``, ``put``, ``append``; empty at first."""

    initial = ""

    def step(self, state: State, call: Call) -> object:
        """Step over ``get``, ``put`` and ``append``."""
        if call.kind == "get":
            return state if not call.is_known or call.result == state else ILLEGAL
        if call.kind == "put":
            return call.argument
        if call.kind == "append":
            return f"{state}{call.argument}"
        raise _unheard_of(self, call)

    def is_read(self, call: Call) -> bool:
        """Whether it is ``get``."""
        return call.kind == "get"


class Mutex:
    """A lock: ``acquire`` and ``release``, which succeed in turn."""

    initial = False

    def step(self, state: State, call: Call) -> object:
        """Step over ``acquire`` and ``release``."""
        if call.kind == "acquire":
            return True if state is False else ILLEGAL
        if call.kind == "release":
            return False if state is True else ILLEGAL
        raise _unheard_of(self, call)

    def is_read(self, call: Call) -> bool:  # noqa: ARG002  # none is
        """Both change it."""
        return False


def _unheard_of(model: object, call: Call) -> UsageError:
    message = (
        f"{type(model).__name__} has no operation {call.kind!r} (call {call.index})."
    )
    return UsageError(message)
