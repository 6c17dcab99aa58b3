"""Write a graph of live objects as numbers, so that equal writings mean equal states.

Two states of a program have one future if a renaming of objects turns one into the
other. So an object with an identity is written once, by the position at which it was
first met, and after that only as that position; what has no identity of its own (text,
numbers, tuples, bound methods) is written out wherever it stands.

A suspended coroutine is read through the garbage collector, which shows the values on
its evaluation stack too: the ``total`` of ``total + await f()``, the iterator of a
``for`` loop, the ``__aexit__`` that waits for the end of a block. No frame attribute
has them. :func:`reads_stacks` tries this on the running Python.

What cannot be looked into is *opaque*: it is written as a number never used before, so
no other state equals the one that holds it. Not told apart: equal tuples, texts and
bound methods that are distinct objects, and frames that only a traceback keeps.
"""

import asyncio
import collections
import contextlib
import contextvars
import datetime as dt
import decimal
import enum
import functools
import gc
import itertools
import logging
import operator
import random
import re
import types
import uuid
from array import array
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from test_framework.explore.handles import STEP, Entry
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.names import default_name
from test_framework.explore.ordered import OrderedSet
from test_framework.explore.symmetry.labels import Labels, UserNumber
from test_framework.explore.symmetry.statics import Statics, is_plain_function

Put = Callable[[Any], None]

_ATOMS = (bool, type(None), type(...), type(NotImplemented))
# Values that never change and whose repr says all.
_BY_REPR: tuple[type, ...] = (
    *(float, complex, range, decimal.Decimal, uuid.UUID),
    *(dt.datetime, dt.date, dt.time),
    *(dt.timedelta, dt.timezone),
)
# They say by themselves how to make an equal one: what is iterated, and how far.
_BY_REDUCE: tuple[type, ...] = (
    *(type(iter([])), type(iter(())), type(iter(range(0))), type(iter(b""))),
    *(type(iter("")), type(iter("\u20ac"))),
    *(type(reversed([])), enumerate, zip, map, filter, functools.partial, slice),
    decimal.Context,
    *(itertools.count, itertools.chain, itertools.islice, itertools.repeat),
)
# The same ones in every run, and nothing of a run is in them.
_BY_IDENTITY: tuple[type, ...] = (
    *(type, types.ModuleType, types.CodeType, contextvars.ContextVar, enum.Enum),
    *(types.MethodDescriptorType, types.WrapperDescriptorType),
    *(asyncio.AbstractEventLoop, logging.Logger, re.Pattern),
)
_COROUTINES: dict[type, Callable[[Any], Any]] = {
    types.CoroutineType: operator.attrgetter("cr_frame", "cr_running"),
    types.GeneratorType: operator.attrgetter("gi_frame", "gi_running"),
    types.AsyncGeneratorType: operator.attrgetter("ag_frame", "ag_running"),
}
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE
_POINTER = 8  # bytes
_CONTEXT = contextvars.Context
_STATES = ("PENDING", "CANCELLED", "FINISHED")
_MISSING = object()
# Of what gc shows of a suspended coroutine: code, two names, frame, locals, function,
# code; then the variables and the stack.
_FRAME_AT, _LOCALS_AT, _FUNCTION_AT, _VALUES_AT = 3, 4, 5, 7


def _iterator_of_future() -> type:
    """Return the type of what a task that awaits a future is suspended in."""

    class Nothing:
        def get_debug(self) -> bool:
            return False

    loop: Any = Nothing()
    return type(asyncio.Future(loop=loop).__await__())


async def _values() -> AsyncGenerator[None, None]:
    yield


def _types_of_sends() -> tuple[type, ...]:
    """Return the types of what awaits a value of an async generator, or its end."""
    # Closed, or Python warns that nobody awaited them.
    with (
        contextlib.closing(_values().asend(None)) as send,
        contextlib.closing(_values().athrow(ValueError())) as throw,
    ):
        return type(send), type(throw)


_SENDS = _types_of_sends()


class _Probe:
    """Shows one value on the stack, one held by a block, and one in a variable."""

    def __await__(self) -> Any:
        yield self

    async def suspended(self, variable: object, on_stack: list[object]) -> object:
        return on_stack + [await self, variable]  # noqa: RUF005  # it puts the list on the stack


