"""Event streams: does each get what it is owed, once, in order, and nothing else?

A producer publishes events for some recipients or for everybody; a stream delivers
them to one recipient, over one connection or over several that resume each other. What
must not happen:

* phantom event: it was delivered, but nobody published it;
* delivery to a stranger: it was published for others;
* duplicate delivery: one stream delivered it twice;
* reordered delivery: one producer published it after another event was out, and the
  stream delivered it before that one;
* lost event: the stream delivered earlier and later events of the producer and not
  this one; a gap on resume if the connection changed in between;
* premature event: it announces a version of an object, and a read that its recipient
  began after it came saw an older one.

Events of one producer that were being published at the same time owe each other no
order, and one of unknown outcome owes nothing. Sorting decides all; a million
deliveries take about a second.
"""

from collections.abc import Iterable

import numpy as np

from test_framework.check.linear import Call, CallLog
from test_framework.check.linear.columns import FOREVER, NEVER, Ints, integers
from test_framework.check.streams.log import (
    Delivery,
    Log,
    Publication,
    columns,
    delivered,
    ints,
    published,
)
from test_framework.check.witness import Anomaly, Checked, Item, Link
from test_framework.core import UsageError, Verdict

MOST_ANOMALIES = 20
"""Of one kind; more of them tell no more."""


def check_streams(
    publications: Iterable[Publication],
    deliveries: Iterable[Delivery],
    reads: Iterable[Call] = (),
) -> Checked:
    """Judge what streams delivered.

    Args:
        publications: All events that were published.
        deliveries: All that were delivered.
        reads: Calls of ``read`` by recipients on the objects that events announce;
            the result is the version.

    Raises:
        UsageError: An event was published twice, or a read tells no version.
    """
    log = columns(publications, deliveries)
    if not len(log.event):
        reason = "Nothing was delivered, so nothing is proved. Record some deliveries."
        return Checked("streams", "delivery", Verdict.UNKNOWN, reason)
    real = np.flatnonzero(log.event >= 0)
    anomalies = [
        *_phantoms(log),
        *_strangers(log, real),
        *_duplicates(log, real),
        *_reordered(log, real),
        *_lost(log, real),
        *_premature(log, real, CallLog.of(reads)),
    ]
    return Checked(
        "streams",
        "delivery",
        Verdict.INVALID if anomalies else Verdict.VALID,
        anomalies=tuple(anomalies),
        facts={
            "events": len(log.publications),
            "deliveries": len(log.deliveries),
            "streams": len(log.owner),
        },
    )


def _phantoms(log: Log) -> list[Anomaly]:
    found = []
    for place in np.flatnonzero(log.event < 0)[:MOST_ANOMALIES].tolist():
        one = log.deliveries[place]
        claim = f"{one.event!r} came to {one.recipient!r}, though nobody published it."
        found.append(Anomaly("phantom event", claim, (delivered(log, place, "a"),)))
    return found


def _owed(log: Log) -> tuple[Ints, Ints]:
    """Return each event with each recipient of a stream that may get it."""
    everybody = list(log.recipients.values())
    events, people = [], []
    for number, one in enumerate(log.publications):
        own = (
            everybody
            if one.recipients is None
            else [
                log.recipients[name]
                for name in dict.fromkeys(one.recipients)
                if name in log.recipients
            ]
        )
        events.extend([number] * len(own))
        people.extend(own)
    return ints(events), ints(people)


def _strangers(log: Log, real: Ints) -> list[Anomaly]:
    events, people = _owed(log)
    width = len(log.recipients)
    came = log.event[real] * width + log.recipient[real]
    is_strange = ~np.isin(came, events * width + people)
    found = []
    for place in real[is_strange][:MOST_ANOMALIES].tolist():
        one = log.deliveries[place]
        event = log.publications[log.event[place]]
        names = ", ".join(repr(name) for name in (event.recipients or ())[:4])
        claim = (
            f"{one.event!r} was published for {names or 'nobody'}, but it came to "
            f"{one.recipient!r}."
        )
        items = (
            published(log, int(log.event[place]), "a"),
            delivered(log, place, "b"),
        )
        link = Link(0, 1, "delivery", "b delivered what a published")
        found.append(Anomaly("delivery to a stranger", claim, items, (link,)))
    return found


