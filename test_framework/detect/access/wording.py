"""Tells a conflict to people: what was lost, where, by whom, and what to change."""

import linecache
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Final

from test_framework.core import AlarmRecord, Level
from test_framework.detect.access.books import Claim, Conflict, Stack
from test_framework.detect.access.methods import STRUCTURE
from test_framework.detect.access.origins import Origins
from test_framework.detect.access.patterns import Pattern
from test_framework.detect.access.sites import Site, Sites, told_path

RULE_OF: Final[Mapping[Pattern, str]] = {
    "lost-update": "shared-update-lost",
    "clobbered-write": "shared-write-clobbered",
    "torn-read": "shared-read-torn",
    "changed-iteration": "shared-iteration-changed",
    "unrepeatable-read": "shared-read-unrepeatable",
    "stale-check": "shared-check-stale",
    "stale-decision": "shared-check-stale",
    "mixed-versions": "shared-read-torn",
    "kept-value": "shared-contents-mixed",
    "half-written": "shared-read-torn",
    "half-built": "shared-read-torn",
    "mixed-contents": "shared-contents-mixed",
    "joint-contents": "shared-contents-mixed",
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
    "torn-read": (
        "{first} read {what}, awaited, and read another part of the same object, "
        "although {other} had replaced both in between"
    ),
    "changed-iteration": (
        "{first} went through {what} and awaited in the loop, while {other} changed it"
    ),
    "unrepeatable-read": (
        "{first} read {what} twice with an await between, and {other} changed it in "
        "between"
    ),
    "stale-decision": (
        "{first} looked at {what}, awaited, and went on, although {other} had changed "
        "it in between and the same question has another answer now"
    ),
    "mixed-versions": (
        "{first} read {what}, awaited, and read it again, and made one value of both, "
        "although {other} had changed it in between"
    ),
    "half-written": (
        "{first} wrote {what}, awaited, and wrote what belongs to it, although {other} "
        "read both in between and took one of each"
    ),
    "kept-value": (
        "{first} offered a value of its own for {what}, and goes on with another one, "
        "which {other} had put there"
    ),
    "half-built": (
        "{first} put an object where others find it, awaited, and only then wrote "
        "{what}, which {other} had found there and read before it was complete"
    ),
    "mixed-contents": (
        "{first} added to {what}, awaited, and took all of it for its answer, although "
        "{other} had changed it in between"
    ),
    "joint-contents": (
        "{first} added to {what}, awaited, and took all of it for its answer, together "
        "with what {other} had added in between"
    ),
    "stale-check": (
        "{first} looked at {what}, awaited, and wrote it, although {other} wrote it in "
        "between: what was decided on may no longer hold"
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
    "torn-read": (
        "Read both before the await, or keep what belongs together in one immutable "
        "object and read that once."
    ),
    "changed-iteration": "Go through a copy: for ... in list(...), at {first}.",
    "unrepeatable-read": (
        "If both reads must agree, read once before the await and keep the value."
    ),
    "stale-decision": (
        "Ask after the await only, at {second}; if an answer may be given that was right "
        "when the request came, read once and keep the value."
    ),
    "mixed-versions": (
        "Read it once, before the await, and keep the value: what is read at {first} "
        "and at {second} must be of one version."
    ),
    "half-written": (
        "Await first, and write both in one step at {second}; or keep what belongs "
        "together in one immutable object that is replaced as a whole."
    ),
    "kept-value": (
        "If it is meant to be each request's own, make a new one or a copy before "
        "{first}; if whoever comes first is meant to win, nothing is wrong here."
    ),
    "half-built": (
        "Await first, complete the object, and put it where others find it in the same "
        "step; or let them wait for an asyncio.Event that is set at {second}."
    ),
    "mixed-contents": (
        "Make a new container for each request, where {first} gets it from; to set a "
        "ContextVar on entry, or an attribute in __init__, makes one."
    ),
    "joint-contents": (
        "If it is meant to be each request's own, make a new one or a copy before "
        "{first}; if all are meant to read what all have added, nothing is wrong here."
    ),
    "stale-check": (
        "Ask again after the await, at {second}, in the same step as the write; or hold "
        "one asyncio.Lock from {first} to {second}."
    ),
}
_FIX_OF_CONTAINER: Final = (
    "Give each request a container of its own, or a copy before anything is put into "
    "it: what all requests share holds the value of whoever wrote last."
)
_CLAIMED: Final[Mapping[Claim, str]] = {
    "class": (
        "It stands in the body of the class and is one for all of its objects, though "
        "each request made an object of its own."
    ),
    "default": (
        "It is the default of a ContextVar, and one for all contexts that set none."
    ),
}
_GUESSES: Final = frozenset(
    {"stale-check", "stale-decision", "joint-contents", "kept-value"}
)
"""What only its author can tell from what is meant."""

_USED = {
    "confirmed": "has written and reads",
    "iterate": "goes through",
    "read": "reads",
    "size": "asks for the size of",
    "update": "changes",
    "write": "writes",
}


def alarm_of(
    conflict: Conflict,
    sites: Sites,
    origins: Origins,
    *,
    root: Path,
    is_hosted: bool = False,
) -> AlarmRecord:
    """Return the alarm of a conflict.

    Args:
        conflict: What was found.
        sites: Where uses stand.
        origins: Where objects are made.
        root: Paths are told relative to it.
        is_hosted: Whether requests of users were seen in this process.
    """
    what, window = _what(conflict), conflict.window
    told = {
        "what": what,
        "first": sites[window.first[3]].told(root),
        "other": sites[conflict.other[1]].told(root),
        "second": sites[window.second[3]].told(root),
    }
    claim = _CLAIMS[conflict.pattern].format(
        what=what, first=window.user, other=conflict.by
    )
    if not conflict.happened:
        claim = f"It could happen that {claim}"
    fix = _FIXES[conflict.pattern]
    if conflict.pattern == "clobbered-write" and conflict.is_keyed:
        fix = _FIX_OF_CONTAINER
    return AlarmRecord(
        rule=RULE_OF[conflict.pattern],
        level=_level(conflict, is_hosted=is_hosted),
        claim=f"{claim}.",
        site=told["second"],
        evidence=(
            *_evidence(conflict, sites, what=what, root=root),
            *_origin(conflict, origins, root=root),
        ),
        fix=fix.format(**told),
        operations=tuple(sorted(conflict.operations)),
        count=max(conflict.count, 1),
    )


def _level(conflict: Conflict, *, is_hosted: bool) -> Level:
    if conflict.pattern == "unrepeatable-read":
        return "note"
    is_guess = conflict.pattern == "stale-check"
    # A task that no request started lives as long as the service and comes by again and
    # again: what it used in one round says little of what it means to use in the next.
    is_standing = is_hosted and conflict.window.user.operation is None
    if conflict.happened:
        is_sure = not is_standing and conflict.pattern not in _GUESSES
        return "error" if is_sure else "warning"
    if conflict.is_of_one:
        return "note"
    if conflict.is_kept_apart or (is_guess and conflict.window.second[0] == "write"):
        # As a rule the same value is found and stored twice, or a lock by key is made
        # anew when somebody needs it. The trial has the last word.
        return "note"
    return "warning"


def _what(conflict: Conflict) -> str:
    if conflict.key is STRUCTURE:
        return f"the contents of {conflict.holder or f'a {conflict.owner}'}"
    if conflict.owner == "Cell":
        return f"the variable {conflict.key!r} of an outer function"
    if conflict.is_keyed:
        # Keys may be anybody's address or token: they are never told.
        return (
            f"{conflict.holder}[...]"
            if conflict.holder
            else (f"one key of a {conflict.owner}")
        )
    return f"{conflict.owner}.{conflict.key}"


def _evidence(
    conflict: Conflict, sites: Sites, *, what: str, root: Path
) -> Iterator[str]:
    window, other = conflict.window, conflict.other
    first, second = sites[window.first[3]], sites[window.second[3]]
    yield f"{window.user} {_USED.get(window.first[0], 'reads')} {what}:"
    yield f"  {first.told(root)} in {first.function}: {first.text}"
    yield from _frames(_callers(window.stack, first), root)
    if window.awaited is not None:
        awaited = sites[window.awaited]
        yield f"{window.user} awaits at {awaited.told(root)}: {awaited.text}"
    when = "meanwhile" if conflict.happened else "at another time, with no common lock"
    yield f"{conflict.by} {_USED.get(other[0], 'writes')} it {when}:"
    if other[4]:
        yield from _frames(other[4], root)
    else:
        site = sites[other[1]]
        yield f"  {site.told(root)} in {site.function}: {site.text}"
    part = "the other part" if conflict.pattern == "torn-read" else "it"
    yield f"{window.user} {_USED.get(window.second[0], 'reads')} {part}:"
    if window.stack:
        yield from _frames(window.stack, root)
    else:
        yield f"  {second.told(root)} in {second.function}: {second.text}"
    if conflict.is_of_one and not conflict.happened:
        yield "Both are requests of one user, and no other was seen to use it."
    if window.locks and conflict.happened:
        yield f"{window.user} held a lock all the while, which {conflict.by} did not take."
    if conflict.trials and not conflict.happened:
        yield (
            f"Tasks were held {conflict.trials} times at that await and nobody wrote: "
            "something may protect it that is not seen here."
        )


def _origin(conflict: Conflict, origins: Origins, *, root: Path) -> Iterator[str]:
    """Tell where the object was made, if its class or its holder says so."""
    if conflict.claim is not None:
        yield _CLAIMED[conflict.claim]
    if conflict.is_keyed:
        what, lines = conflict.holder, origins.of_holder(conflict.holder or "")
    elif not conflict.is_instance:
        return
    else:
        what, lines = conflict.owner, origins.of_object(conflict.owner)
    for number, (path, line) in enumerate(lines):
        made = f"What {what} holds is" if conflict.is_keyed else f"The {what} is"
        source = linecache.getline(path, line).strip()
        where = f"{told_path(path, root)}:{line}: {source}"
        yield f"  or at {where}" if number else f"{made} made at {where}"


def _callers(stack: Stack, site: Site) -> Stack:
    """Return the frames that called the function of a site, as far as they still ran."""
    for number, (code, _) in enumerate(stack):
        name = code.co_qualname.replace(".<locals>", "")
        if code.co_filename == site.path and name == site.function:
            return stack[number + 1 :]
    return ()


def _frames(stack: Stack, root: Path) -> Iterator[str]:
    for code, instruction in stack:
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
