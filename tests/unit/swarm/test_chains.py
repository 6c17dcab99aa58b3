"""Sessions that stand are told as queues; those that move are left alone."""

from test_framework.clients.sessions import Session
from test_framework.swarm.chains import lock_chains, unmoved
from test_framework.swarm.identities import Identities

NOBODY = Identities({})
IDLE = "idle in transaction"


def session(
    pid: int,
    *blockers: int,
    state: str = "active",
    since: str = "noon",
    query: str = "SELECT 1",
) -> Session:
    """Return a session that waits for others and holds a table."""
    held, wanted = ("RowExclusiveLock on notes",), ("ShareLock on notes",)
    return Session(
        pid,
        "app",
        "role",
        state,
        query,
        since,
        1.0,
        blockers,
        held,
        wanted[: len(blockers)],
    )


def test_two_forgotten_transactions_are_two_queues() -> None:
    """Who waits for both stands in both: it goes on only when both have ended."""
    alarms = lock_chains(
        [
            session(1, state=IDLE),
            session(2, state=IDLE),
            session(3, 1, 2),
            session(4, 2),
            session(5, 3),
        ],
        NOBODY,
    )

    assert [(alarm.level, alarm.count) for alarm in alarms] == [
        ("error", 2),
        ("error", 3),
    ]
    assert "session 3 of 'app' (role) and 1 more wait for session 1" in alarms[0].claim


def test_a_queue_behind_a_job_is_a_warning() -> None:
    """A job that works is going to end, however long it takes."""
    (alarm,) = lock_chains([session(1), session(2, 1)], NOBODY)

    assert alarm.level == "warning"


def test_a_head_that_is_no_session_is_told_as_such() -> None:
    """A prepared transaction has no session, and its number is 0."""
    (alarm,) = lock_chains([session(2, 0)], NOBODY)

    assert alarm.claim.endswith(
        "waits for a prepared transaction, or the server's own work"
    )


def test_a_circle_that_nobody_breaks_is_one_alarm() -> None:
    """Postgres may have been told to wait for a day before it looks."""
    (alarm,) = lock_chains([session(1, 2), session(2, 1)], NOBODY)

    assert alarm.count == 1


def test_who_moved_and_who_waits_for_it_are_left_out() -> None:
    """The head of a queue that works serves those behind it, one by one."""
    now = [
        session(1, since="one"),
        session(2, 1),
        session(3, 2),
        session(4, state=IDLE),
    ]
    earlier = [session(1), *now[1:]]

    assert unmoved(now, earlier=earlier, before=[]) == [now[3]]


def test_who_stood_so_before_is_left_out() -> None:
    """What no user of the audit did is none of its alarms."""
    now = [session(1, state=IDLE), session(2, state=IDLE, since="later")]

    assert unmoved(now, earlier=now, before=now[:1]) == [now[1]]


def test_statements_are_told_without_values_and_comments() -> None:
    """Values and what stands in comments may be a user's own."""
    one = session(
        1,
        query="UPDATE t1 -- for bob\n SET a = 'it''s', b=1.5, c = $tag$x$tag$ "
        "/* bob */ WHERE id = $1",
    )

    assert one.statement == "UPDATE t1 SET a = ?, b=?, c = ? WHERE id = $1"
