"""Who waits for whom in Postgres when everybody has left, as alarms.

A request that is over needs no lock any more. One that was given up by its client may
have left a transaction open; whoever comes for the same rows then waits, and so do
those behind him. Told is the head of each queue, with all that stand in it.

A session that does nothing within a transaction is not going to end it, so waiting for
it is an error. One that works may be a job of the service, and one that holds an advisory
lock outside of transactions a leader, so these are warnings.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from test_framework.clients.sessions import Session
from test_framework.core import AlarmRecord

if TYPE_CHECKING:
    from test_framework.swarm.identities import Identities

RULE = "database-lock-left"
MAX_TOLD = 6
"""Sessions of one queue that are told."""

_OTHER = "a prepared transaction, or the server's own work"


def unmoved(
    sessions: Collection[Session],
    *,
    earlier: Collection[Session],
    before: Collection[Session],
) -> list[Session]:
    """Return the sessions that stand as they stood a while ago.

    Who waits for one that moved may be served yet, and is left out as well.

    Args:
        sessions: As they are now.
        earlier: As they were then.
        before: As they were before the first user; who stands so still is left out.
    """
    stood = {(one.pid, one.since) for one in earlier}
    stood -= {(one.pid, one.since) for one in before}
    kept = [one for one in sessions if (one.pid, one.since) in stood]
    while True:
        moving = {one.pid for one in sessions} - {one.pid for one in kept}
        stuck = [one for one in kept if moving.isdisjoint(one.blockers)]
        if len(stuck) == len(kept):
            return kept
        kept = stuck


def lock_chains(
    sessions: Collection[Session], identities: "Identities"
) -> list[AlarmRecord]:
    """Return one alarm for each head of a queue, and for each that keeps locks.

    Args:
        sessions: Those that hold or wait, and whom they wait for.
        identities: Of the users; their names may stand in statements.
    """
    known = {one.pid: one for one in sessions}
    queues = dict(_queues(known))
    waited_for = {*queues, *(one.pid for queue in queues.values() for one in queue)}
    return [
        *(_queue(known.get(pid), queue, identities) for pid, queue in queues.items()),
        *(
            _keeper(one, identities)
            for one in sessions
            if one.pid not in waited_for and one.is_open and one.held
        ),
    ]


def _queues(known: Mapping[int, Session]) -> Iterator[tuple[int, list[Session]]]:
    """Yield each session that waits for nobody, with those who wait for it."""
    reached: set[int] = set()
    blockers = [pid for one in known.values() for pid in one.blockers]
    free = [pid for pid in blockers if pid not in known or not known[pid].blockers]
    # Postgres breaks a circle after a second, unless it was told not to.
    circling = [one.pid for one in known.values() if one.blockers]
    for head in dict.fromkeys((*free, *circling)):
        if head not in reached:
            queue = _behind(head, known)
            reached.update((head, *(one.pid for one in queue)))
            yield head, queue


def _behind(head: int, known: Mapping[int, Session]) -> list[Session]:
    """Return who waits for a session, and who for those, the nearest first."""
    queue: list[Session] = []
    todo = [head]
    for pid in todo:
        for session in known.values():
            if pid in session.blockers and session.pid not in todo:
                todo.append(session.pid)
                queue.append(session)
    return queue


def _queue(
    head: Session | None, queue: Sequence[Session], identities: "Identities"
) -> AlarmRecord:
    first = queue[0]
    who = str(first) if len(queue) == 1 else f"{first} and {len(queue) - 1} more"
    told = [_line(one) for one in queue[:MAX_TOLD]]
    if len(queue) > MAX_TOLD:
        told.append(f"and {len(queue) - MAX_TOLD} more sessions")
    return AlarmRecord(
        rule=RULE,
        level="error" if head is not None and head.is_open else "warning",
        claim=f"{who} wait{'s' if len(queue) == 1 else ''} for {head or _OTHER}",
        site=_site(first),
        evidence=(*told, _line(head) if head is not None else _OTHER),
        users=_users((*queue, *((head,) if head else ())), identities),
        count=len(queue),
    )


def _keeper(session: Session, identities: "Identities") -> AlarmRecord:
    return AlarmRecord(
        rule=RULE,
        level="warning",
        claim=f"{session} keeps locks in a transaction in which it does nothing",
        site=_site(session),
        evidence=(_line(session),),
        users=_users((session,), identities),
    )


def _line(session: Session) -> str:
    """Return what a session holds, waits for and says, as one sentence."""
    holds = f"holds {', '.join(session.held)}" if session.held else "holds no table"
    if session.blockers:
        others = ", ".join(map(str, session.blockers))
        state = (
            f"waits {session.seconds:.1f} s for {', '.join(session.wanted)} of {others}"
        )
    else:
        state = f"is {session.state or 'not to be seen'} for {session.seconds:.1f} s"
    verb = "runs" if session.state == "active" else "ran last"
    return f"{session} {holds} and {state}; it {verb}: {session.statement}"


def _site(session: Session) -> str:
    """Return the application and the table; a transaction has no name of its own."""
    places = [lock.partition(" on ")[2] for lock in (*session.wanted, *session.held)]
    named = [place for place in places if not place.startswith("a ")]
    return " ".join(filter(None, ("Postgres", session.application, *named[:1])))


def _users(sessions: Iterable[Session], identities: "Identities") -> tuple[int, ...]:
    named = {user for one in sessions for user in identities.find(one.query.encode())}
    return tuple(sorted(named))
