"""The owner sweep of a database that people use: our rows only, and not at any price."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from test_framework.clients.recorder import Recorder
from test_framework.core import (
    History,
    MonotonicClock,
    Observation,
    ResidueRecord,
    SurfaceRecord,
    WatchRecord,
)
from test_framework.swarm import Plan, Target, User
from test_framework.swarm.alarms import Alarms
from test_framework.swarm.identities import Identities
from test_framework.swarm.lasting import find_lasting, look_at_connections
from test_framework.swarm.residue import TaskCount, find_residue
from test_framework.swarm.sweep import sweep

pytestmark = pytest.mark.integration

ADA, BOB = "ada-4711", "bob-4712"
IDENTITIES = Identities({0: [ADA], 1: [BOB]})


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[tuple[str, str, Any]]:
    """An empty schema that is dropped again: its name, its database, a connection."""
    url = database_url.replace("+asyncpg", "")
    sql = await asyncpg.connect(url)
    name = f"shared_{secrets.token_hex(4)}"
    await sql.execute(f"CREATE SCHEMA {name}; SET search_path = {name}")
    yield name, url, sql
    await sql.execute(f"DROP SCHEMA {name} CASCADE")
    await sql.close()


def a_recorder() -> Recorder:
    """Return a recorder of a fresh run."""
    seed = secrets.randbits(32)
    return Recorder(History(), seed=seed, clock=MonotonicClock(), is_tagging=False)


async def _nothing(_: User) -> None:
    """Do nothing."""


def shared(url: str) -> Target:
    """Return a target that people use."""
    return Target("http://notes", "http://notes", database_url=url, is_shared=True)


async def test_row_under_another_owner_is_seen(place: tuple[str, str, Any]) -> None:
    """Rows with canaries are held against the users they name; others are not told."""
    name, url, sql = place
    recorder = a_recorder()
    canary = recorder.canary(0, "note")
    await sql.execute("CREATE TABLE notes(owner text, body text)")
    await sql.executemany(
        "INSERT INTO notes VALUES ($1, $2)",
        [("carol", "private"), (BOB, canary), (BOB, "mine"), (ADA, canary)],
    )

    await sweep(shared(url), recorder, IDENTITIES, Plan(workload=_nothing))

    told = [o for o in recorder.history.of(Observation) if o.surface.startswith(name)]
    assert [(o.names, [seen.owner for seen in o.seen]) for o in told] == [
        ((1,), [0]),
        ((0,), [0]),
    ]


async def test_table_that_is_held_is_told_as_untested(
    place: tuple[str, str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that cannot be read in time is noted, and the others are still read."""
    monkeypatch.setattr("test_framework.swarm.sweep.STATEMENT_LIMIT_S", 0.1)
    name, url, sql = place
    recorder = a_recorder()
    await sql.execute("CREATE TABLE a(body text); CREATE TABLE b(body text)")
    await sql.execute("INSERT INTO b VALUES ($1)", recorder.canary(0, "note"))

    async with sql.transaction():
        await sql.execute("LOCK TABLE a IN ACCESS EXCLUSIVE MODE")
        await sweep(shared(url), recorder, IDENTITIES, Plan(workload=_nothing))

    notes = {s.name: s.note for s in recorder.history.of(SurfaceRecord)}
    assert "timeout" in notes[f"{name}.a"]
    assert notes[f"{name}.b"] == ""
    assert f"{name}.b" in {o.surface for o in recorder.history.of(Observation)}


async def test_sessions_of_people_are_not_held_against_the_service(
    place: tuple[str, str, Any],
) -> None:
    """Connections and transactions that people have opened meanwhile are no alarm."""
    _, url, sql = place
    target = shared(url)
    before = await look_at_connections(target)

    async with sql.transaction():
        await sql.execute("SELECT 1")
        told = await find_lasting(target, IDENTITIES, before=before, spare=0, pause_s=0)

    (watched,) = told
    assert isinstance(watched, WatchRecord)
    assert "sessions: those of people come and go beside ours" in watched.unwatched


async def test_transactions_of_people_are_no_residue(
    place: tuple[str, str, Any],
) -> None:
    """Who sits in a transaction in a database in use is not of the audit's making."""
    _, url, sql = place
    found: list[list[ResidueRecord]] = []

    async with sql.transaction():
        await sql.execute("SELECT 1")
        for is_shared in (True, False):
            target = Target("http://n", "n", database_url=url, is_shared=is_shared)
            found.append(
                await find_residue(
                    target,
                    IDENTITIES,
                    tasks_before=TaskCount(),
                    users=1,
                    alarms=Alarms(None),
                    grace_s=0,
                )
            )

    assert found[0] == []
    assert [record.kind for record in found[1]] == ["open transaction"]
