"""What the operations of Python's containers use: a key, the whole, or the size."""

import collections
import io
from collections.abc import Mapping, MutableMapping, MutableSequence, MutableSet
from typing import Final, Literal

Kind = Literal[
    "read",
    "show",
    "check",
    "size",
    "write",
    "confirmed",
    "result",
    "update",
    "remove",
    "load",
    "iterate",
]
"""How a place is used.

``read`` takes a value that later steps may rely on; ``show`` one that is only logged,
and ``check`` one that is compared with what it is hoped to be still;
``size`` asks how much a container holds, as a limit does; ``write`` puts a value that
does not depend on the old one; ``update`` changes the old one, as ``+=`` and ``append``
do; ``remove`` deletes; ``load`` is the first half of ``a.x += await f()``; ``iterate``
is each step of a loop; ``confirmed`` is what a ``write`` becomes when its own value is
read back, and ``result`` what a read of the own ``update`` is.
"""

Category = Literal["mapping", "sequence", "set", "buffer"]


class _Structure:
    """The place that stands for which keys or elements a container has."""

    def __repr__(self) -> str:
        return "its contents"


STRUCTURE: Final = _Structure()

ASKED: Final[frozenset[Kind]] = frozenset(
    {"read", "check", "size", "confirmed", "result"}
)
"""Kinds that learn something."""

WHOLE: Final[dict[str, Kind]] = {
    "all": "read",
    "any": "read",
    "bool": "size",
    "dict": "read",
    "repr": "read",
    "str": "read",
    "enumerate": "read",
    "frozenset": "read",
    "len": "size",
    "list": "read",
    "max": "read",
    "min": "read",
    "reversed": "read",
    "set": "read",
    "sorted": "read",
    "sum": "read",
    "tuple": "read",
}
"""Functions that use all of their first argument."""

BY_NAME: Final[dict[str, Kind]] = {
    "delattr": "write",
    "getattr": "read",
    "hasattr": "read",
    "setattr": "write",
}
"""Functions that use the attribute of their first argument that the second names."""

MUTE_CALLS: Final = frozenset(
    {"critical", "debug", "error", "exception", "info", "log", "print", "warning"}
)
"""What is only told to people opens no window: nothing is decided by it."""

KEYED: Final = frozenset({"add", "discard", "get", "pop", "remove", "setdefault"})
"""Methods of mappings and sets whose first argument is a key or an element."""

ARGUED: Final = KEYED | {"append", "appendleft", "update"}
"""Methods of which the first argument says what they change."""

ON_CONTAINER: Final[dict[str, Kind]] = {
    "append": "update",
    "appendleft": "update",
    "clear": "write",
    "copy": "read",
    "count": "read",
    "difference_update": "update",
    "elements": "read",
    "extend": "update",
    "extendleft": "update",
    "index": "read",
    "insert": "update",
    "intersection_update": "update",
    "items": "read",
    "keys": "read",
    "move_to_end": "update",
    "pop": "update",
    "popitem": "update",
    "popleft": "update",
    "remove": "update",
    "reverse": "update",
    "rotate": "update",
    "sort": "update",
    "subtract": "update",
    "symmetric_difference_update": "update",
    "update": "update",
    "values": "read",
}
"""How a method without a key uses the structure."""

ON_BUFFER: Final[dict[str, Kind]] = {
    "getvalue": "read",
    "read": "read",
    "seek": "write",
    "truncate": "write",
    "write": "write",
    "writelines": "write",
}

BUFFERED: Final = frozenset(ON_BUFFER) - KEYED - frozenset(ON_CONTAINER)
"""Methods that only buffers have."""

PASSED_ON: Final = frozenset({"shield", "wait_for"})
"""Functions that wait for their first argument."""

SIGNALS: Final = frozenset({"set_exception", "set_result"})

CALLED_ON: Final = ARGUED | set(ON_CONTAINER) | set(ON_BUFFER) | SIGNALS
"""Methods at whose receivers a probe stands."""


_MOST_CLASSES: Final = 4_096


class _Categories(dict[type, Category | None]):
    """What kind of container each class is; None for what does not change."""

    def __missing__(self, cls: type) -> Category | None:
        if len(self) >= _MOST_CLASSES:
            # Some programs make classes all the time; these must not live for ever.
            self.clear()
        found = self[cls] = _category_of(cls)
        return found


CATEGORIES: Final = _Categories()
"""By class, filled as classes are seen: to ask an abstract class takes long."""


def _category_of(cls: type) -> Category | None:
    if issubclass(cls, dict):
        return "mapping"
    if issubclass(cls, list | collections.deque | bytearray):
        return "sequence"
    if issubclass(cls, set):
        return "set"
    if issubclass(cls, io.StringIO | io.BytesIO):
        return "buffer"
    if not issubclass(cls, Mapping | MutableSequence | MutableSet):
        return None
    if issubclass(cls, MutableMapping):
        return "mapping"
    if issubclass(cls, MutableSequence):
        return "sequence"
    return "set" if issubclass(cls, MutableSet) else None
