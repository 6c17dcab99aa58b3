"""Fourteen interleavings that tell the isolation levels of Postgres apart.

Each is a few statements of two or three transactions in one fixed order, on a table of
two rows, ``(1, 100)`` and ``(2, 200)``, and a look at what they saw. The cases and which
level prevents them are those of Hermitage by Martin Kleppmann (CC-BY 4.0, test suite and
table for Postgres 9.3.5); statements, values and texts are our own. Names are Adya's
(1999), and those of Bailis et al. (VLDB 2014) for OTV.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from test_framework.core import UsageError

Rows = tuple[tuple[Any, ...], ...]

ROWS: Final[Rows] = ((1, 100), (2, 200))
"""What the table holds before each scenario: id and value."""

COMMIT: Final = "commit"
ROLLBACK: Final = "rollback"


class PostgresLevel(enum.StrEnum):
    """The levels of Postgres; READ UNCOMMITTED is READ COMMITTED there."""

    READ_COMMITTED = "read committed"
    REPEATABLE_READ = "repeatable read"
    SERIALIZABLE = "serializable"


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of one transaction.

    Attributes:
        who: ``T1``, ``T2`` or ``T3``.
        what: ``COMMIT``, ``ROLLBACK``, or SQL with ``{t}`` for the table.
        label: Under which name its rows are kept; empty for none.
    """

    who: str
    what: str
    label: str = ""


