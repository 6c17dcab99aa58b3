"""Were events delivered completely, in order and once, on each socket?

Needs events numbered per user (``EVENT_SEQUENCE`` in the audit file). On one socket
numbers must rise by one: a repeat is a duplicate, a step back is a reordering, a
jump is a loss. A socket that says after which number it resumes (``EVENT_RESUME``) is
owed the next one first. An event that says that numbers jump (``EVENT_GAP``) owns up
to a loss, so it is none here; whether there may be one is the workload's to say. Across other sockets no number is owed, since a client may
choose where to resume; that is what the workload's own waits check. Linear in events.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator

from test_framework.check.names import operation_line, user_name
from test_framework.check.policy import gap_events
from test_framework.check.sighting import Sighting
from test_framework.core import History, Operation


def check_delivery(history: History) -> Iterator[Sighting]:
    """Yield each event that came twice, in the wrong order, or not at all."""
    sockets: dict[tuple[int, int], list[Operation]] = defaultdict(list)
    gaps = gap_events(history)
    for operation in history.of(Operation):
        is_told = operation.sequence is not None or operation.event in gaps
        if operation.socket is not None and is_told:
            sockets[operation.user, operation.socket].append(operation)
    for events in sockets.values():
        yield from _check_socket(events)


def _check_socket(events: list[Operation]) -> Iterator[Sighting]:
    came = sorted(event.sequence for event in events if event.sequence is not None)
    seen: set[int] = set()
    previous: Operation | None = None
    for event in events:
        number = event.sequence
        if number is None:
            # Numbers jump: whichever comes next is the first of them.
            previous = None
            continue
        last = previous.sequence if previous is not None else None
        if previous is not None and last is not None:
            if number in seen:
                yield _sighting("event-duplicated", event, previous, "came again")
            elif number < last:
                yield _sighting("event-reordered", event, previous, "came late")
            elif number > last + 1 and came[bisect_right(came, last)] == number:
                yield _sighting(
                    "event-lost", event, previous, f"came without {last + 1}"
                )
        seen.add(number)
        if last is None or number > last:
            previous = event


def _sighting(rule: str, event: Operation, previous: Operation, words: str) -> Sighting:
    owner = user_name(event.user)
    return Sighting(
        rule=rule,
        claim=f"event {event.sequence} of {owner} {words}",
        victim=event.user,
        observer=None,
        channel=event.channel,
        surface=event.endpoint,
        at_ns=event.completed_ns,
        operation=event.index,
        evidence=(
            f"Let    a = {operation_line(previous)}  event {previous.sequence} "
            f"{previous.event or ''}".rstrip(),
            f"       b = {operation_line(event)}  event {event.sequence} "
            f"{event.event or ''}".rstrip(),
            (
                f"Then   on socket {event.socket} b {words} after a; numbers must rise "
                "by one: contradiction."
            ),
        ),
    )
