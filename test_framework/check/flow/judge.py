"""Does what one user wrote reach another who may not see it?

The dependency graph of a history, coloured by user: an edge from the step that wrote a
value to each step that read it. An edge between two users that no policy declares is
contamination. Users that act for others (``carriers``: workers, caches) pass on what
they read in a step with what they write in it, so a path through them from one user to
another is contamination as well; the shortest one is the witness.

A value belongs to who wrote it to that key. A text of some length that only one user
ever wrote belongs to that user under whatever key it turns up, which is how a cache
that mixes up its keys is caught; numbers and short texts turn up by chance.

What this cannot see: a value that was changed on the way, and flow through time or
order alone.

Source: the graph is that of Adya, "Weak consistency", 1999 (write-read dependencies);
the demand is non-interference, Goguen and Meseguer, "Security policies and security
models", 1982.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from test_framework.check.flow.events import Events, events_of
from test_framework.check.flow.policy import FlowPolicy, matches
from test_framework.check.linear import Call, CallLog
from test_framework.check.linear.columns import Ints, Mask
from test_framework.check.transactions import TransactionLog
from test_framework.check.witness import Anomaly, Checked, Link
from test_framework.core import Verdict

DISTINCTIVE_LETTERS = 8
"""Texts of this length or more name who wrote them under any key."""

MOST_ANOMALIES = 20
"""One for each pair of users; more of them tell no more."""

_NOBODY, _SEVERAL = -1, -2


@dataclass(frozen=True, slots=True)
class _Edges:
    """What was written in one step and read in another, of different users.

    Attributes:
        source: Step that wrote; shape ``(e,)``, as all.
        target: Step that read.
        key: Key it was written to.
        read_key: Key it was read from.
        value: The value.
    """

    source: Ints
    target: Ints
    key: Ints
    read_key: Ints
    value: Ints


def check_flow(
    history: Iterable[Call] | CallLog | TransactionLog,
    policy: FlowPolicy | None = None,
) -> Checked:
    """Judge whether anything flows between users that is not declared.

    Args:
        history: Calls, whose users are their processes, or transactions.
        policy: What is public, shared and declared; by default nothing is.

    Returns:
        The verdict; each anomaly is the shortest path from one user to another.
    """
    policy = policy or FlowPolicy()
    events = events_of(history)
    if not len(events.user):
        reason = "There are no operations, so nothing is proved. Record some."
        return Checked("flow", "non-interference", Verdict.UNKNOWN, reason)
    carries = np.array([matches(user, policy.carriers) for user in events.users])
    edges = _edges(events, carries)
    allowed = _Allowed(events, policy)
    is_direct = (
        ~carries[events.user[edges.source]] & ~carries[events.user[edges.target]]
    )
    direct = np.flatnonzero(is_direct)
    wrong = direct[~allowed.of(_at(edges, direct), events.user[edges.source[direct]])]
    paths = _first_of_pairs(events, edges, wrong)
    if carries.any():
        known = {(origin, reader) for origin, reader, _ in paths}
        paths += [
            path
            for path in _carried(events, edges, carries, allowed)
            if path[:2] not in known
        ]
    anomalies = tuple(_anomaly(events, edges, *path) for path in paths[:MOST_ANOMALIES])
    return Checked(
        "flow",
        "non-interference",
        Verdict.INVALID if anomalies else Verdict.VALID,
        anomalies=anomalies,
        facts={
            "steps": len(events.user),
            "users": len(events.users),
            "reads of others": len(edges.source),
        },
    )


Path = tuple[int, int, list[int]]
"""The user it came from, the one it reached, and the edges between them."""


def _edges(events: Events, carries: Mask) -> _Edges:
    """Return each read of what another user wrote, or a carrier in another step."""
    values = len(events.values)
    if not len(events.write_step):
        none = events.write_step
        return _Edges(none, none, none, none, none)
    by_value = _writers(events, events.write_value, values)
    is_distinctive = np.array(
        [
            isinstance(value, str) and len(value) >= DISTINCTIVE_LETTERS
            for value in events.values
        ],
        dtype=np.bool_,
    )
    writer = np.full(len(events.read_step), _NOBODY)
    own = by_value[events.read_value]
    is_sure = is_distinctive[events.read_value] & (own >= 0)
    writer[is_sure] = own[is_sure]
    # All others by key and value; most values were written by one user to one key.
    single = (own >= 0) & ~is_sure
    at = np.maximum(own, 0)
    is_same_key = single & (events.write_key[at] == events.read_key)
    writer[is_same_key] = own[is_same_key]
    rest = np.flatnonzero(~is_sure & ~is_same_key & (own != _NOBODY))
    if len(rest):
        writes = events.write_key * values + events.write_value
        reads = events.read_key[rest] * values + events.read_value[rest]
        present, number = np.unique(writes, return_inverse=True)
        owner = _writers(events, number, len(present))
        place = np.minimum(np.searchsorted(present, reads), len(present) - 1)
        writer[rest] = np.where(present[place] == reads, owner[place], _NOBODY)
    found = np.flatnonzero(writer >= 0)
    source, target = events.write_step[writer[found]], events.read_step[found]
    user, reader = events.user[source], events.user[target]
    found = found[(user != reader) | (carries[user] & (source != target))]
    return _Edges(
        events.write_step[writer[found]],
        events.read_step[found],
        events.write_key[writer[found]],
        events.read_key[found],
        events.read_value[found],
    )


def _writers(events: Events, number: Ints, count: int) -> Ints:
    """Return, for each number, a write of it; whose it is must be clear.

    Returns:
        The first write, ``_NOBODY`` if there is none, ``_SEVERAL`` if several users
        wrote it.
    """
    first = np.full(count, _NOBODY)
    order = np.arange(len(number))[::-1]
    first[number[order]] = order
    user = events.user[events.write_step]
    other = number[user != user[first[number]]]
    first[other] = _SEVERAL
    return first


class _Allowed:
    """Which edges a policy declares."""

    def __init__(self, events: Events, policy: FlowPolicy) -> None:
        self._events, users = events, events.users
        self._public = np.array(
            [matches(key, policy.public) for key in events.keys], dtype=np.bool_
        )
        self._declared = np.eye(len(users), dtype=np.bool_)
        for declared in policy.declared:
            source = np.array([matches(user, declared.source) for user in users])
            target = np.array([matches(user, declared.target) for user in users])
            self._declared |= source[:, None] & target[None, :]
        self._shared: list[tuple[Mask, Mask]] = [
            (
                np.array([matches(key, shared.keys) for key in events.keys]),
                np.array([matches(user, shared.users) for user in users]),
            )
            for shared in policy.shared
        ]

    def of(self, edges: _Edges, origin: Ints) -> Mask:
        """Return which edges may carry what belongs to each origin."""
        reader = self._events.user[edges.target]
        allowed = self._public[edges.key] | self._declared[origin, reader]
        for keys, users in self._shared:
            allowed |= keys[edges.key] & users[origin] & users[reader]
        return allowed


def _at(edges: _Edges, places: Ints) -> _Edges:
    return _Edges(
        edges.source[places],
        edges.target[places],
        edges.key[places],
        edges.read_key[places],
        edges.value[places],
    )


def _first_of_pairs(events: Events, edges: _Edges, wrong: Ints) -> list[Path]:
    """Return one edge for each pair of users."""
    origin, reader = events.user[edges.source[wrong]], events.user[edges.target[wrong]]
    _, first = np.unique(origin * len(events.users) + reader, return_index=True)
    return [
        (int(origin[place]), int(reader[place]), [int(wrong[place])])
        for place in np.sort(first)
    ]


def _carried(
    events: Events, edges: _Edges, carries: Mask, allowed: _Allowed
) -> list[Path]:
    """Return the shortest path through carriers for each pair of users.

    Each round follows all edges once more, with the first edge that brought a user's
    values to a step kept; so the first path to a step is a shortest one.
    """
    users = len(events.users)
    from_carrier = carries[events.user[edges.source]]
    to_carrier = carries[events.user[edges.target]]
    # By step of a carrier and user: the edge by which what is the user's came in.
    came: dict[int, int] = {}
    enter = np.flatnonzero(~from_carrier & to_carrier)
    fresh: list[tuple[int, int]] = []
    for place in enter.tolist():
        name = int(edges.target[place]) * users + int(events.user[edges.source[place]])
        if name not in came:
            came[name] = place
            fresh.append((int(edges.target[place]), name % users))
    onward: dict[int, list[int]] = {}
    for place in np.flatnonzero(from_carrier).tolist():
        onward.setdefault(int(edges.source[place]), []).append(place)
    paths: list[Path] = []
    known: set[tuple[int, int]] = set()
    while fresh:
        coming: list[tuple[int, int]] = []
        for step, origin in fresh:
            for place in onward.get(step, ()):
                target = int(edges.target[place])
                reader = int(events.user[target])
                if carries[reader]:
                    if target * users + origin not in came:
                        came[target * users + origin] = place
                        coming.append((target, origin))
                elif (origin, reader) not in known and not allowed.of(
                    _at(edges, np.array([place])), np.array([origin])
                ).all():
                    known.add((origin, reader))
                    paths.append(
                        (origin, reader, _back(edges, came, users, origin, place))
                    )
        fresh = coming
    return paths


def _back(
    edges: _Edges, came: dict[int, int], users: int, origin: int, last: int
) -> list[int]:
    """Return the edges from the first step to the last."""
    path = [last]
    while True:
        earlier = came.get(int(edges.source[path[-1]]) * users + origin)
        if earlier is None:
            return path[::-1]
        path.append(earlier)


def _anomaly(
    events: Events, edges: _Edges, origin: int, reader: int, path: list[int]
) -> Anomaly:
    steps = [int(edges.source[path[0]]), *(int(edges.target[place]) for place in path)]
    labels = [f"T{place + 1}" for place in range(len(steps))]
    links = []
    for at, place in enumerate(path):
        value = events.values[int(edges.value[place])]
        key, read_key = (
            events.keys[int(number[place])] for number in (edges.key, edges.read_key)
        )
        to = f" to {key!r}" if key != read_key else ""
        links.append(
            Link(
                at,
                at + 1,
                "wr",
                f"{labels[at + 1]} read {value!r} from {read_key!r}, which {labels[at]} "
                f"wrote{to}",
            )
        )
    value = events.values[int(edges.value[path[0]])]
    way = f" by way of {len(path) - 1} steps of others" if len(path) > 1 else ""
    claim = (
        f"{value!r} of user {events.users[origin]!r} reached user "
        f"{events.users[reader]!r}{way}, which no policy declares."
    )
    items = tuple(
        events.item(step, label) for step, label in zip(steps, labels, strict=True)
    )
    return Anomaly("contamination", claim, items, tuple(links))
