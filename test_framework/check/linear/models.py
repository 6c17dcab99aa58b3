"""What an object does when its operations come one after the other.

A model is an initial state and a step. States are hashable values; a step returns the
next one, or ``ILLEGAL`` when the object could not have answered so. A model that can
say what a call must find and what it leaves (``Foreseeing``) is searched far faster.
"""

import math
from collections.abc import Hashable
from typing import Final, Protocol, runtime_checkable

from test_framework.check.linear.calls import Call
from test_framework.core import UsageError

ILLEGAL: Final = object()
"""No object of this kind answers so in this state."""

ANY: Final = object()
"""In place of a state: whichever it is."""

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


@runtime_checkable
class Foreseeing(Model, Protocol):
    """A model that tells early that a state leads nowhere.

    With these the search gives up a choice as soon as the call that returns next can
    no longer find what it found. A class that steps otherwise than its base has to say
    ``wants`` and ``leaves`` anew; until it does, its base's are not asked.
    """

    def wants(self, call: Call) -> object:
        """Return the state that a call of known outcome found; ``ANY`` if several."""
        ...

    def leads(self, state: State, wanted: State) -> bool:
        """Whether calls that build on what they find may lead from one to the other."""
        ...

    def leaves(self, call: Call) -> object:
        """Return the state after a call that may leave it whatever it found.

        ``ANY`` for one that builds on what it found.
        """
        ...


def foreseeing(model: Model) -> Foreseeing | None:
    """Return a model if what it foresees goes with how it steps, else None."""
    if not isinstance(model, Foreseeing):
        return None
    order = type(model).__mro__

    def depth(name: str) -> int:
        return next(at for at, kind in enumerate(order) if name in vars(kind))

    goes_with = depth("step") >= max(depth("wants"), depth("leaves"))
    return model if goes_with else None


class Register:
    """A cell that is read and written.

    Args:
        initial: What it holds first.
    """

    name = "register"

    def __init__(self, initial: Hashable = None) -> None:
        self.initial = initial

    def step(self, state: State, call: Call) -> object:
        """Step over ``read`` and ``write``."""
        if call.kind == "write":
            return call.argument
        if call.kind == "read":
            return state if not call.is_known or call.result == state else ILLEGAL
        raise unheard_of(self, call)

    def is_read(self, call: Call) -> bool:
        """Whether it is ``read``."""
        return call.kind == "read"

    def wants(self, call: Call) -> object:
        """Return what a read returned."""
        return call.result if call.kind == "read" else ANY

    def leads(self, state: State, wanted: State) -> bool:
        """Whether they are the same: no operation builds on what it finds."""
        return state == wanted

    def leaves(self, call: Call) -> object:
        """Return what a write wrote."""
        return call.argument if call.kind == "write" else ANY


class CasRegister(Register):
    """A register with compare-and-set: ``cas`` of ``(expected, new)`` returns a bool."""

    name = "cas-register"

    def step(self, state: State, call: Call) -> object:
        """Step over ``read``, ``write`` and ``cas``."""
        if call.kind != "cas":
            return super().step(state, call)
        expected, new = pair(call)
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

    def wants(self, call: Call) -> object:
        """Return what a read returned, or what a ``cas`` that succeeded expected."""
        if call.kind == "cas":
            return pair(call)[0] if call.result else ANY
        return super().wants(call)

    def leaves(self, call: Call) -> object:
        """Return what a write or ``cas`` set."""
        if call.kind == "cas":
            return pair(call)[1] if call.result or not call.is_known else ANY
        return super().leaves(call)