def _duplicates(log: Log, real: Ints) -> list[Anomaly]:
    name = log.stream[real] * max(len(log.publications), 1) + log.event[real]
    order = np.argsort(name, kind="stable")
    again = np.flatnonzero(name[order][1:] == name[order][:-1])
    found = []
    for at in again[:MOST_ANOMALIES].tolist():
        first, second = int(real[order[at]]), int(real[order[at + 1]])
        one = log.deliveries[second]
        claim = f"{one.event!r} came to {one.recipient!r} twice on one stream."
        items = (delivered(log, first, "a"), delivered(log, second, "b"))
        link = Link(0, 1, "duplicate", "b delivered again what a had delivered")
        found.append(Anomaly("duplicate delivery", claim, items, (link,)))
    return found


def _reordered(log: Log, real: Ints) -> list[Anomaly]:
    order = np.argsort(log.group(real), kind="stable")  # in order of time in each
    places = real[order]
    group = log.group(places)
    latest = _running(group, log.begin[log.event[places]])
    late = np.flatnonzero(log.end[log.event[places]] < latest)
    found = []
    for at in late[:MOST_ANOMALIES].tolist():
        place = int(places[at])
        own = places[:at][group[:at] == group[at]]
        other = int(own[np.argmax(log.begin[log.event[own]])])
        one, two = log.deliveries[place], log.deliveries[other]
        claim = (
            f"{one.event!r} was out before {two.event!r} was published, but came to "
            f"{one.recipient!r} after it."
        )
        items = (
            published(log, int(log.event[place]), "a"),
            published(log, int(log.event[other]), "b"),
            delivered(log, other, "c"),
            delivered(log, place, "d"),
        )
        links = (
            Link(0, 1, "realtime", "a was out before b was published"),
            Link(1, 2, "delivery", "c delivered what b published"),
            Link(2, 3, "realtime", "c came before d"),
            Link(3, 0, "delivery", "d delivered what a published"),
        )
        found.append(Anomaly("reordered delivery", claim, items, links))
    return found


def _running(group: Ints, column: Ints) -> Ints:
    """Return the greatest number up to each place of its group; groups are sorted."""
    if not len(group):
        return column
    # By rank, so that the numbers of one group stand above those of one before.
    present, rank = np.unique(column, return_inverse=True)
    _, dense = np.unique(group, return_inverse=True)
    reach = np.maximum.accumulate(dense * len(present) + rank)
    running: Ints = present[reach - dense * len(present)]
    return running


def _lost(log: Log, real: Ints) -> list[Anomaly]:
    groups, group = np.unique(log.group(real), return_inverse=True)
    event = log.event[real]
    first_end, last_begin = np.full(len(groups), FOREVER), np.full(len(groups), NEVER)
    np.minimum.at(first_end, group, log.end[event])
    np.maximum.at(last_begin, group, log.begin[event])
    events, people = _owed(log)
    by_owner = np.argsort(log.owner, kind="stable")
    count = np.bincount(log.owner, minlength=len(log.recipients))
    start = np.cumsum(count) - count
    # Each event that is owed to a recipient is owed to each of the recipient's streams.
    times = count[people]
    owed = np.repeat(events, times)
    within = np.arange(len(owed)) - np.repeat(np.cumsum(times) - times, times)
    stream = by_owner[np.repeat(start[people], times) + within]
    producers = int(log.producer.max(initial=0)) + 1
    name = stream * producers + log.producer[owed]
    at = np.minimum(np.searchsorted(groups, name), len(groups) - 1)
    is_between = (
        (groups[at] == name)
        & (first_end[at] < log.begin[owed])
        & (log.end[owed] < last_begin[at])
    )
    width = max(len(log.publications), 1)
    came = np.isin(stream * width + owed, log.stream[real] * width + event)
    found = []
    for place in np.flatnonzero(is_between & ~came)[:MOST_ANOMALIES].tolist():
        own = real[group == at[place]]
        found.append(_gap(log, own, int(owed[place])))
    return found


