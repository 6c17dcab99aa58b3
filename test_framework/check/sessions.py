"""Session guarantees: what one user saw never goes back behind what it saw or did.

Objects have versions that rise with each write. Of two calls of one session on one
object, where the first returned before the second was called, these must not happen:

* read-your-writes: a read tells an older version than one the session wrote;
* monotonic reads: a read tells an older version than one the session read;
* monotonic writes: a write got no newer version than an earlier one of the session;
* writes-follow-reads: a write got no newer version than one the session had read.

A session may be a user with several devices: only what returned before counts, so
calls at the same time owe each other nothing. What one session must see of another
across objects is a matter of causal consistency, and of the transactions' checkers.

Everything is sorted once by the ends of the calls; a running maximum over that order
says what each call had to see.

Source: Terry et al., "Session guarantees for weakly consistent replicated data", 1994.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from test_framework.check.linear import Call, CallLog
from test_framework.check.linear.columns import Ints, Mask, integers
from test_framework.check.witness import Anomaly, Checked, Item, Link
from test_framework.core import UsageError, Verdict

MOST_ANOMALIES = 20
"""Of one guarantee; more of them tell no more."""


@dataclass(frozen=True, slots=True)
class _Guarantee:
    """What an earlier call of a session asks of a later one."""

    name: str
    earlier_writes: bool
    later_writes: bool
    because: str


GUARANTEES: Final = (
    _Guarantee(
        "read-your-writes",
        earlier_writes=True,
        later_writes=False,
        because="read version {later} of {key}, but had written version {earlier}",
    ),
    _Guarantee(
        "monotonic reads",
        earlier_writes=False,
        later_writes=False,
        because="read version {later} of {key}, but had read version {earlier}",
    ),
    _Guarantee(
        "monotonic writes",
        earlier_writes=True,
        later_writes=True,
        because="wrote version {later} of {key}, but had written version {earlier}",
    ),
    _Guarantee(
        "writes-follow-reads",
        earlier_writes=False,
        later_writes=True,
        because="wrote version {later} of {key}, but had read version {earlier}",
    ),
)


@dataclass(frozen=True, slots=True)
class Versions:
    """Calls of sessions on versioned objects, laid out for one look at all.

    Attributes:
        rows: Their rows in the log; shape ``(m,)``, as all.
        begin: With the sessions' objects laid end to end in time.
        end: The same.
        version: With those of one session's object above those of all before it.
        is_write: Whether a version was written and not read.
        group: Number of the session and object.
    """

    rows: Ints
    begin: Ints
    end: Ints
    version: Ints
    is_write: Mask
    group: Ints


def check_sessions(calls: Iterable[Call] | CallLog) -> Checked:
    """Judge the four session guarantees.

    Args:
        calls: Calls of ``read`` and ``write``; the process is the session. The version
            is the result, or the argument of a write that returned no number; a read
            of nothing has version 0. What is of unknown outcome owes nothing.

    Returns:
        Which guarantees hold and which are broken.

    Raises:
        UsageError: An operation is neither, or a version is no integer.
    """
    log = calls if isinstance(calls, CallLog) else CallLog.of(calls)
    if not len(log):
        reason = "There are no calls, so nothing is proved. Record some."
        return Checked("sessions", "session guarantees", Verdict.UNKNOWN, reason)
    versions = _laid_out(log)
    anomalies: list[Anomaly] = []
    holds: list[str] = []
    broken: list[str] = []
    for guarantee in GUARANTEES:
        found = _judge(log, versions, guarantee)
        anomalies += found
        (broken if found else holds).append(guarantee.name)
    reason = ""
    if not _follows(versions):
        reason = (
            "No session made a call on an object after another one there, so no "
            "guarantee was put to the test. Let sessions write and read, in turn."
        )
    return Checked(
        "sessions",
        "session guarantees",
        Verdict.INVALID if anomalies else Verdict.UNKNOWN if reason else Verdict.VALID,
        reason,
        anomalies=tuple(anomalies),
        holds=() if reason else tuple(holds),
        broken=tuple(broken),
        facts={"calls": len(log), "sessions": len(log.processes)},
    )


def _laid_out(log: CallLog) -> Versions:
    write, read = log.where("write"), log.where("read")
    odd = ~(write | read)
    if odd.any():
        call = log.read(int(np.argmax(odd)))
        message = (
            f"Call {call.index} is of {call.kind!r}; session guarantees are about read "
            "and write. Leave other calls out, or record them as one of these."
        )
        raise UsageError(message)
    numbers, are, fit = integers(log)
    are &= fit
    told = np.where(write & ~are[log.result], log.argument, log.result)
    known = log.is_known
    wrong = known & ~are[told] & ~(read & (told < 0))
    if wrong.any():
        call = log.read(int(np.argmax(wrong)))
        message = (
            f"Call {call.index} ({call}) tells no version. Record the number of the "
            "version that was read or written; higher is newer."
        )
        raise UsageError(message)
    rows = np.flatnonzero(known)
    group = log.process[rows] * max(len(log.keys), 1) + log.key[rows]
    begin, end = _apart(group, log.invoked[rows], log.completed[rows])
    (version,) = _apart(group, numbers[told[rows]])
    return Versions(rows, begin, end, version, write[rows], group)


def _apart(group: Ints, *columns: Ints) -> list[Ints]:
    """Shift numbers by group, so that all of a group stand above those of one before.

    Numbers that are too large for that are replaced by their ranks.
    """
    if not len(group):
        return list(columns)
    low = min(int(column.min()) for column in columns)
    span = max(int(column.max()) for column in columns) - low + 1
    if span * (int(group.max()) + 1) >= 1 << 62:
        present = np.unique(np.concatenate(columns))
        columns = tuple(np.searchsorted(present, column) for column in columns)
        low, span = 0, len(present)
        if span * (int(group.max()) + 1) >= 1 << 62:
            _, group = np.unique(group, return_inverse=True)
    return [column - low + group * span for column in columns]


def _judge(log: CallLog, versions: Versions, guarantee: _Guarantee) -> list[Anomaly]:
    earlier = np.flatnonzero(versions.is_write == guarantee.earlier_writes)
    later = np.flatnonzero(versions.is_write == guarantee.later_writes)
    if not len(earlier) or not len(later):
        return []
    earlier = earlier[np.argsort(versions.end[earlier], kind="stable")]
    newest = np.maximum.accumulate(versions.version[earlier])
    # What returned strictly before; the newest of an earlier group is below all here.
    before = np.searchsorted(versions.end[earlier], versions.begin[later]) - 1
    owed = newest[np.maximum(before, 0)]
    version = versions.version[later]
    is_old = version <= owed if guarantee.later_writes else version < owed
    anomalies = []
    for place in np.flatnonzero((before >= 0) & is_old)[:MOST_ANOMALIES].tolist():
        first = int(np.argmax(newest == owed[place]))
        rows = [int(versions.rows[earlier[first]]), int(versions.rows[later[place]])]
        anomalies.append(_anomaly(log, guarantee, rows))
    return anomalies


def _follows(versions: Versions) -> bool:
    """Tell whether any call came after another one of its session and object."""
    if not len(versions.rows):
        return False
    group = versions.group
    first_end = np.full(int(group.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first_end, group, versions.end)
    return bool(np.any(versions.begin > first_end[group]))


def _anomaly(log: CallLog, guarantee: _Guarantee, rows: list[int]) -> Anomaly:
    calls = [log.read(row) for row in rows]
    told = [
        one.argument
        if one.kind == "write" and type(one.result) is not int
        else one.result
        for one in calls
    ]
    key = "the object" if calls[1].key is None else repr(calls[1].key)
    what = guarantee.because.format(earlier=told[0], later=told[1] or 0, key=key)
    items = tuple(
        Item(
            label=label,
            lane=str(one.process),
            text=str(one),
            begin=one.invoked,
            end=one.completed,
            index=one.index,
        )
        for label, one in zip("ab", calls, strict=True)
    )
    link = Link(
        0, 1, "session", f"{calls[0].process} had the answer to a when it did b"
    )
    return Anomaly(guarantee.name, f"{calls[1].process} {what}.", items, (link,))
