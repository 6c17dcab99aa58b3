"""Which uses of one place, across an await, no order of the users explains.

What is not a conflict, although another user wrote in between:

* an ``update`` after an ``update`` (counters, ``append``): each takes the newest value;
* a place that was read again after the other's write: that is a check that holds;
* an ``update`` of a container after a snapshot of it: "tell all of list(sockets), then
  discard mine" is right.

Source: the unserialisable triples of Lu et al., AVIO (ASPLOS 2006).
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

from test_framework.detect.access.methods import ASKED, STRUCTURE, Kind

Pattern = Literal[
    "lost-update",
    "clobbered-write",
    "torn-read",
    "changed-iteration",
    "unrepeatable-read",
    "stale-check",
    "stale-decision",
    "mixed-versions",
    "kept-value",
    "half-written",
    "half-built",
    "mixed-contents",
    "joint-contents",
]

Use = tuple[Kind, int, int, int]
"""Kind, version of the place afterwards, step of the task, number of the site."""

WRITES: Final = frozenset({"write", "update"})

Patterns = Mapping[Kind, Mapping[Kind, Pattern]]
"""By the use before, and by the use after another user's write."""

Successors = Mapping[Kind, frozenset[Kind]]
"""By the use before: the uses after it that are worth a closer look."""

OF_VALUE: Final[Patterns] = {
    "read": {
        "write": "lost-update",
        "update": "lost-update",
        "read": "unrepeatable-read",
    },
    "load": {"write": "lost-update"},
    "result": {"write": "lost-update", "read": "unrepeatable-read"},
    "confirmed": {
        "write": "lost-update",
        "update": "lost-update",
        "read": "clobbered-write",
        "show": "clobbered-write",
    },
    "write": {"read": "clobbered-write", "show": "clobbered-write"},
    "iterate": {"iterate": "changed-iteration"},
}
OF_STRUCTURE: Final[Patterns] = {
    "read": {"write": "lost-update"},
    "result": {"write": "lost-update"},
    "update": {"update": "joint-contents", "read": "joint-contents"},
    "size": {"write": "lost-update", "update": "lost-update"},
    "confirmed": {
        "write": "lost-update",
        "read": "clobbered-write",
        "size": "clobbered-write",
    },
    "write": {"read": "clobbered-write", "size": "clobbered-write"},
    "iterate": {"iterate": "changed-iteration"},
}
NONE: Final[Mapping[Kind, Pattern]] = {}


def pattern_of(before: Use, kind: Kind, key: object, site: int) -> Pattern | None:
    """Return what two uses of one task are when another user wrote in between."""
    patterns = OF_STRUCTURE if key is STRUCTURE else OF_VALUE
    found = patterns.get(before[0], NONE).get(kind)
    if found == "unrepeatable-read" and before[3] == site:
        # The same question asked anew, as in a loop, wants the newest answer.
        return None
    return found


def _after_others(kinds: Patterns, *, is_structure: bool) -> Successors:
    """Return which uses are worth judging after a use and another user's write."""
    return {
        was: frozenset(kinds.get(was, NONE))
        | ({"update"} if is_structure and was in _RELIED else frozenset())
        for was in get_args(Kind)
    }


def _after_await(kinds: Patterns) -> Successors:
    """Return which uses make a window with one before the await."""
    return {
        was: frozenset(
            kind
            for kind, pattern in kinds.get(was, NONE).items()
            if pattern not in _ONLY_SEEN
        )
        for was in get_args(Kind)
    }


_ONLY_SEEN: Final = frozenset({"unrepeatable-read", "joint-contents"})
"""What nobody foretells: it is a matter of what became of the values."""

_RELIED: Final = ASKED | {"write", "confirmed"}
JUDGED_OF_VALUE: Final = _after_others(OF_VALUE, is_structure=False)
JUDGED_OF_STRUCTURE: Final = _after_others(OF_STRUCTURE, is_structure=True)
OPENING_OF_VALUE: Final = _after_await(OF_VALUE)
OPENING_OF_STRUCTURE: Final = _after_await(OF_STRUCTURE)

_OWN: Final[Mapping[Kind, Kind]] = {"update": "write", "read": "confirmed"}
IN_SEQUENCE: Final[Mapping[Kind, Mapping[Kind, Kind]]] = {
    was: _OWN if was in {"write", "confirmed"} else {} for was in get_args(Kind)
}
"""What a use comes to when the task itself had the last word before it.

What was put and then changed is still known.
"""

IN_STEP: Final[Mapping[Kind, Mapping[Kind, Kind]]] = {
    **IN_SEQUENCE,
    # "append, and if there are enough of them": no limit that was looked up.
    "update": {"read": "result", "size": "result"},
}
"""The same with no await between the two."""
