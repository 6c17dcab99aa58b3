"""Did each user get what it asked for, undisturbed by the others?

Five checks over finished operations: identifiers given twice, operations that may
succeed once and succeeded more often, expectations of the workload that did not
hold, requests that nobody disturbed and that failed all the same, and things left
behind by users who are gone. Linear in records.

A refusal (4xx) is an answer. A server error, a timeout or a lost connection is not,
unless we caused it ourselves or asked for it (the error-path shape).
"""

import re
from collections import defaultdict
from collections.abc import Iterator

from test_framework.check.faults.windows import is_around_fault, is_excused
from test_framework.check.names import operation_line, user_name
from test_framework.check.policy import public_endpoints
from test_framework.check.sighting import Sighting
from test_framework.core import (
    VISITOR,
    ComplaintRecord,
    History,
    Operation,
    ResidueRecord,
)

_SERVER_ERROR = 500
_UNAVAILABLE = 503
_DISTURBING_SHAPE = "disconnects"
"""Load shedding is an answer, but not for what other users' disconnects cost."""
_OPAQUE = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F-]{22}|[0-9a-fA-F]{16,}|\d{10,}"
)
"""Identifiers that look global: UUIDs, long hexadecimals, clocks.

Others, such as 7 or INV-2026-000007, may be counted per user by design.
"""

PROVOKING_SHAPES = frozenset({"error-paths"})
"""Shapes in which a server error may be the answer that was asked for."""


def check_identifiers(history: History) -> Iterator[Sighting]:
    """Yield each identifier that the service gave to two users."""
    first: dict[tuple[str, str], Operation] = {}
    shared = public_endpoints(history)
    for operation in history.of(Operation):
        identifier = operation.created_id
        if identifier is None or not _OPAQUE.fullmatch(identifier):
            continue
        if operation.endpoint in shared or identifier in operation.path:
            continue
        earlier = first.setdefault((operation.endpoint, identifier), operation)
        if earlier.user != operation.user:
            yield Sighting(
                rule="identifier-collision",
                claim=f"{user_name(earlier.user)} and {user_name(operation.user)} "
                f"were both given {identifier!r}",
                victim=earlier.user,
                observer=operation.user,
                channel="http",
                surface=operation.endpoint,
                at_ns=operation.completed_ns,
                operation=operation.index,
                evidence=(
                    f"Let    a = {operation_line(earlier)}",
                    f"       b = {operation_line(operation)}",
                    (
                        f"Then   both answers gave the new identifier {identifier!r}; "
                        "two users cannot own one thing: contradiction."
                    ),
                ),
            )


def check_once(history: History) -> Iterator[Sighting]:
    """Yield each operation that may succeed once and succeeded more often."""
    groups: dict[str, list[Operation]] = defaultdict(list)
    for operation in history.of(Operation):
        if operation.once is not None and operation.outcome == "ok":
            groups[operation.once].append(operation)
    for winners in groups.values():
        if len(winners) > 1:
            a, b = winners[:2]
            yield Sighting(
                rule="acted-more-than-once",
                claim=f"{a.endpoint} of {user_name(a.user)} succeeded "
                f"{len(winners)} times",
                victim=a.user,
                observer=None,
                channel="http",
                surface=a.endpoint,
                at_ns=b.completed_ns,
                operation=b.index,
                evidence=(
                    f"Let    a = {operation_line(a)}",
                    f"       b = {operation_line(b)}",
                    (
                        "Then   a and b are the same request, of which at most one may "
                        f"succeed, and {len(winners)} did: contradiction."
                    ),
                ),
            )


def check_expectations(history: History) -> Iterator[Sighting]:
    """Yield each expectation of the workload that did not hold."""
    operations = {operation.index: operation for operation in history.of(Operation)}
    for complaint in history.of(ComplaintRecord):
        if complaint.kind == "error" or is_excused(complaint, history):
            continue
        operation = operations.get(complaint.op) if complaint.op is not None else None
        late = complaint.kind == "timeout"
        if late and operation is not None and operation.outcome == "info":
            # It was the request itself that got no answer, and that is told as such.
            continue
        proof = (
            (f"Let    a = {operation_line(operation)}",)
            if operation is not None
            else ()
        )
        yield Sighting(
            rule="event-lost" if late else "own-data-wrong",
            claim=f"{user_name(complaint.user)} waited in vain"
            if late
            else f"{user_name(complaint.user)} did not find its own things right",
            victim=complaint.user,
            observer=None,
            channel="websocket" if late else "http",
            surface=operation.endpoint if operation is not None else complaint.shape,
            at_ns=operation.completed_ns if operation is not None else 0,
            operation=complaint.op,
            evidence=(
                *proof,
                (
                    f"Then   in shape {complaint.shape} the workload said: "
                    f"{complaint.message}"
                ),
            ),
        )


def check_bystanders(history: History) -> Iterator[Sighting]:
    """Yield each request that nobody disturbed and that got no proper answer.

    A service that refuses the login or dies half way is told as such; who was in
    flight then is no bystander. What fails around a fault is judged by ``faults``.
    """
    if history.is_broken_off:
        return
    for operation in history.of(Operation):
        if operation.channel != "http" or operation.disturbed:
            continue
        if is_around_fault(operation.shape):
            continue
        is_shed = (
            operation.status == _UNAVAILABLE and operation.shape == _DISTURBING_SHAPE
        )
        if operation.user == VISITOR or not (operation.outcome == "info" or is_shed):
            continue
        is_error = operation.status is not None and operation.status >= _SERVER_ERROR
        if operation.error == "cancelled":
            continue
        if is_error and operation.shape in PROVOKING_SHAPES:
            continue
        what = f"a server error {operation.status}" if is_error else operation.error
        yield Sighting(
            rule="bystander-failed",
            claim=f"{user_name(operation.user)} asked for {operation.endpoint} and "
            f"got {what}",
            victim=operation.user,
            observer=None,
            channel="http",
            surface=operation.endpoint,
            at_ns=operation.completed_ns,
            operation=operation.index,
            evidence=(
                f"Let    a = {operation_line(operation)}",
                (
                    f"Then   in shape {operation.shape} nobody disturbed a, and it got "
                    f"{what} after {operation.latency_ns / 1e6:.0f} ms."
                ),
            ),
        )


def check_residue(history: History) -> Iterator[Sighting]:
    """Yield what users who are gone left in the service; of a whole run only."""
    if history.is_broken_off:
        return
    for residue in history.of(ResidueRecord):
        owner = residue.users[0] if residue.users else None
        yield Sighting(
            rule="left-behind",
            claim=f"{residue.count} {residue.kind}(s) stayed after everybody had left",
            victim=owner,
            observer=None,
            channel=residue.channel,
            surface=residue.kind,
            at_ns=2**62,
            evidence=(
                "Let    every user have closed its sockets and logged out.",
                (
                    f"Then   {residue.count} {residue.kind}(s) are still there: "
                    f"{residue.place}"
                ),
            ),
            count=residue.count,
        )
