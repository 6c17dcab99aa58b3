"""Plays one scenario: each statement in its turn, with those that wait left waiting."""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from test_framework.battery.isolation.clients import Client, RefusedError, Source
from test_framework.battery.isolation.scenarios import (
    COMMIT,
    ROLLBACK,
    ROWS,
    Outcome,
    Rows,
    Scenario,
    Step,
)
from test_framework.core import IsolationError, TargetError, UsageError

LOOK_S = 0.002
"""Between two looks at whether a statement waits for a lock."""
GRACE_S = 0.5
"""After this a statement counts as waiting where Postgres does not let us look."""
PATIENCE_S = 10.0
"""A statement that is not done by then never will be: locks and deadlocks take a second."""

COLUMNS = "id int primary key, value int not null"

_WAITS = """
select
    count(*) filter (
        where wait_event_type = 'Lock' and state = 'active' and strpos(query, $1) > 0
    ) > 0,
    count(*) filter (where query = '<insufficient privilege>') > 0
from pg_stat_activity where datname = current_database()
"""


class Table:
    """The rows that scenarios play on, made and watched over a connection of its own."""

    def __init__(self, admin: Any) -> None:  # noqa: ANN401  # asyncpg has no types
        self._admin = admin
        self.name = f"isolation_matrix_{secrets.token_hex(4)}"

    async def create(self, columns: str = COLUMNS) -> None:
        """Make the table, for every role."""
        await self._execute(
            f"create table {self.name} ({columns})",
            f"grant all on {self.name} to public",
            # What a service left open must not hold us up for ever.
            "set lock_timeout = '5s'",
        )

    async def reset(self) -> None:
        """Put the rows back that every scenario begins with."""
        rows = ", ".join(f"({id}, {value})" for id, value in ROWS)
        await self._execute(
            f"truncate {self.name}",
            f"insert into {self.name} (id, value) values {rows}",  # noqa: S608  # our own name
        )

    async def rows(self) -> dict[int, int]:
        """Return what it holds, by id."""
        query = f"select id, value from {self.name}"  # noqa: S608  # our own name
        return {row["id"]: row["value"] for row in await self._admin.fetch(query)}

    async def look(self, tag: str) -> tuple[bool, bool]:
        """Tell whether a statement with this tag waits for a lock, and if that is hidden.

        What another role does is shown to members of pg_read_all_stats only.
        """
        waits, is_hidden = await self._admin.fetchrow(_WAITS, tag)
        return bool(waits), bool(is_hidden)

    async def drop(self) -> None:
        """Remove the table."""
        await self._execute(f"drop table if exists {self.name}")

    async def _execute(self, *statements: str) -> None:
        try:
            await self._admin.execute("; ".join(statements))
        except asyncpg.PostgresError as exc:
            message = (
                f"The table {self.name} of the matrix could not be made or changed: "
                f"{exc}. Pass the address of a role that may create tables, and see "
                "that sessions of the service end their transactions."
            )
            raise TargetError(message) from exc


@dataclass(slots=True)
class _Actor:
    """One transaction of a scenario."""

    name: str
    client: Client
    tag: str
    pending: "asyncio.Task[Rows] | None" = None
    step: Step | None = None
    failed: str = ""


@dataclass(slots=True)
class _Play:
    scenario: Scenario
    source: Source
    table: Table
    outcome: Outcome = field(default_factory=Outcome)
    actors: dict[str, _Actor] = field(default_factory=dict)

    async def run(self) -> Outcome:
        try:
            for step in self.scenario.steps:
                await self._take(step)
            for actor in self.actors.values():
                await self._finish(actor)
        finally:
            await self._close()
        self.outcome.final = await self.table.rows()
        return self.outcome

    async def _take(self, step: Step) -> None:
        """Begin a step, and go on once it is done or waits for somebody."""
        actor = await self._actor(step.who)
        await self._finish(actor)
        actor.step = step
        actor.pending = asyncio.create_task(self._do(actor, step))
        await self._settle(actor)

    async def _actor(self, name: str) -> _Actor:
        """Return the actor, whose transaction begins with its first step.

        Some services read when a session begins, and a snapshot is of the first read.
        """
        if name not in self.actors:
            client = await open_client(self.source)
            tag = f"isolation-matrix {secrets.token_hex(4)} {name}"
            self.actors[name] = _Actor(name, client, tag)
        return self.actors[name]

    async def _do(self, actor: _Actor, step: Step) -> Rows:
        if step.what in {COMMIT, ROLLBACK}:
            is_commit = step.what == COMMIT and not actor.failed
            await actor.client.end(is_commit=is_commit)
            return ()
        sql = step.what.format(t=self.table.name)
        return await actor.client.run(f"/* {actor.tag} */ {sql}")

    async def _settle(self, actor: _Actor) -> None:
        """Wait until the actor's step is done or waits for a lock."""
        if actor.pending is None:
            return
        # Only what is seen to wait is left waiting: one that is merely slow, on a busy
        # machine, would have the others overtake it.
        blind = 0
        for _ in range(round(PATIENCE_S / LOOK_S)):
            await asyncio.wait([actor.pending], timeout=LOOK_S)
            if actor.pending.done():
                await self._finish(actor)
                return
            waits, is_hidden = await self.table.look(actor.tag)
            blind += is_hidden
            if waits or blind > GRACE_S / LOOK_S:
                break
        self.outcome.blocked.add(actor.name)

    async def _finish(self, actor: _Actor) -> None:
        """Wait for the end of what the actor began."""
        task, step = actor.pending, actor.step
        if task is None or step is None:
            return
        done, _ = await asyncio.wait([task], timeout=PATIENCE_S)
        if not done:
            message = (
                f"{actor.name} of {self.scenario.id} waited {PATIENCE_S:g} s for "
                f"'{step.what}' and nobody held it up for so long. See what else locks "
                "rows or sessions there: a pool needs three sessions at once."
            )
            raise TargetError(message)
        actor.pending = None
        try:
            rows = task.result()
        except RefusedError as exc:
            actor.failed = exc.sqlstate
            self.outcome.failed.setdefault(actor.name, exc.sqlstate)
            if step.label:
                self.outcome.seen[step.label] = None
        else:
            if step.label:
                self.outcome.seen[step.label] = rows

    async def _close(self) -> None:
        """End what is still running, and every transaction."""
        for actor in self.actors.values():
            if actor.pending is not None:
                actor.pending.cancel()
                await asyncio.wait([actor.pending], timeout=PATIENCE_S)
        async with contextlib.AsyncExitStack() as stack:
            for actor in self.actors.values():
                stack.push_async_callback(actor.client.close)


async def open_client(source: Source) -> Client:
    """Open a client, or say that there is none to be had.

    Raises:
        TargetError: The source failed.
        UsageError: The source gives none in time, or something else.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await source()
    except TimeoutError as exc:
        message = (
            f"The factory gave no session within {PATIENCE_S:g} s. The matrix needs "
            "three at once: give its pool as many connections."
        )
        raise UsageError(message) from exc
    except IsolationError:
        raise
    except Exception as exc:
        message = (
            f"The session factory failed: {type(exc).__name__}: {exc}. It must give "
            "three sessions at once."
        )
        raise TargetError(message) from exc


async def play(scenario: Scenario, source: Source, table: Table) -> Outcome:
    """Play one scenario.

    Args:
        scenario: What to play.
        source: Opens a client for each of its transactions.
        table: Fresh rows; it is not reset here.

    Raises:
        TargetError: A statement failed, or one was never done.
    """
    return await _Play(scenario, source, table).run()