def _gap(log: Log, own: Ints, event: int) -> Anomaly:
    """Return the witness of an event that a stream left out."""
    events = log.event[own]
    before = own[log.end[events] < log.begin[event]]
    after = own[log.begin[events] > log.end[event]]
    earlier = int(before[np.argmax(log.begin[log.event[before]])])
    later = int(after[np.argmin(log.begin[log.event[after]])])
    one, two = log.deliveries[earlier], log.deliveries[later]
    is_resume = one.connection != two.connection
    name = log.publications[event].event
    claim = (
        f"{name!r} never came to {one.recipient!r}, though {one.event!r} and "
        f"{two.event!r}, which were published before and after it, did"
        + (
            ", the latter on a connection that resumed the stream."
            if is_resume
            else "."
        )
    )
    items = (
        published(log, event, "a"),
        delivered(log, earlier, "b"),
        delivered(log, later, "c"),
    )
    links = (
        Link(1, 0, "realtime", "what b delivered was out before a was published"),
        Link(0, 2, "realtime", "a was out before what c delivered was published"),
    )
    return Anomaly("gap on resume" if is_resume else "lost event", claim, items, links)


def _premature(log: Log, real: Ints, reads: CallLog) -> list[Anomaly]:
    """Return reads that were behind an event that had come."""
    if not len(reads):
        return []
    numbers, are, fit = integers(reads)
    rows = np.flatnonzero(reads.where("read") & reads.is_known)
    told = reads.result[rows]
    are &= fit
    wrong = ~are[told] & (told >= 0)
    if wrong.any():
        call = reads.read(int(rows[np.argmax(wrong)]))
        message = f"Call {call.index} ({call}) tells no version. Record its number."
        raise UsageError(message)
    keys = {key: number for number, key in enumerate(reads.keys)}
    people = {name: number for number, name in enumerate(reads.processes)}
    announced = []
    for place in real.tolist():
        one, got = log.publications[log.event[place]], log.deliveries[place]
        if one.version is not None and one.key in keys and got.recipient in people:
            own_key = people[got.recipient] * len(keys) + keys[one.key]
            announced.append((own_key, got.at, one.version, place))
    if not announced:
        return []
    group, came_at, version, place_of = (
        ints(number for row in announced for number in row).reshape(-1, 4).T
    )
    order = np.lexsort((came_at, group))
    newest = _running(group[order], version[order])
    # By rank of time, so that one search finds the last event before a read.
    times = np.unique(np.concatenate((came_at, reads.invoked[rows])))
    width = len(times) + 1
    came = group[order] * width + np.searchsorted(times, came_at[order])
    pair = reads.process[rows] * len(keys) + reads.key[rows]
    began = pair * width + np.searchsorted(times, reads.invoked[rows])
    last: Ints = np.searchsorted(came, began) - 1
    safe = np.maximum(last, 0)
    is_behind = (
        (last >= 0) & (group[order][safe] == pair) & (newest[safe] > numbers[told])
    )
    found = []
    for index in np.flatnonzero(is_behind)[:MOST_ANOMALIES].tolist():
        own = order[: last[index] + 1]
        own = own[(group[own] == pair[index]) & (version[own] == newest[last[index]])]
        found.append(_behind(log, reads.read(int(rows[index])), int(place_of[own[0]])))
    return found


def _behind(log: Log, read: Call, place: int) -> Anomaly:
    event = log.publications[log.event[place]]
    claim = (
        f"{event.event!r} told {read.process!r} of version {event.version} of "
        f"{event.key!r}, but a read that began afterwards saw version "
        f"{read.result or 0}."
    )
    item = Item(
        label="b",
        lane=str(read.process),
        text=str(read),
        begin=read.invoked,
        end=read.completed,
        index=read.index,
    )
    link = Link(0, 1, "realtime", "a had come before b was called")
    return Anomaly(
        "premature event", claim, (delivered(log, place, "a"), item), (link,)
    )