def reads_stacks() -> bool:
    """Tell whether this Python shows evaluation stacks as the writer expects them."""
    variable, on_stack = object(), [object()]
    coroutine: Any = _Probe().suspended(variable, on_stack)
    coroutine.send(None)
    frame = coroutine.cr_frame
    names = frame.f_locals
    referents = gc.get_referents(coroutine)
    coroutine.close()
    values = referents[_VALUES_AT:]
    return (
        len(values) == 5
        and referents[_FRAME_AT] is frame
        and referents[_LOCALS_AT] is names
        and isinstance(referents[_FUNCTION_AT], types.FunctionType)
        and values[1] is variable
        and values[2] is values[3] is on_stack
        and isinstance(values[4], types.GeneratorType)
    )


class _Learning(dict[type, Put]):
    """Asks how values of a type are written when it meets one."""

    def __init__(self, learn: Callable[[type], Put]) -> None:
        super().__init__()
        self._learn = learn

    def __missing__(self, kind: type) -> Put:
        return self._learn(kind)


class Writer:
    """Writes one state after the other; what it calls a constant stays the same.

    Args:
        labels: Recognises user numbers in text.
        loop: Knows the tasks of the run by number.
        usual_callback: Not written where it is the first one of a task.

    Attributes:
        statics: State of modules and classes that came up.
        opaque: What could not be looked into, and how often.
        numbers: Position of each object met, by ``id``.
        met: Those objects.
        has_opaque: Whether the state being written holds something opaque.
    """

    def __init__(
        self, labels: Labels, loop: ExplorationLoop, usual_callback: object
    ) -> None:
        self._labels = labels
        self._loop = loop
        self._usual_callback = usual_callback
        self._constants: dict[Any, int] = {}
        self._kept: list[object] = []
        self._unique = 0
        self._totals: dict[types.CodeType, int] = {}
        self._holder: object = None
        self._owners: dict[int, object] = {}
        self.statics = Statics()
        self.opaque: collections.Counter[str] = collections.Counter()
        self._tags: dict[type, int] = {}
        self._identities: dict[int, int] = {}
        self._puts: dict[type, Put] = _Learning(self._learn)
        self._writes: dict[type, Put] = {}
        self._fill_tables()
        self.begin()

    def begin(self) -> None:
        """Begin to write another state."""
        self._out: list[int] = []
        self.numbers: dict[int, int] = {}
        self.met: list[Any] = []
        self._written = 0
        self._owners.clear()
        self.has_opaque = False

    def _fill_tables(self) -> None:
        puts, writes = self._puts, self._writes
        puts.update(dict.fromkeys(_ATOMS, self._put_atom))
        puts.update(dict.fromkeys(_BY_REPR, self._put_repr))
        puts.update(dict.fromkeys(_BY_IDENTITY, self._put_identity))
        puts[contextvars.ContextVar] = self._put_variable
        puts[int] = self._put_int
        puts[str] = puts[bytes] = self._put_text
        puts[tuple] = puts[frozenset] = self._put_sequence
        puts[types.MethodType] = self._put_method
        puts[types.MethodWrapperType] = self._put_builtin
        puts[types.BuiltinFunctionType] = self._put_builtin
        puts[types.FunctionType] = self._put_function
        puts[types.TracebackType] = self._put_traceback
        writes[types.FunctionType] = self._write_function
        writes[types.CellType] = self._write_cell
        writes[contextvars.Context] = self._write_context
        writes[Entry] = self._write_entry
        writes[UserNumber] = self._write_nothing
        writes.update(dict.fromkeys(_BY_REDUCE, self._write_reduced))
        writes.update(dict.fromkeys(_COROUTINES, self._write_coroutine))
        # What they refer to is all they are.
        writes[STEP] = writes[_iterator_of_future()] = self._write_referents
        self._bases: dict[type, Put] = {
            object: self._write_nothing,
            types.SimpleNamespace: self._write_nothing,
            list: lambda thing: self._write_items(list.__iter__(thing)),
            tuple: lambda thing: self._write_items(tuple.__iter__(thing)),
            bytearray: lambda thing: self.put(bytes(thing)),
            collections.deque: self._write_deque,
            dict: self._write_dict,
            collections.OrderedDict: self._write_ordered_dict,
            types.MappingProxyType: lambda thing: self.put(dict(thing)),
            collections.defaultdict: self._write_defaultdict,
            OrderedSet: self._write_items,
            asyncio.Future: self._write_future,
            asyncio.Task: self._write_task,
            BaseException: self._write_exception,
            random.Random.__base__ or object: self._write_random,
            **dict.fromkeys((int, float, str, bytes), self._write_value_of),
        }

    # -- from outside --------------------------------------------------------------

    def take_as_same(self, kind: type) -> None:
        """Write objects of a type as the same ones in every run, without content."""
        self._puts[kind] = self.put_identity

    def put(self, thing: Any) -> None:
        """Write a value: itself, or the position of the object."""
        self._puts[type(thing)](thing)

    def finish(self) -> bytes:
        """Write the content of all objects met so far, return what was written since."""
        met, out, tags, writes = self.met, self._out, self._tags, self._writes
        while self._written < len(met):
            thing = met[self._written]
            self._written += 1
            self._holder = thing
            kind = type(thing)
            tag = tags.get(kind)
            if tag is None:
                tag = tags[kind] = self._number_of(kind)
            out.append(tag)
            writes[kind](thing)
        written = array("q", out).tobytes()
        out.clear()
        return written

    def forget(self, count: int) -> None:
        """Forget all objects met beyond the first ``count``."""
        for thing in self.met[count:]:
            del self.numbers[id(thing)]
        del self.met[count:]
        self._written = count

    # -- values --------------------------------------------------------------------

    def _learn(self, kind: type) -> Put:
        """Decide once how values of a type are written."""
        put: Put = self._put_object
        if kind not in self._writes:
            base = self._base_of(kind)
            if issubclass(kind, _BY_IDENTITY):
                put = self._put_identity
            elif base is not None:
                self._writes[kind] = self._writer_of(kind, base)
            else:
                put = self._put_opaque
        self._puts[kind] = put
        return put

    def _base_of(self, kind: type) -> type | None:
        """Return the base whose content is known; None if C hides something above it."""
        while kind not in self._bases:
            if issubclass(kind, BaseException) and kind.__module__ == "builtins":
                return BaseException
            names = vars(kind)
            # What a Python class adds to its base; more is hidden in C.
            members = map(_is_member, names.values())
            own = sum(members) + ("__weakref__" in names)
            own += "__dict__" in names and kind.__dictoffset__ > 0
            base = kind.__base__ or object
            if not kind.__flags__ & _HEAP_TYPE or (
                kind.__basicsize__ > base.__basicsize__ + _POINTER * own
            ):
                return None
            kind = base
        return kind

    def _writer_of(self, kind: type, base: type) -> Put:
        """Make the function that writes what is in an object of a type."""
        write_base = self._bases[base]
        members = [
            value.__get__
            for parent in kind.__mro__
            for value in vars(parent).values()
            if _is_member(value)
        ]
        has_dict = any("__dict__" in vars(parent) for parent in kind.__mro__)

        self.statics.see(kind)
        if not members and not has_dict:
            return write_base

        def write(thing: Any) -> None:
            write_base(thing)
            if has_dict:
                self._owners[id(thing.__dict__)] = thing
                self.put(thing.__dict__)
            for get in members:
                try:
                    self.put(get(thing))
                except AttributeError:
                    self._constant(_MISSING)

        return write

    def _constant(self, key: Any) -> None:
        """Write a number that stands for ``key``, the same in every state."""
        number = self._constants.get(key)
        self._out.append(self._number_of(key) if number is None else number)

    def _number_of(self, key: Any) -> int:
        return self._constants.setdefault(key, 2 * len(self._constants))

    def _put_object(self, thing: Any) -> None:
        numbers, key = self.numbers, id(thing)
        number = numbers.get(key)
        if number is None:
            number = numbers[key] = len(numbers)
            self.met.append(thing)
        self._out.append(2 * number + 1)

    def _put_atom(self, thing: Any) -> None:
        self._constant((type(thing), thing))

    def _put_int(self, thing: int) -> None:
        token = self._labels.of_int(thing)
        if token is None:
            self._constant((int, thing))
        else:
            self._constant((UserNumber, int))
            self._put_object(token)

    def _put_text(self, thing: "str | bytes") -> None:
        parts = self._labels.split(thing)
        if parts is None:
            self._constant((type(thing), thing))
            return
        template, tokens = parts
        self._constant((UserNumber, type(thing), template))
        for token in tokens:
            self._put_object(token)

    def _put_repr(self, thing: Any) -> None:
        self._constant((type(thing), repr(thing)))

    def _put_identity(self, thing: Any) -> None:
        self.put_identity(thing)
        self.statics.see(thing)

    def _put_variable(self, variable: Any) -> None:
        # Its default is one object for everybody who has set nothing.
        self._put_identity(variable)
        try:
            default = _CONTEXT().run(variable.get)
        except LookupError:
            default = _MISSING
        self.put(default)

    def put_identity(self, thing: Any) -> None:
        """Write an object that is the same one in every run."""
        number = self._identities.get(id(thing))
        if number is None:
            number = self._identities[id(thing)] = self._number_of(
                (_MISSING, id(thing))
            )
            self._kept.append(thing)
        self._out.append(number)

    def _put_opaque(self, thing: Any) -> None:
        self.has_opaque = True
        self._unique -= 1
        self._out.append(self._unique)
        held = self._owners.get(id(self._holder), self._holder)
        self.opaque[f"{_name_of(type(thing))} in {_name_of(type(held))}"] += 1

    def _put_sequence(self, thing: Any) -> None:
        self._constant((tuple, type(thing), len(thing)))
        puts = self._puts
        for item in thing:
            puts[type(item)](item)

    def _put_method(self, thing: types.MethodType) -> None:
        self._constant(types.MethodType)
        self.put(thing.__func__)
        self.put(thing.__self__)

    def _put_builtin(self, thing: types.BuiltinFunctionType) -> None:
        if thing.__self__ is None or isinstance(thing.__self__, types.ModuleType):
            self.put_identity(thing)
            return
        self._constant((types.BuiltinFunctionType, thing.__name__))
        self.put(thing.__self__)

    def _put_function(self, thing: types.FunctionType) -> None:
        self.statics.see(thing)
        if is_plain_function(thing):
            self.put_identity(thing.__code__)
        else:
            self._put_object(thing)

    def _put_traceback(self, thing: types.TracebackType) -> None:
        places = []
        trace: types.TracebackType | None = thing
        while trace is not None:
            code = trace.tb_frame.f_code
            places.append((code.co_filename, code.co_qualname, trace.tb_lasti))
            trace = trace.tb_next
        self._constant((types.TracebackType, tuple(places)))

    # -- what is in objects ----------------------------------------------------------

    def _write_nothing(self, thing: Any) -> None:
        pass

    def _write_value_of(self, thing: Any) -> None:
        # The value without its class.
        self.put(thing.__getnewargs__())

    def _write_items(self, items: Iterable[Any]) -> None:
        items = tuple(items)
        self._out.append(len(items))
        puts = self._puts
        for item in items:
            puts[type(item)](item)

    def _write_deque(self, thing: Any) -> None:
        self.put(thing.maxlen)
        self._write_items(collections.deque.__iter__(thing))

    def _write_dict(self, thing: Any) -> None:
        self._write_items(dict.items(thing))

    def _write_ordered_dict(self, thing: Any) -> None:
        self._write_items(collections.OrderedDict.items(thing))

    def _write_defaultdict(self, thing: Any) -> None:
        self.put(thing.default_factory)
        self._write_dict(thing)

    def _write_random(self, thing: Any) -> None:
        self._constant((random.Random, thing.getstate()))

    def _write_exception(self, thing: BaseException) -> None:
        self.put(thing.args)
        self.put(thing.__cause__)
        self.put(thing.__context__)
        self.put(thing.__traceback__)

    def _write_function(self, thing: types.FunctionType) -> None:
        self.put(thing.__code__)
        self.put(thing.__closure__)
        self.put(thing.__defaults__)
        self.put(thing.__kwdefaults__ and tuple(thing.__kwdefaults__.items()))
        self.put(thing.__dict__)

    def _write_cell(self, thing: types.CellType) -> None:
        try:
            self.put(thing.cell_contents)
        except ValueError:
            self._constant(_MISSING)

    def _write_context(self, thing: contextvars.Context) -> None:
        # Their order is that of hashes of the variables.
        items = sorted(thing.items(), key=lambda item: (item[0].name, id(item[0])))
        self._out.append(len(items))
        for variable, value in items:
            self.put(variable)
            self.put(value)

    def _write_entry(self, thing: Entry) -> None:
        self.put(thing.callback)
        self.put(thing.args)
        self.put(thing.context)
        self.put(thing.is_cancelled)
        self.put(getattr(thing, "deadline", None))
        self.put(self._loop.tasks[thing.owner] if thing.owner >= 0 else None)

    def _write_referents(self, thing: Any) -> None:
        self._write_items(gc.get_referents(thing))

    def _write_reduced(self, thing: Any) -> None:
        try:
            self.put(thing.__reduce__())
        except (TypeError, Warning):
            # Later Pythons take this ability from some iterators.
            self._put_opaque(thing)

    def _write_future(self, thing: Any) -> None:
        referents = gc.get_referents(thing)
        callbacks = thing._callbacks
        if callbacks and callbacks[0][0] is self._usual_callback:
            callbacks = callbacks[1:]
        self._out.append(_STATES.index(thing._state) * 2 + thing._log_traceback)
        self.put(callbacks and tuple(callbacks))
        self.put(thing._cancel_message)
        result = None
        if thing.done():
            self.put(thing._exception)
            if not thing.cancelled() and thing._exception is None:
                result = thing._result
                self.put(result)
        for item in referents:
            # Attributes that a program sets are in a dict that has no other way to it.
            if type(item) is dict and item is not result:
                self.put(item)

    def _write_task(self, thing: Any) -> None:
        number = self._loop._numbers.get(thing)
        if number == 0:
            # What it waits for is that the users go; the state it made is written apart.
            return
        self._write_future(thing)
        if thing.done():
            return
        name = thing.get_name()
        # A name that asyncio gave counts the tasks of the process; nothing rests on it.
        self.put(name if number is None or name != default_name(number) else None)
        self._out.append(thing.cancelling() * 2 + thing._must_cancel)
        self.put(thing._fut_waiter)
        self.put(thing.get_coro())
        for item in gc.get_referents(thing):
            # The first one is its own; 3.11 has no other way to it.
            if type(item) is _CONTEXT:
                self.put(item)
                break

    def _write_coroutine(self, thing: Any) -> None:
        frame, is_running = _COROUTINES[type(thing)](thing)
        if frame is None:
            self._constant(_MISSING)
            return
        referents = gc.get_referents(thing)
        if referents[_FRAME_AT] is not frame:
            # The hook that ends an async generator comes first.
            referents = referents[1:]
        # Made by frame.f_locals, and emptied below; or by the program's own locals().
        has_copy = type(referents[_LOCALS_AT]) is dict
        is_known = referents[_FRAME_AT] is frame
        if (
            not is_known
            or (has_copy and referents[_LOCALS_AT])
            or (is_running and not isinstance(thing, types.AsyncGeneratorType))
        ):
            self._put_opaque(thing)
            return
        names = frame.f_locals
        code = frame.f_code
        self.put_identity(code)
        self._out.append(frame.f_lasti)
        total = self._totals.get(code)
        if total is None:
            variables = code.co_varnames + code.co_cellvars + code.co_freevars
            total = self._totals[code] = len(set(variables))
        # Variables without a value are not among the referents.
        if len(names) != total:
            self._constant((code, tuple(sorted(names))))
        # A copy of the variables, which would keep alive what they held before.
        names.clear()
        self._out.append(is_running)
        missing = not has_copy
        awaited = referents[-1]
        if type(awaited) in _SENDS:
            # It is being awaited, and is no more than its generator and a value.
            referents[-1:] = gc.get_referents(awaited)
        self._put_function(referents[_FUNCTION_AT - missing])
        # Empty places are left out. Which they are follows from the instruction, but for
        # a pending call a.b(await c): its first two places hold a method and its self, or
        # nothing and what is called. Two such calls could be mixed up only if a function
        # had its own methods called that way.
        self._write_items(referents[_VALUES_AT - missing :])


def _name_of(kind: type) -> str:
    name = kind.__qualname__.rpartition("<locals>.")[2]
    module = kind.__module__.rpartition(".")[2]
    return name if module == "builtins" else f"{module}.{name}"


def _is_member(value: object) -> bool:
    return isinstance(value, types.MemberDescriptorType)
