"""Did anybody see, store or send a canary that is another user's?

Each canary names its owner, so no expectation has to be written down: a canary
seen by someone else, and not declared public, is contamination. What an operation
itself sent may come back to it. Answers, headers, cookies, errors and events are
judged by who received them; rows, keys, messages and log lines by the users whose
identity stands in them. Linear in the number of canaries seen.
"""

import dataclasses
from collections.abc import Iterator

from test_framework.check.names import operation_line, user_name
from test_framework.check.policy import public_endpoints
from test_framework.check.sighting import Sighting
from test_framework.core import (
    VISITOR,
    CanaryRecord,
    History,
    Observation,
    Operation,
    Seen,
    UserRecord,
)

_ERROR = 400
_SERVED_BY_ID = "served to whoever asks"
"""A cause apart from state that is shared, although the rule is the same."""

_STORED = {
    "postgres": ("row-under-wrong-owner", "row"),
    "redis": ("key-under-wrong-owner", "key"),
    "pubsub": ("message-on-wrong-channel", "message"),
    "log": ("log-names-another-user", "log line"),
}


def check_contamination(history: History) -> Iterator[Sighting]:
    """Yield every canary that reached another user than its owner."""
    public = {record.canary for record in history.of(CanaryRecord) if record.public}
    purposes = {record.canary: record.purpose for record in history.of(CanaryRecord)}
    shared = public_endpoints(history)
    planted_by = _first_writers(history)
    for operation in history.of(Operation):
        if not operation.seen or operation.endpoint in shared:
            continue
        for seen in operation.seen:
            if (
                seen.owner == operation.user
                or seen.canary in public
                or seen.canary in operation.planted
            ):
                continue
            received = _received(
                operation,
                seen,
                writer=planted_by.get(seen.canary),
                purpose=purposes.get(seen.canary, "something"),
            )
            is_borrowed = seen.owner == operation.borrowed_from
            yield _on_request(received, operation) if is_borrowed else received
    known = {record.user for record in history.of(UserRecord)}
    for observation in history.of(Observation):
        if not observation.names:
            continue
        for seen in observation.seen:
            if seen.owner in observation.names or seen.canary in public:
                continue
            if seen.owner in known:
                yield _stored(observation, seen, planted_by.get(seen.canary))


def _first_writers(history: History) -> dict[str, Operation]:
    writers: dict[str, Operation] = {}
    for operation in history.of(Operation):
        for canary in operation.planted:
            earlier = writers.get(canary)
            if earlier is None or operation.invoked_ns < earlier.invoked_ns:
                writers[canary] = operation
    return writers


def _rule_of(operation: Operation, seen: Seen) -> str:
    if operation.cached:
        return "cached-for-another"
    if operation.channel == "websocket":
        return "foreign-canary-in-event"
    if operation.user == VISITOR:
        return "canary-shown-to-visitor"
    if seen.where.startswith("header"):
        return "foreign-canary-in-header"
    if seen.where == "cookie":
        return "foreign-canary-in-cookie"
    if operation.status is not None and operation.status >= _ERROR:
        return "foreign-canary-in-error"
    return "foreign-canary-in-response"


def _received(
    operation: Operation, seen: Seen, *, writer: Operation | None, purpose: str
) -> Sighting:
    observer, owner = user_name(operation.user), user_name(seen.owner)
    wrote = (
        f"w = {operation_line(writer)}"
        if writer is not None
        else f"w = {owner} keeps canary {seen.canary}"
    )
    return Sighting(
        rule=_rule_of(operation, seen),
        claim=f"{observer} saw a canary of {owner} ({purpose})",
        victim=seen.owner,
        observer=operation.user,
        channel=operation.channel,
        surface=operation.endpoint,
        at_ns=operation.completed_ns,
        operation=operation.index,
        canary=seen.canary,
        planted_by=writer.index if writer is not None else None,
        evidence=(
            f"Let    {wrote}",
            f"       r = {operation_line(operation)}",
            (
                f"Then   r holds canary {seen.canary} ({seen.where}, {seen.encoding}, "
                f"byte {seen.offset}), which only {owner} plants; {observer} was never "
                "given it: contradiction."
            ),
        ),
    )


def _on_request(received: Sighting, operation: Operation) -> Sighting:
    """Say that the user got it by asking as its owner had asked, and what to change."""
    observer, owner = user_name(operation.user), user_name(received.victim)
    asked = f"{operation.endpoint.partition(' ')[0]} {operation.path}"
    *known, conclusion = received.evidence
    return dataclasses.replace(
        received,
        claim=f"{observer} asked for what {owner} had asked for: {asked} -> "
        f"{operation.status} with a canary of {owner}",
        evidence=(
            *known,
            (
                f"       r is {asked}, as {owner} had asked before, sent with the "
                f"credentials of {observer} alone"
            ),
            conclusion,
        ),
        cause=_SERVED_BY_ID,
        fix=f"{operation.endpoint} looks at who is logged in, and not at whose the "
        "thing is (broken object-level authorization, OWASP API1:2023). Look it up by "
        "its id and the caller's, and answer 404 when there is none. If all users may "
        f'read it, say PUBLIC = ["{operation.endpoint}"] in the audit file; if some '
        "of it is shared, plant that with user.canary(purpose, public=True).",
    )


def _stored(observation: Observation, seen: Seen, writer: Operation | None) -> Sighting:
    rule, noun = _STORED[observation.channel]
    owner = user_name(seen.owner)
    named = ", ".join(user_name(user) for user in observation.names[:3])
    wrote = [f"Let    w = {operation_line(writer)}"] if writer is not None else []
    return Sighting(
        rule=rule,
        claim=f"a {noun} of {named} holds a canary of {owner}",
        victim=seen.owner,
        observer=observation.names[0],
        channel=observation.channel,
        surface=observation.surface,
        at_ns=writer.completed_ns if writer is not None else 0,
        operation=writer.index if writer is not None else None,
        canary=seen.canary,
        planted_by=writer.index if writer is not None else None,
        evidence=(
            *wrote,
            (
                f"       p = {observation.channel} {observation.surface} "
                f"{observation.place}"
            ),
            (
                f"Then   p names {named} and holds canary {seen.canary} ({seen.where}, "
                f"{seen.encoding}), which only {owner} plants: contradiction."
            ),
        ),
    )
