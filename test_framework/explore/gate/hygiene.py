"""Which connections their users leave in a state that the next user does not expect.

A reply that nobody waits for: its request was written by a task that is done, the
connection is open, and no reader of it is suspended, so whoever takes the connection next
reads that reply as its own (redis/redis-py#2624 and #2665: CVE-2023-28858 and 28859).
A transaction that nobody ends: the next user works inside of it, and what both do is
committed or lost together.

Looked at twice: when another task sends on the connection, which convicts by itself, and
when all users are done. What closes a connection, drains it in a task that goes on, or
has a reader of its own, is clean.

Not seen: replies on protocols that the gate does not understand and on encrypted
connections; replies that a ``Protocol`` of the program's own takes in and gives to the
wrong user, for only a ``StreamReader`` shows what was not read. Who mends a connection no
earlier than when it is borrowed again is taken for one who does not.
"""

import asyncio
import linecache
from typing import TYPE_CHECKING, Any, cast

from test_framework.explore.gate.answers import Opaque
from test_framework.explore.gate.transport import GatedTransport, Held
from test_framework.explore.leftovers import Leftover
from test_framework.explore.waits import (
    calling_frame,
    is_library,
    own_frame,
    short_path,
)

if TYPE_CHECKING:
    from test_framework.explore.gate.network import NetworkLoop

_ENDERS = {"COMMIT", "END", "ROLLBACK", "ABORT", "EXEC", "DISCARD", "RESET", "UNWATCH"}
"""Requests that end what was begun; one that is held will."""

_CLOSERS = {"close", "QUIT"}
"""Requests after which there is no next user."""

_LISTENERS = {"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR"}
"""Requests after which nobody need read what comes."""


def is_understood(transport: GatedTransport) -> bool:
    """Tell whether the protocol of a connection shows what is left on it."""
    return not isinstance(transport.answers, Opaque) and transport.answers.has_end


def note_asker(loop: "NetworkLoop", request: Held) -> None:
    """Note which task of the program makes a request, and at which line.

    Clients send from tasks of their own; then it is the task that waits for those.
    """
    number, frame = request.owner, calling_frame()
    while frame is None or is_library(frame.f_code):
        number = loop.parents[number]
        if number < 0:
            request.asker = request.owner
            return
        frame = own_frame(loop.tasks[number].get_coro())
    request.asker = number
    request.file, request.line = frame.f_code.co_filename, frame.f_lineno


def leftover_on(
    loop: "NetworkLoop", transport: GatedTransport, taker: Held | None = None
) -> Leftover | None:
    """Return what is left on a connection for its next user; None when it is clean.

    Args:
        loop: Of the connection.
        transport: The connection.
        taker: The request of the next user; None while there is none.
    """
    is_over = taker is not None and _word(taker) in _CLOSERS
    if is_over or not transport.is_usable:
        return None
    last, first = transport.last, transport.began
    if last is not None and _is_abandoned(loop, last) and _is_unread(transport):
        asked = last.described or transport.describe(bytes(last.data))
        claim = (
            f"nobody reads the reply to its {asked}, on a {transport.kind} connection "
            "that is still open: whoever uses it next takes that reply for its own"
        )
        return _leftover(loop, transport, last, taker, claim, "unread reply")
    if first is not None and _is_abandoned(loop, first):
        requests = [*transport.held, *([taker] if taker is not None else [])]
        if not any(_word(request) in _ENDERS for request in requests):
            unfinished = transport.answers.unfinished
            claim = (
                f"nobody ends the {unfinished} that it began on a {transport.kind} "
                "connection that is still open: whoever uses it next works inside of it"
            )
            return _leftover(loop, transport, first, taker, claim, unfinished)
    return None


def _leftover(
    loop: "NetworkLoop",
    transport: GatedTransport,
    request: Held,
    taker: Held | None,
    claim: str,
    what: str,
) -> Leftover:
    name = loop.name(request.asker)
    details = [f"{name} asked at {_line(request)}"]
    if taker is not None:
        taken = transport.describe(bytes(taker.data))
        details.append(
            f"{loop.name(taker.asker)} then sent {taken} on it, at {_line(taker)}"
        )
    where = f"{short_path(request.file)}:{request.line}" if request.file else ""
    # Users are alike: what one leaves in the usual order, another one may in this.
    crowd = "".join(letter for letter in name if not letter.isdigit())
    return Leftover(
        "dirty-connection",
        f"{name} is done and {claim}.",
        where,
        tuple(details),
        f"{what} of {request.label} by {crowd}",
    )


def _word(request: Held) -> str:
    return request.label.split()[-1]


def _line(request: Held) -> str:
    if not request.file:
        return "no line of the program"
    code = linecache.getline(request.file, request.line).strip()
    return f"{short_path(request.file)}:{request.line}  {code}"


def _is_abandoned(loop: "NetworkLoop", request: Held) -> bool:
    """Tell whether the task that made a request, and who started it, are all done.

    Main is no user: what it opens ends with the run.
    """
    if request.asker <= 0:
        return False
    number = request.owner
    while number > 0:
        if not loop.tasks[number].done():
            return False
        number = loop.parents[number]
    return True


def _is_unread(transport: GatedTransport) -> bool:
    """Tell whether a reply is to come, or has come, that nobody waits for."""
    if transport.may_push or any(_word(it) in _LISTENERS for it in transport.held):
        # What comes may be no reply, and nobody may have asked for it.
        return False
    protocol = cast("Any", transport.get_protocol())
    if not isinstance(protocol, asyncio.StreamReaderProtocol):
        return False
    # What is in the buffer of a reader, and who waits for more, is private.
    reader = cast("Any", protocol)._stream_reader
    if reader is None or reader._waiter is not None:
        # Nobody holds the reader any more, or somebody reads.
        return False
    has_arrived = transport.is_partial or bool(reader._buffer)
    return bool(transport.held) or transport.answers.is_due or has_arrived
