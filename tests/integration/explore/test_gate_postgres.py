"""Exploration over a real Postgres: transactions, row locks and who waits for whom."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from test_framework.clients.blocked import PostgresProbe
from test_framework.explore import Conclusion, Scenario, explore, replay
from test_framework.explore.execution import Runner
from test_framework.explore.gate import GateLoop, watch_waits
from test_framework.explore.scenario import main_of
from test_framework.explore.schedulers import Stock
from test_framework.explore.story import traced

pytestmark = [pytest.mark.integration, pytest.mark.slow]

_TABLE = """
CREATE TABLE IF NOT EXISTS gate_seats (id int PRIMARY KEY, sold int NOT NULL);
TRUNCATE gate_seats;
INSERT INTO gate_seats VALUES (0, 0), (1, 0)
"""


@dataclass
class Hall:
    """One connection for each user, and what they say of their work."""

    connections: list[Any]
    said: list[str] = field(default_factory=list)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


Check = Callable[[Hall], Coroutine[Any, Any, None]]
User = Callable[[Hall, int], Coroutine[Any, Any, None]]


def hall_of(
    database_url: str, probe: PostgresProbe, user: User, check: Check | None = None
) -> Scenario[Hall]:
    """Return a scenario in which two users sell seats."""

    @contextlib.asynccontextmanager
    async def setup() -> AsyncIterator[Hall]:
        watch_waits(probe)
        connections = [await asyncpg.connect(database_url) for _ in range(2)]
        try:
            await connections[0].execute(_TABLE)
            hall = Hall(connections)
            yield hall
            if check is not None:
                await check(hall)
        finally:
            for connection in connections:
                await connection.close()

    return Scenario(setup, user, users=2)


async def both_are_counted(hall: Hall) -> None:
    """Two sales make two."""
    sold = await hall.connections[0].fetchval("SELECT sold FROM gate_seats WHERE id=0")
    assert sold == 2


def selling(reading: str) -> User:
    """Return a user that reads with a statement, and writes what it read plus one."""

    async def sell(hall: Hall, user: int) -> None:
        connection = hall.connections[user]
        async with connection.transaction():
            sold = await connection.fetchval(reading)
            await connection.execute(
                "UPDATE gate_seats SET sold = $1 WHERE id = 0", sold + 1
            )

    return sell


read_and_write = selling("SELECT sold FROM gate_seats WHERE id = 0")
lock_and_write = selling("SELECT sold FROM gate_seats WHERE id = 0 FOR UPDATE")


@pytest.mark.power
def test_gate_finds_an_update_lost_in_postgres(
    database_url: str, probe: PostgresProbe
) -> None:
    """Both read before either has written, and the schedule repeats it."""
    scenario = hall_of(database_url, probe, read_and_write, both_are_counted)

    report = explore(scenario, io="gate", seed=1)

    assert report.conclusion is Conclusion.FOUND, report.text()
    assert report.witness is not None
    outcome = replay(scenario, report.witness.schedule)
    assert outcome.failure == report.witness.failure


def test_gate_opens_for_the_others_while_one_waits_for_a_row(
    database_url: str, probe: PostgresProbe
) -> None:
    """With FOR UPDATE one of two users waits in most orders, and no order loses one."""
    scenario = hall_of(database_url, probe, lock_and_write, both_are_counted)

    report = explore(scenario, io="gate", schedules=40, seed=1)

    assert report.conclusion is Conclusion.SAMPLED, report.text()
    assert report.distinct > 10
    assert not any("silence" in note for note in report.notes)


async def lock_in_opposite_order(hall: Hall, user: int) -> None:
    """Take the seats 0 and 1, or 1 and 0."""
    connection = hall.connections[user]
    try:
        async with connection.transaction():
            for seat in (user, 1 - user):
                await connection.execute(
                    "SELECT 1 FROM gate_seats WHERE id = $1 FOR UPDATE", seat
                )
        hall.said.append(f"{user} sold")
    except asyncpg.DeadlockDetectedError:
        hall.said.append(f"{user} was chosen")


@pytest.mark.power
def test_gate_sees_the_same_victim_of_a_deadlock_each_time(
    database_url: str, probe: PostgresProbe
) -> None:
    """Postgres breaks the deadlock by itself: it chooses whose wait closed the cycle.

    With that it answers both at one instant, and either answer may be read first.
    """
    said: list[frozenset[str]] = []

    async def note(hall: Hall) -> None:
        said.append(frozenset(hall.said))

    scenario = hall_of(database_url, probe, lock_in_opposite_order, note)
    runner = Runner(main_of(scenario, 2), GateLoop())

    failures = {traced(runner, Stock())[0] for _ in range(4)}

    assert failures == {None}
    # The first run is made again: by then it is known that there is a deadlock.
    assert len(said) == 4
    assert set(said) == {frozenset({"0 sold", "1 was chosen"})}


async def hold_the_row_and_ask_for_the_turn(hall: Hall, user: int) -> None:
    """Lock the row and then the turn, or the other way round."""
    connection = hall.connections[user]
    locking = "SELECT 1 FROM gate_seats WHERE id = 0 FOR UPDATE"
    async with connection.transaction():
        if user == 0:
            await connection.execute(locking)
            async with hall.turn:
                pass
        else:
            async with hall.turn:
                await connection.execute(locking)


@pytest.mark.power
def test_gate_finds_a_deadlock_of_a_row_and_a_lock_of_the_program(
    database_url: str, probe: PostgresProbe
) -> None:
    """Neither Postgres nor asyncio sees this cycle: each knows only one half."""
    scenario = hall_of(database_url, probe, hold_the_row_and_ask_for_the_turn)

    report = explore(scenario, io="gate", seed=1)

    assert report.witness is not None, report.text()
    assert report.witness.failure.kind == "deadlock"
    text = report.text()
    assert "user[0] waits to acquire Lock hall.turn" in text
    assert "user[1] waits for the answer to postgres SELECT, held by user[0]" in text