class KeyValue:
    """One key of a store of texts: ``get``, ``put``, ``append``; empty at first."""

    name = "key-value"
    initial = ""

    def step(self, state: State, call: Call) -> object:
        """Step over ``get``, ``put`` and ``append``."""
        if call.kind == "get":
            return state if not call.is_known or call.result == state else ILLEGAL
        if call.kind == "put":
            return call.argument
        if call.kind == "append":
            return f"{state}{call.argument}"
        raise unheard_of(self, call)

    def is_read(self, call: Call) -> bool:
        """Whether it is ``get``."""
        return call.kind == "get"

    def wants(self, call: Call) -> object:
        """Return what a get returned."""
        return call.result if call.kind == "get" else ANY

    def leads(self, state: State, wanted: State) -> bool:
        """Whether a text begins another: appending makes longer."""
        return str(wanted).startswith(str(state))

    def leaves(self, call: Call) -> object:
        """Return what a put put."""
        return call.argument if call.kind == "put" else ANY


class Counter:
    """A number that ``increment`` adds to and returns, and ``read`` returns.

    The argument of an increment is what it adds, 1 by default; one that returns None
    told nothing. ``add``, as in Jepsen, is an increment that never tells anything.

    Args:
        initial: What it is first.
    """

    name = "counter"

    def __init__(self, initial: int = 0) -> None:
        self.initial = initial

    def step(self, state: State, call: Call) -> object:
        """Step over ``increment``, ``add`` and ``read``."""
        if call.kind in {"increment", "add"}:
            after = number(self, call, state) + amount(self, call)
            is_told = (
                call.kind == "increment" and call.is_known and call.result is not None
            )
            return ILLEGAL if is_told and call.result != after else after
        if call.kind == "read":
            return state if not call.is_known or call.result == state else ILLEGAL
        raise unheard_of(self, call)

    def is_read(self, call: Call) -> bool:
        """Whether it is ``read``."""
        return call.kind == "read"


class Mutex:
    """A lock: ``acquire`` and ``release``, which succeed in turn."""

    name = "mutex"
    initial = False

    def step(self, state: State, call: Call) -> object:
        """Step over ``acquire`` and ``release``."""
        if call.kind == "acquire":
            return True if state is False else ILLEGAL
        if call.kind == "release":
            return False if state is True else ILLEGAL
        raise unheard_of(self, call)

    def is_read(self, call: Call) -> bool:  # noqa: ARG002  # none is
        """Both change it."""
        return False

    def wants(self, call: Call) -> object:
        """Return whether it must be held."""
        return call.kind == "release"

    def leads(self, state: State, wanted: State) -> bool:
        """Whether they are the same."""
        return state == wanted

    def leaves(self, call: Call) -> object:
        """Return whether it is held then."""
        return call.kind == "acquire"


class Lease:
    """Leases with fencing tokens, and what they guard.

    ``acquire`` returns a token above all earlier ones. ``act`` with a token was let
    through by the resource, which has seen none above it: the holder of an expired
    lease must be turned away (as ``fail``, which stands in no history). ``release``
    says nothing. The state is the latest token, the highest one that acted, and
    whether more may have been granted by calls of unknown outcome.

    Source: Kleppmann, "How to do distributed locking", 2016.
    """

    name = "lease"
    initial = (-math.inf, -math.inf, False)

    def step(self, state: State, call: Call) -> object:
        """Step over ``acquire``, ``act`` and ``release``."""
        granted, acted, is_vague = state if isinstance(state, tuple) else self.initial
        if call.kind == "release":
            return state
        if call.kind == "acquire":
            if not call.is_known:
                return granted, acted, True
            token = number(self, call, call.result)
            return (token, acted, is_vague) if token > granted else ILLEGAL
        if call.kind == "act":
            token = number(self, call, call.argument)
            if token < acted or (token > granted and not is_vague):
                return ILLEGAL
            return max(granted, token), token, is_vague
        raise unheard_of(self, call)

    def is_read(self, call: Call) -> bool:
        """Whether it is ``release``."""
        return call.kind == "release"


