"""Which uses of one place, across an await, no order of the users explains.

What is not a conflict, although another user wrote in between:

* an ``update`` after an ``update`` (counters, ``append``): each takes the newest value;
* a place that was read again after the other's write: that is a check that holds;
* an ``update`` of a container after a snapshot of it: "tell all of list(sockets), then
  discard mine" is right.

Source: the unserialisable triples of Lu et al., AVIO (ASPLOS 2006).
"""

from collections.abc import Mapping
from typing import Final, Literal

from test_framework.detect.access.methods import STRUCTURE, Kind

Pattern = Literal[
    "lost-update",
    "clobbered-write",
    "torn-read",
    "changed-iteration",
    "unrepeatable-read",
    "stale-check",
]

Use = tuple[Kind, int, int, int]
"""Kind, version of the place afterwards, step of the task, number of the site."""

WRITES: Final = frozenset({"write", "update"})

Patterns = Mapping[Kind, Mapping[Kind, Pattern]]
"""By the use before, and by the use after another user's write."""

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


def in_sequence(before: Use, kind: Kind, step: int, site: int) -> Kind:
    """Return what a use comes to when the task itself had the last word before it."""
    was, _, when, where = before
    if was == "write" or was == "confirmed":
        # What was put and then changed is still known.
        if kind == "update":
            return "write"
        return "confirmed" if kind == "read" else kind
    if when != step:
        return kind
    if was == "update" and (kind == "read" or kind == "size"):
        # "append, and if there are enough of them": no limit that was looked up.
        return "result"
    if was == "read" and kind == "write" and where == site:
        # ``a.x = a.x + 1``, in one line and one step, changes the old value.
        return "update"
    return kind
