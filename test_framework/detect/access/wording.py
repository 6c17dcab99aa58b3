"""Tells a conflict to people: what was lost, where, by whom, and what to change."""

import linecache
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

from test_framework.core import AlarmRecord
from test_framework.detect.access.ledger import Conflict, Use
from test_framework.detect.access.methods import STRUCTURE
from test_framework.detect.access.sites import Sites, told_path

_RULES = {
    "lost-update": "shared-update-lost",
    "clobbered-write": "shared-write-clobbered",
    "changed-iteration": "shared-iteration-changed",
    "unrepeatable-read": "shared-read-unrepeatable",
}
_CLAIMS = {
    "lost-update": (
        "{first} read {what}, awaited, and wrote it on the strength of what it had "
        "read, although {other} wrote it in between"
    ),
    "clobbered-write": (
        "{first} wrote {what}, awaited, and read back what {other} had written in "
        "between"
    ),
    "changed-iteration": (
        "{first} went through {what} and awaited in the loop, while {other} changed it"
    ),
    "unrepeatable-read": (
        "{first} read {what} twice with an await between, and {other} changed it in "
        "between"
    ),
}
_FIXES = {
    "lost-update": (
        "Hold one asyncio.Lock from {first} to {second}, or await first and then read, "
        "decide and write in one step; {other} must take the same lock."
    ),
    "clobbered-write": (
        "Keep {what} per request: pass it as an argument or return it; an attribute of "
        "a shared object holds the value of whoever wrote last."
    ),
    "changed-iteration": "Go through a copy: for ... in list(...), at {first}.",
    "unrepeatable-read": (
        "If both reads must agree, read once before the await and keep the value."
    ),
}
_USED = {"iterate": "goes through", "write": "writes", "update": "changes"}


def alarm_of(conflict: Conflict, sites: Sites, *, root: Path) -> AlarmRecord:
    """Return the alarm of a conflict."""
    what = _what(conflict)
    told = {
        "what": what,
        "first": sites[conflict.first.site].told(root),
        "other": sites[conflict.other.site].told(root),
        "second": sites[conflict.second.site].told(root),
    }
    claim = _CLAIMS[conflict.pattern].format(
        what=what, first=conflict.first.user, other=conflict.other.user
    )
    return AlarmRecord(
        rule=_RULES[conflict.pattern],
        level="note" if conflict.pattern == "unrepeatable-read" else "error",
        claim=f"{claim}.",
        site=told["second"],
        evidence=tuple(_evidence(conflict, sites, what=what, root=root)),
        fix=_FIXES[conflict.pattern].format(**told),
        operations=tuple(sorted(conflict.operations)),
        count=conflict.count,
    )


def _what(conflict: Conflict) -> str:
    if conflict.key is STRUCTURE:
        return f"the contents of a {conflict.owner}"
    if conflict.owner == "Cell":
        return f"the variable {conflict.key!r} of an outer function"
    if conflict.is_keyed:
        # Keys may be anybody's address or token: they are never told.
        return f"one key of a {conflict.owner}"
    return f"{conflict.owner}.{conflict.key}"


def _evidence(
    conflict: Conflict, sites: Sites, *, what: str, root: Path
) -> Iterator[str]:
    first, other, second = conflict.first, conflict.other, conflict.second
    yield f"{first.user} {_USED.get(first.kind, 'reads')} {what}:"
    yield from _frames(first, root)
    if conflict.awaited is not None:
        site = sites[conflict.awaited]
        yield f"{first.user} awaits at {site.told(root)}: {site.text}"
    yield f"{other.user} {_USED.get(other.kind, 'writes')} it meanwhile:"
    yield from _frames(other, root)
    yield f"{second.user} {_USED.get(second.kind, 'reads')} it:"
    yield from _frames(second, root)


def _frames(use: Use, root: Path) -> Iterator[str]:
    for code, instruction in use.stack:
        line = _line(code, instruction)
        path = told_path(code.co_filename, root)
        source = linecache.getline(code.co_filename, line).strip()
        yield f"  {path}:{line} in {code.co_qualname}: {source}"


def _line(code: CodeType, instruction: int) -> int:
    position = next(
        (
            line
            for start, end, line in code.co_lines()
            if start <= instruction < end and line is not None
        ),
        None,
    )
    return code.co_firstlineno if position is None else position