@dataclass(slots=True)
class Outcome:
    """What came of one scenario.

    Attributes:
        seen: Rows by label; None where the transaction had failed.
        failed: SQLSTATE by transaction that the database refused.
        blocked: Transactions that had to wait for another.
        final: What the table held in the end, by id.
    """

    seen: dict[str, Rows | None] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    final: dict[int, int] = field(default_factory=dict)

    def values(self, *labels: str) -> tuple[int | None, ...]:
        """Return the value of the only row of each label; None where there is none."""
        found = [self.seen.get(label) for label in labels]
        return tuple(rows[0][1] if rows else None for rows in found)

    def all_committed(self, *who: str) -> bool:
        """Tell whether the database refused none of the transactions."""
        return not self.failed.keys() & set(who)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One anomaly, how it is provoked, and what it does to a service.

    Attributes:
        id: Its short name, such as ``G2-item``.
        title: Its long name.
        steps: Statements in order; a blocked one is left waiting.
        is_seen: Whether an outcome shows the anomaly.
        claim: What goes wrong, in one sentence.
        harm: What it looks like in a service.
        cure: What to do at the level that allows it.
        allowed_at: Levels of Postgres at which it can happen.
    """

    id: str
    title: str
    steps: tuple[Step, ...]
    is_seen: Callable[[Outcome], bool]
    claim: str
    harm: str
    cure: str
    allowed_at: frozenset[PostgresLevel]


def _steps(text: str) -> tuple[Step, ...]:
    """Return the steps of lines such as ``T1: select ... -> label``."""
    steps = []
    for line in text.strip().splitlines():
        who, _, rest = line.strip().partition(": ")
        what, _, label = rest.partition(" -> ")
        steps.append(Step(who, what, label))
    return tuple(steps)


_NEVER: Final[frozenset[PostgresLevel]] = frozenset()
_AT_RC: Final = frozenset({PostgresLevel.READ_COMMITTED})
_BELOW_SER: Final = _AT_RC | {PostgresLevel.REPEATABLE_READ}

_LOCK: Final = (
    "lock what you read before you decide ('select ... for update'), put the decision "
    "into the statement that writes, or run at {level} and try again on SQLSTATE 40001."
)
_RR, _SER = "REPEATABLE READ", "SERIALIZABLE"

SCENARIOS: Final = (
    Scenario(
        id="G0",
        title="dirty write",
        steps=_steps("""
            T1: update {t} set value = 101 where id = 1
            T2: update {t} set value = 102 where id = 1
            T1: update {t} set value = 201 where id = 2
            T1: commit
            T2: update {t} set value = 202 where id = 2
            T2: commit
        """),
        is_seen=lambda o: (o.final[1], o.final[2]) not in {(101, 201), (102, 202)},
        claim="Two transactions overwrite each other's uncommitted rows, so the result "
        "is a mixture of both.",
        harm="An order is half Alice's and half Bob's: her items, his address.",
        cure="Postgres prevents it at every level. Where it is seen, statements do not "
        "share one transaction: look for autocommit or a session per statement.",
        allowed_at=_NEVER,
    ),
    Scenario(
        id="G1a",
        title="aborted read",
        steps=_steps("""
            T1: update {t} set value = 101 where id = 1
            T2: select id, value from {t} where id = 1 -> before
            T1: rollback
            T2: select id, value from {t} where id = 1 -> after
            T2: commit
        """),
        is_seen=lambda o: 101 in o.values("before", "after"),
        claim="A transaction reads what another one wrote and then took back.",
        harm="A mail goes out for a payment that was rolled back.",
        cure="Postgres prevents it at every level. Where it is seen, the writer does not "
        "roll back (autocommit), or reader and writer share one session.",
        allowed_at=_NEVER,
    ),
    Scenario(
        id="G1b",
        title="intermediate read",
        steps=_steps("""
            T1: update {t} set value = 101 where id = 1
            T2: select id, value from {t} where id = 1 -> before
            T1: update {t} set value = 111 where id = 1
            T1: commit
            T2: select id, value from {t} where id = 1 -> after
            T2: commit
        """),
        is_seen=lambda o: 101 in o.values("before", "after"),
        claim="A transaction reads a value that its writer went on to change.",
        harm="A balance is shown that existed only between two steps of a transfer.",
        cure="Postgres prevents it at every level. Where it is seen, the steps of the "
        "writer do not share one transaction.",
        allowed_at=_NEVER,
    ),
    Scenario(
        id="G1c",
        title="circular information flow",
        steps=_steps("""
            T1: update {t} set value = 111 where id = 1
            T2: update {t} set value = 222 where id = 2
            T1: select id, value from {t} where id = 2 -> second
            T2: select id, value from {t} where id = 1 -> first
            T1: commit
            T2: commit
        """),
        is_seen=lambda o: o.values("first", "second") == (111, 222),
        claim="Two transactions each read what the other one wrote, so neither can have "
        "come first.",
        harm="Two agents each build on the other's unfinished work.",
        cure="Postgres prevents it at every level. Where it is seen, writes are visible "
        "before their commit: autocommit, or one session for both.",
        allowed_at=_NEVER,
    ),
    Scenario(
        id="OTV",
        title="observed transaction vanishes",
        steps=_steps("""
            T1: update {t} set value = 101 where id = 1
            T1: update {t} set value = 201 where id = 2
            T2: update {t} set value = 102 where id = 1
            T1: commit
            T3: select id, value from {t} where id = 1 -> first
            T2: update {t} set value = 202 where id = 2
            T3: select id, value from {t} where id = 2 -> second
            T2: commit
            T3: select id, value from {t} where id = 2 -> third
            T3: select id, value from {t} where id = 1 -> fourth
            T3: commit
        """),
        is_seen=lambda o: (
            o.values("first", "second") == (101, 200)
            or o.values("third", "fourth") == (202, 101)
        ),
        claim="A transaction sees one effect of another and then no longer sees its "
        "other effects.",
        harm="A message is there and the thread it belongs to is not yet.",
        cure="Postgres prevents it at every level. Where it is seen, the writer commits "
        "its statements one by one.",
        allowed_at=_NEVER,
    ),
    Scenario(
        id="PMP",
        title="predicate-many-preceders, reading",
        steps=_steps("""
            T1: select id, value from {t} where value = 300 -> before
            T2: insert into {t} (id, value) values (3, 300)
            T2: commit
            T1: select id, value from {t} where value % 3 = 0 -> after
            T1: commit
        """),
        is_seen=lambda o: bool(o.seen["after"]),
        claim="The second of two searches finds a row that the first could have found "
        "and did not: a phantom.",
        harm="A page and its total count disagree, or a limit is checked on other rows "
        "than are then used.",
        cure="Read once, or run at REPEATABLE READ, where a transaction keeps one "
        "snapshot.",
        allowed_at=_AT_RC,
    ),
    Scenario(
        id="PMP-write",
        title="predicate-many-preceders, writing",
        steps=_steps("""
            T1: update {t} set value = value + 100
            T2: delete from {t} where value = 200
            T1: commit
            T2: select id, value from {t} where value = 200 -> after
            T2: commit
        """),
        is_seen=lambda o: bool(o.seen["after"]),
        claim="A statement that waited for a row looks at that row again and not for "
        "rows that match by now, so it misses some.",
        harm="'Delete all expired' leaves rows that were expired before and after it.",
        cure="Run at REPEATABLE READ and try again on SQLSTATE 40001, or lock what is "
        "to be changed in one place first.",
        allowed_at=_AT_RC,
    ),
    Scenario(
        id="P4",
        title="lost update",
        steps=_steps("""
            T1: select id, value from {t} where id = 1 -> one
            T2: select id, value from {t} where id = 1 -> two
            T1: update {t} set value = 110 where id = 1
            T2: update {t} set value = 120 where id = 1
            T1: commit
            T2: commit
        """),
        is_seen=lambda o: (
            o.values("one", "two") == (100, 100) and o.all_committed("T1", "T2")
        ),
        claim="Two transactions read one value and both write what they made of it; the "
        "first write is lost without a trace.",
        harm="Two users add to one counter or document, and one addition is gone.",
        cure="Write 'set value = value + 10' or compare a version column. Otherwise: "
        + _LOCK.format(level=_RR),
        allowed_at=_AT_RC,
    ),
    Scenario(
        id="G-single",
        title="read skew",
        steps=_steps("""
            T1: select id, value from {t} where id = 1 -> first
            T2: select id, value from {t} where id = 1
            T2: select id, value from {t} where id = 2
            T2: update {t} set value = 110 where id = 1
            T2: update {t} set value = 190 where id = 2
            T2: commit
            T1: select id, value from {t} where id = 2 -> second
            T1: commit
        """),
        is_seen=lambda o: o.values("first", "second") == (100, 190),
        claim="A transaction reads one row before and another after somebody changed "
        "both, and sees a state that never was.",
        harm="A report sums accounts during a transfer and money is missing.",
        cure="Read both in one statement, or run at REPEATABLE READ.",
        allowed_at=_AT_RC,
    ),
    Scenario(
        id="G-single-predicate",
        title="read skew over a search",
        steps=_steps("""
            T1: select id, value from {t} where value % 100 = 0 -> before
            T2: update {t} set value = 77 where value = 100
            T2: commit
            T1: select id, value from {t} where value % 7 = 0 -> after
            T1: commit
        """),
        is_seen=lambda o: bool(o.seen["after"]),
        claim="A row that a search found under its old value is found by the next one "
        "under its new value.",
        harm="An item is listed in the old folder and in the new one.",
        cure="Search once, or run at REPEATABLE READ.",
        allowed_at=_AT_RC,
    ),
    Scenario(
        id="G-single-write",
        title="read skew over a write",
        steps=_steps("""
            T1: select id, value from {t} where id = 1 -> first
            T2: select id, value from {t}
            T2: update {t} set value = 110 where id = 1
            T2: update {t} set value = 190 where id = 2
            T2: commit
            T1: delete from {t} where value = 200
            T1: commit
        """),
        is_seen=lambda o: o.all_committed("T1") and o.final.get(2) == 190,
        claim="A transaction decides on an old state and its write meets a newer one, in "
        "which nothing matches.",
        harm="'Delete what I saw' deletes nothing and reports success.",
        cure="Look at how many rows were changed, or run at REPEATABLE READ and try "
        "again on SQLSTATE 40001.",
        allowed_at=_AT_RC,
    ),
    Scenario(
        id="G2-item",
        title="write skew",
        steps=_steps("""
            T1: select id, value from {t} where id in (1, 2) -> one
            T2: select id, value from {t} where id in (1, 2) -> two
            T1: update {t} set value = 111 where id = 1
            T2: update {t} set value = 222 where id = 2
            T1: commit
            T2: commit
        """),
        is_seen=lambda o: o.all_committed("T1", "T2"),
        claim="Two transactions read both rows and each changes another one, so what "
        "each relied on is no longer true.",
        harm="Of two doctors on call each sees the other and goes home; two orders spend "
        "one credit.",
        cure="Let one row stand for what must hold; " + _LOCK.format(level=_SER),
        allowed_at=_BELOW_SER,
    ),
    Scenario(
        id="G2",
        title="anti-dependency cycle",
        steps=_steps("""
            T1: select id, value from {t} where value % 3 = 0 -> one
            T2: select id, value from {t} where value % 3 = 0 -> two
            T1: insert into {t} (id, value) values (3, 300)
            T2: insert into {t} (id, value) values (4, 420)
            T1: commit
            T2: commit
        """),
        is_seen=lambda o: o.all_committed("T1", "T2"),
        claim="Two transactions search, find nothing, and each inserts what the other's "
        "search would have found.",
        harm="Two bookings of one room for one hour, each checked before.",
        cure="Let the database forbid it (a unique or exclusion constraint), lock a row "
        "that stands for the whole, or run at SERIALIZABLE and try again on 40001.",
        allowed_at=_BELOW_SER,
    ),
    Scenario(
        id="G2-two-edges",
        title="read-only anomaly",
        steps=_steps("""
            T1: select id, value from {t} -> one
            T2: update {t} set value = value + 5 where id = 2
            T2: commit
            T3: select id, value from {t} -> three
            T3: commit
            T1: update {t} set value = 0 where id = 1
            T1: commit
        """),
        is_seen=lambda o: (
            o.all_committed("T1")
            and (2, 200) in (o.seen["one"] or ())
            and (2, 205) in (o.seen["three"] or ())
        ),
        claim="A transaction that only reads sees a state in which the others have no "
        "order: one commits later that should have come first (Fekete et al. 2004).",
        harm="A statement of account shows the deposit and not the withdrawal that was "
        "decided without it.",
        cure="Run readers as well at SERIALIZABLE, long ones as READ ONLY DEFERRABLE.",
        allowed_at=_BELOW_SER,
    ),
)
"""In the order of Hermitage's table, variants behind their anomaly."""

PUBLISHED: Final[Mapping[PostgresLevel, frozenset[str]]] = {
    level: frozenset(one.id for one in SCENARIOS if level in one.allowed_at)
    for level in PostgresLevel
}
"""What Hermitage's table allows at each level."""


def find_scenario(id: str) -> Scenario:
    """Return a scenario by its name, whatever its case.

    Raises:
        UsageError: There is none of this name.
    """
    for one in SCENARIOS:
        if one.id.casefold() == id.casefold():
            return one
    names = ", ".join(one.id for one in SCENARIOS)
    message = f"No anomaly is named {id!r}. Choose one of: {names}."
    raise UsageError(message)
