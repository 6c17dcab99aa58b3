"""Answers that came faster than the work they stand for.

An answer that took no time was not worked for: somebody else's was handed out, a
check was skipped, an error was taken for success. The audit file declares the least
time an endpoint's work takes (``FLOORS_S``), and an answer below it is a finding.

Without a declaration only a note can be made, since most such answers are honest
caches: of at most one answer in twenty that stands apart, below a gap, from all others
of its endpoint. Distance from the median would not do. Latencies of a crowd scatter by
factors of ten, and whoever comes when the service has nothing else to do is far below
the median; but others were as lucky, so there is no gap.

How long an answer took is the longer one of what the client saw and of what the
service's own process saw, where that is known: a busy client may stamp its request
late. A service that works before it has read the whole request may honestly stay below
a floor; declare floors for what comes after.

Source: Dixon, "Processing data for outliers", 1953 (outliers by the gap beside them).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from test_framework.check.contamination import check_contamination
from test_framework.check.names import user_name
from test_framework.check.policy import floors_of
from test_framework.check.sighting import Sighting
from test_framework.check.timing import ENOUGH, is_measured
from test_framework.core import (
    NS_PER_MS,
    NS_PER_S,
    AlarmRecord,
    HandlerRecord,
    History,
    Operation,
)

BELOW_FLOOR = "faster-than-its-work"
TOO_QUICK = "much-faster-than-others"

_GAP = 4
"""By how much the next answer must be slower: twelve audits of the reference service
on a busy machine had no such gap; of twice the time they had two."""
_FEW_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class _Answer:
    """A successful answer and how long it took."""

    operation: Operation
    took_ns: int

    @property
    def took_ms(self) -> float:
        return self.took_ns / NS_PER_MS


def check_floors(history: History) -> Iterator[Sighting]:
    """Yield each successful answer that took less than its endpoint's declared floor.

    ``"*"`` is for all endpoints without a floor of their own.
    """
    floors_s = floors_of(history)
    for answer in _answers(history) if floors_s else ():
        operation, took_ms = answer.operation, answer.took_ms
        floor_s = floors_s.get(operation.endpoint, floors_s.get("*"))
        if floor_s is None or answer.took_ns >= floor_s * NS_PER_S:
            continue
        yield Sighting(
            rule=BELOW_FLOOR,
            claim=f"{operation.endpoint} answered {user_name(operation.user)} in "
            f"{took_ms:.1f} ms; its work takes {floor_s * 1000:.0f} ms",
            victim=operation.user,
            observer=None,
            channel="http",
            surface=operation.endpoint,
            at_ns=operation.completed_ns,
            operation=operation.index,
            evidence=(
                (
                    f"Let    op {operation.index} = {operation.path} of "
                    f"{user_name(operation.user)}, answered {operation.status}."
                ),
                (
                    f"Then   it took {took_ms:.1f} ms, and FLOORS_S of the audit file "
                    f"says that no answer takes less than {floor_s * 1000:.0f} ms."
                ),
            ),
            cause=operation.endpoint,
        )


def find_quick(history: History) -> Iterator[AlarmRecord]:
    """Yield endpoints with few answers that were far faster than all others.

    Far is less than a quarter of the next. It is a note, and a warning when such an
    answer held what belongs to another.
    """
    by_endpoint: dict[str, list[_Answer]] = defaultdict(list)
    for answer in _answers(history):
        by_endpoint[answer.operation.endpoint].append(answer)
    apart = {name: _standing_apart(answers) for name, answers in by_endpoint.items()}
    if not any(apart.values()):
        return
    owners = {
        sighting.operation: sighting.victim for sighting in check_contamination(history)
    }
    for endpoint, quick in apart.items():
        if quick:
            yield _told(endpoint, quick, by_endpoint[endpoint][len(quick)], owners)


def _answers(history: History) -> Iterator[_Answer]:
    """Yield what was answered with success: a refusal may honestly be quick."""
    seen_inside = {
        record.op: record.ended_ns - record.started_ns
        for record in history.of(HandlerRecord)
    }
    for operation in history.of(Operation):
        if is_measured(operation) and operation.outcome == "ok":
            inside_ns = seen_inside.get(operation.index, 0)
            yield _Answer(operation, max(operation.latency_ns, inside_ns))


def _standing_apart(answers: list[_Answer]) -> list[_Answer]:
    """Sort answers by time, and return the few below a gap; the quickest first."""
    answers.sort(key=lambda answer: answer.took_ns)
    if len(answers) < ENOUGH:
        return []
    for count in range(int(_FEW_SHARE * len(answers)), 0, -1):
        if answers[count].took_ns > _GAP * answers[count - 1].took_ns:
            return answers[:count]
    return []


def _told(
    endpoint: str,
    quick: list[_Answer],
    following: _Answer,
    owners: Mapping[int | None, int | None],
) -> AlarmRecord:
    first = quick[0]
    evidence = [
        (
            f"op {first.operation.index} of {user_name(first.operation.user)} took "
            f"{first.took_ms:.2f} ms; no other took less than {following.took_ms:.2f}."
        )
    ]
    operations = [answer.operation for answer in quick]
    foreign = [operation for operation in operations if operation.index in owners]
    if foreign:
        owner = user_name(owners[foreign[0].index])
        evidence.append(
            f"op {foreign[0].index} of {user_name(foreign[0].user)} held what belongs "
            f"to {owner}: it was answered from what {owner} left."
        )
    return AlarmRecord(
        rule=TOO_QUICK,
        level="warning" if foreign else "note",
        claim=f"{len(quick)} answer{'s' if len(quick) > 1 else ''} of {endpoint} came "
        "far faster than all others",
        site=endpoint,
        evidence=tuple(evidence),
        users=tuple(dict.fromkeys(operation.user for operation in operations)),
        operations=tuple(operation.index for operation in operations),
        count=len(quick),
    )