class DistinctSet:
    """A set: ``add``, ``remove``, ``contains`` and ``read`` of all its elements.

    An ``add`` that returns False found the element there, a ``remove`` that returns
    False did not.
    """

    name = "set"
    initial: frozenset[Hashable] = frozenset()

    def step(self, state: State, call: Call) -> object:
        """Step over ``add``, ``remove``, ``contains`` and ``read``."""
        held = state if isinstance(state, frozenset) else self.initial
        is_there = call.argument in held
        if call.kind == "read":
            is_right = not call.is_known or elements(call) == held
            return state if is_right else ILLEGAL
        if call.kind == "contains":
            is_right = not call.is_known or bool(call.result) is is_there
            return state if is_right else ILLEGAL
        if call.kind == "add":
            if call.is_known and call.result is False:
                return state if is_there else ILLEGAL
            return held | {call.argument}
        if call.kind == "remove":
            if call.is_known and (call.result is False) is is_there:
                return ILLEGAL
            return held - {call.argument}
        raise unheard_of(self, call)

    def is_read(self, call: Call) -> bool:
        """Whether it changes nothing: it only asks, or it is known to have failed."""
        return call.kind in {"read", "contains"} or (
            call.is_known and call.result is False
        )


class Queue:
    """First in, first out: ``enqueue``, and ``dequeue`` that returns None when empty."""

    name = "queue"
    initial: tuple[Hashable, ...] = ()

    def step(self, state: State, call: Call) -> object:
        """Step over ``enqueue`` and ``dequeue``."""
        held = state if isinstance(state, tuple) else self.initial
        if call.kind == "enqueue":
            return (*held, call.argument)
        if call.kind == "dequeue":
            if not call.is_known:
                return held[1:]
            if call.result is None:
                return ILLEGAL if held else state
            return held[1:] if held and held[0] == call.result else ILLEGAL
        raise unheard_of(self, call)

    def is_read(self, call: Call) -> bool:
        """Whether it is a ``dequeue`` that found nothing."""
        return call.kind == "dequeue" and call.is_known and call.result is None


def pair(call: Call) -> tuple[Hashable, Hashable]:
    """Return what a ``cas`` expected and what it would set.

    Raises:
        UsageError: Its argument is no pair, or it did not return whether it did.
    """
    argument, wrong = call.argument, ""
    if not isinstance(argument, tuple) or len(argument) != len(("expected", "new")):
        wrong = f"a cas of {argument!r:.60}. Record (expected, new)."
    elif call.is_known and type(call.result) is not bool:
        wrong = f"a cas that returned {call.result!r:.60}. Record True or False."
    if wrong:
        message = f"Call {call.index} ({call}) is {wrong}"
        raise UsageError(message)
    expected, new = argument
    return expected, new


def elements(call: Call) -> frozenset[Hashable]:
    """Return the elements that a read of a set returned.

    Raises:
        UsageError: It did not return a set or sequence.
    """
    if call.result is None or isinstance(call.result, frozenset | tuple):
        return frozenset(call.result or ())
    message = (
        f"Call {call.index} ({call}) is a read of a set that returned "
        f"{call.result!r:.60}. Record a frozenset of its elements."
    )
    raise UsageError(message)


def amount(model: object, call: Call) -> int:
    """Return what an increment adds."""
    return 1 if call.argument is None else number(model, call, call.argument)


def number(model: object, call: Call, value: object) -> int:
    """Return a value that must be an integer.

    Raises:
        UsageError: It is none.
    """
    if type(value) is int:
        return value
    message = (
        f"Call {call.index} ({call}) has {value!r} where a {name_of(model)} has an "
        "integer. Record the number itself."
    )
    raise UsageError(message)


def name_of(model: object) -> str:
    """Return what a model calls itself."""
    return str(getattr(model, "name", type(model).__name__))


def unheard_of(model: object, call: Call) -> UsageError:
    """Return the error for an operation that a model does not have."""
    return UsageError(
        f"{type(model).__name__} has no operation {call.kind!r} (call {call.index})."
    )
