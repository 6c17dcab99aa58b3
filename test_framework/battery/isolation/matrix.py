"""The matrix: which anomalies a database, or a service's sessions, let happen."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from test_framework.battery.isolation.clients import (
    Client,
    Connection,
    Source,
    connect,
    session_source,
)
from test_framework.battery.isolation.scenarios import (
    PUBLISHED,
    SCENARIOS,
    Outcome,
    PostgresLevel,
    Scenario,
)
from test_framework.battery.isolation.stage import (
    COLUMNS,
    PATIENCE_S,
    Table,
    open_client,
    play,
)
from test_framework.core import TargetError, Verdict

_PROBE = """
select pg_backend_pid(), pg_current_xact_id()::text::bigint,
    current_setting('transaction_isolation')
"""


AUTOCOMMIT = (
    "Each statement of a session is a transaction of its own (autocommit), so nothing is "
    "ever rolled back and no two reads belong together. Remove AUTOCOMMIT from the engine "
    "or its options."
)
SHARED = (
    "Two sessions that were open at once share one connection and one transaction, so "
    "users see and commit each other's work. Make a session for each piece of work."
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One scenario at one level.

    Attributes:
        scenario: What was played.
        level: At which level.
        is_allowed: Whether the anomaly was seen.
        how: What prevented it: ``blocked``, an SQLSTATE, or nothing but what was read.
    """

    scenario: Scenario
    level: PostgresLevel
    is_allowed: bool
    how: str

    @property
    def is_broken(self) -> bool:
        """Whether the level should have prevented what was seen."""
        return self.is_allowed and self.scenario.id not in PUBLISHED[self.level]

    @property
    def is_stricter(self) -> bool:
        """Whether the level allows what was not seen."""
        return not self.is_allowed and self.scenario.id in PUBLISHED[self.level]


@dataclass(frozen=True, slots=True)
class Matrix:
    """All cells that were played.

    Attributes:
        cells: By level, and within it in the order of ``SCENARIOS``.
        problems: What is wrong with a service's sessions, in whole sentences.
    """

    cells: tuple[Cell, ...]
    problems: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Invalid if anything happened that its level forbids."""
        is_broken = bool(self.problems) or any(cell.is_broken for cell in self.cells)
        return Verdict.INVALID if is_broken else Verdict.VALID

    @property
    def levels(self) -> tuple[PostgresLevel, ...]:
        """The levels that were played."""
        return tuple(dict.fromkeys(cell.level for cell in self.cells))

    def allowed(self, level: PostgresLevel) -> frozenset[str]:
        """Return the names of what was seen at a level."""
        return frozenset(
            cell.scenario.id
            for cell in self.cells
            if cell.level is level and cell.is_allowed
        )


async def run_matrix(
    dsn: str, levels: Sequence[PostgresLevel] = tuple(PostgresLevel)
) -> Matrix:
    """Play all scenarios at each level of a Postgres.

    Args:
        dsn: Its address; the role must be allowed to create a table.
        levels: In order.

    Raises:
        TargetError: It does not answer, or a statement failed.
    """
    async with contextlib.AsyncExitStack() as stack:
        table = await stack.enter_async_context(table_on(dsn))
        connections = [
            await stack.enter_async_context(connection_to(dsn)) for _ in range(3)
        ]
        cells = []
        for level in levels:
            cells += await _play_all(table, _reusing(connections, level), level)
        return Matrix(tuple(cells))


async def run_sessions_matrix(
    factory: Callable[[], Any], dsn: str, level: PostgresLevel | None = None
) -> Matrix:
    """Play all scenarios through a service's session factory.

    Args:
        factory: See ``load_sessions``; it must give three sessions at once.
        dsn: Address of the same database, for a role that may create a table there.
        level: What the service relies on; what its sessions say when None.

    Raises:
        TargetError: The database does not answer, or a statement failed.
        UsageError: The factory gives no sessions.
    """
    async with table_on(dsn) as table:
        source = session_source(factory)
        said, problems = await probe_sessions(source)
        if said not in {*PostgresLevel}:
            message = f"The sessions say that they run at {said!r}, which is no level."
            raise TargetError(message)
        if level is not None and level != said:
            problem = (
                f"Sessions run at {said.upper()} and the service relies on "
                f"{level.upper()}. Set isolation_level where the engine is made."
            )
            problems = (*problems, problem)
        judged = level or PostgresLevel(said)
        return Matrix(tuple(await _play_all(table, source, judged)), problems)


async def _play_all(table: Table, source: Source, level: PostgresLevel) -> list[Cell]:
    cells = []
    for scenario in SCENARIOS:
        await table.reset()
        outcome = await play(scenario, source, table)
        is_allowed = scenario.is_seen(outcome)
        how = "" if is_allowed else _say_how(outcome)
        cells.append(Cell(scenario, level, is_allowed, how))
    return cells


def _say_how(outcome: Outcome) -> str:
    if outcome.failed:
        return min(outcome.failed.values())
    return "blocked" if outcome.blocked else ""


async def probe_sessions(source: Source) -> tuple[str, tuple[str, ...]]:
    """Return the level of a service's sessions, and what is wrong with them.

    Raises:
        TargetError: A statement failed.
        UsageError: The factory gives no sessions.
    """
    async with contextlib.AsyncExitStack() as stack:
        clients: list[Client] = []
        for _ in range(2):
            clients.append(await open_client(source))
            stack.push_async_callback(clients[-1].close)
        first = await clients[0].run(_PROBE)
        other = await clients[1].run(_PROBE)
        again = await clients[0].run(_PROBE)
    pid, transaction, said = first[0]
    # Autocommit may lend one connection to both in turn, so it is looked for first.
    if again[0][1] != transaction:
        return str(said), (AUTOCOMMIT,)
    return str(said), (SHARED,) if other[0][0] == pid else ()


@contextlib.asynccontextmanager
async def connection_to(dsn: str) -> AsyncIterator[Any]:
    """Hold a connection of asyncpg open.

    Raises:
        TargetError: Nobody answers there.
    """
    connection = await connect(dsn)
    try:
        yield connection
    finally:
        await connection.close(timeout=PATIENCE_S)


@contextlib.asynccontextmanager
async def table_on(dsn: str, columns: str = COLUMNS) -> AsyncIterator[Table]:
    """Hold a table of ours in a database.

    Raises:
        TargetError: Nobody answers there, or the role may not create a table.
    """
    async with connection_to(dsn) as admin:
        table = Table(admin)
        await table.create(columns)
        try:
            yield table
        finally:
            await table.drop()


def _reusing(connections: list[Any], level: PostgresLevel) -> Source:
    """Return what hands out connections in turn; those of a scenario are all back."""
    turn = 0

    async def next_connection() -> Client:
        nonlocal turn
        turn += 1
        return Connection(connections[turn % len(connections)], level)

    return next_connection
