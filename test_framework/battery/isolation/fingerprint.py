"""Names the isolation level of a live Postgres from what load on it shows.

Clients append unique values to lists, read them, and scan for them, in transactions that overlap, and
the history is judged as Elle judges it: anomalies that a level rules out are not at that
level. READ COMMITTED shows read skew (G-single), REPEATABLE READ only cycles with two
anti-dependencies (G2-item, or G2 by a phantom), SERIALIZABLE nothing. So a level is named by its weakest
proof: an anomaly proves that the level is no better, and none, in thousands of
transactions that meet on the same keys, makes it likely that it is the strongest.

Lists grow within the database (``v || ','``), so that a statement never loses what
another one appended, and each transaction appends in the order of keys, so that none
waits for another in a circle.

Source: Kingsbury and Alvaro, VLDB 2020 (Elle); the load is that of Jepsen's append test.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from test_framework.battery.isolation.clients import (
    Client,
    Connection,
    RefusedError,
    Source,
    session_source,
)
from test_framework.battery.isolation.matrix import (
    SHARED,
    connection_to,
    probe_sessions,
    table_on,
)
from test_framework.battery.isolation.scenarios import PostgresLevel
from test_framework.battery.isolation.stage import open_client
from test_framework.check.transactions import (
    LogBuilder,
    Micro,
    Status,
    check_list_append,
)
from test_framework.check.witness import Checked
from test_framework.core import Clock, MonotonicClock, TargetError, UsageError

CLIENTS: Final = 8
KEYS: Final = 4
"""Lists that are in use at a time: few, so that transactions meet."""
LENGTH: Final = 24
"""After so many appends a list gives way to a new one, or reads would grow for ever."""
SECONDS: Final = 7.0
"""Load without any proof against SERIALIZABLE that is enough to name it."""
ROUND_S: Final = 1.0
"""Load between two looks."""
ROUNDS: Final = 3
"""With write skew alone it goes on for so long: read skew comes in the first round."""

_READ_SKEW: Final = {
    "G-single",
    "G-nonadjacent",
    "G-single-predicate",
    "G-nonadjacent-predicate",
    "lost-update",
    "internal",
}
_WRITE_SKEW: Final = {"G2-item", "G2"}


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What load on a database showed.

    Attributes:
        level: The strongest level that fits; None when even READ COMMITTED is broken.
        proof: Names of the anomalies without order of time or session, the worst first.
        checked: All that the checker says of the history.
        committed: Transactions that committed (count).
        refused: Those that the database refused (count).
        seconds: How long the load lasted; 0 when sessions could not be loaded at all.
        problems: What is wrong with a service's sessions, in whole sentences.
    """

    level: PostgresLevel | None
    proof: tuple[str, ...]
    checked: Checked
    committed: int
    refused: int
    seconds: float
    problems: tuple[str, ...] = ()


@dataclass(slots=True)
class _Load:
    """Clients at work, and the history of what they did."""

    source: Source
    table: str
    rng: random.Random
    clock: Clock
    keys: list[int] = field(default_factory=lambda: list(range(KEYS)))
    appended: dict[int, int] = field(default_factory=dict)
    made: int = KEYS
    builder: LogBuilder = field(default_factory=LogBuilder)
    committed: int = 0
    refused: int = 0
    is_over: bool = False

    async def work(self, number: int) -> None:
        """Run transactions until it is over."""
        while not self.is_over:
            client = await open_client(self.source)
            try:
                await self._transact(number, client)
            finally:
                await client.close()

    async def _transact(self, number: int, client: Client) -> None:
        """Run one transaction, and write down what came of it."""
        plan = self._plan()
        done: list[Micro] = []
        invoked = self.clock.now_ns()
        status = Status.INFO
        try:
            for word, key, value in plan:
                found = await client.run(self._sql(word, key, value))
                if word == "r":
                    done.append((word, key, _parsed(found[0][0]) if found else []))
                elif word == "scan":
                    rows = [(row[0], _parsed(row[1])) for row in found]
                    done.append((word, key, rows))
                else:
                    done.append((word, key, value))
            await client.end(is_commit=True)
            status = Status.OK
            self.committed += 1
        except RefusedError:
            status = Status.FAIL
            self.refused += 1
        finally:
            # What was cancelled or broken off may have committed all the same.
            shown = done if status is Status.OK else [one for one in plan if one[2]]
            completed = None if status is Status.INFO else self.clock.now_ns()
            self.builder.add(
                number, shown, status=status, invoked=invoked, completed=completed
            )

    def _plan(self) -> list[Micro]:
        """Return two to four operations; appends in the order of keys.

        A scan asks for all lists in use, so that one that is begun is a phantom.
        """
        words = [self.rng.choice("rrraaas") for _ in range(self.rng.randint(2, 4))]
        appends = sorted(self.rng.choice(self.keys) for word in words if word == "a")
        plan: list[Micro] = []
        for word in words:
            if word == "r":
                plan.append(("r", self.rng.choice(self.keys), None))
            elif word == "s":
                plan.append(("scan", tuple(self.keys), None))
            else:
                key = appends.pop(0)
                plan.append(("append", key, self._next_value(key)))
        return plan

    def _next_value(self, key: int) -> int:
        value = self.appended.get(key, 0) + 1
        self.appended[key] = value
        if value == LENGTH:
            self.keys[self.keys.index(key)] = self.made
            self.made += 1
        return value

    def _sql(self, word: str, key: Any, value: Any) -> str:  # noqa: ANN401  # a number, or nothing for a read; keys of a scan
        if word == "scan":
            keys = ", ".join(map(str, key))
            return f"select k, v from {self.table} where k in ({keys})"  # noqa: S608  # our own name and numbers
        if word == "r":
            return f"select v from {self.table} where k = {key}"  # noqa: S608  # our own name and numbers
        return (
            f"insert into {self.table} as t (k, v) values ({key}, '{value}') "  # noqa: S608  # see above
            "on conflict (k) do update set v = t.v || ',' || excluded.v"
        )


def _parsed(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


async def fingerprint(
    dsn: str,
    *,
    sessions: Callable[[], Any] | None = None,
    level: PostgresLevel | None = None,
    seconds: float = SECONDS,
    seed: int = 0,
    clock: Clock | None = None,
) -> Fingerprint:
    """Name the isolation level of a Postgres, or of a service's sessions on it.

    Args:
        dsn: Address, for a role that may create a table.
        sessions: Session factory of a service, see ``load_sessions``; it must give
            ``CLIENTS`` sessions at once.
        level: At which to begin transactions, without ``sessions``; by default the
            database's own.
        seconds: Most time of the load (> 0).
        seed: Of what the clients do; when they do it is up to the machine.
        clock: Measures the history.

    Raises:
        TargetError: The database does not answer, or a statement failed.
        UsageError: ``seconds`` is not above 0, or the factory gives no sessions.
    """
    if seconds <= 0:
        message = f"seconds={seconds}: load must last for some time. Pass {SECONDS:g}."
        raise UsageError(message)
    clock = clock or MonotonicClock()
    problems: tuple[str, ...] = ()
    columns = "k int primary key, v text not null"
    async with contextlib.AsyncExitStack() as stack:
        table = await stack.enter_async_context(table_on(dsn, columns))
        if sessions is None:
            connections = [
                await stack.enter_async_context(connection_to(dsn))
                for _ in range(CLIENTS)
            ]
            source = _pool(connections, level)
        else:
            source = session_source(sessions)
            _, problems = await probe_sessions(source)
            if SHARED in problems:
                # No two clients can work at once, so no load can be made.
                nothing = check_list_append(LogBuilder().build(), "serializable")
                return Fingerprint(None, (), nothing, 0, 0, 0.0, problems)
        load = _Load(source, table.name, random.Random(seed), clock)
        begun = clock.now_ns()
        checked = await _run(load, seconds)
        took = (clock.now_ns() - begun) / 1e9
    proof = tuple(dict.fromkeys(one.name for one in checked.anomalies))
    proof = tuple(
        name for name in proof if not name.endswith(("-process", "-realtime"))
    )
    named = _name(set(proof))
    counts = load.committed, load.refused
    return Fingerprint(named, proof, checked, *counts, took, problems)


async def _run(load: _Load, seconds: float) -> Checked:
    """Load the database until a proof is found, or the time is up."""
    workers = [asyncio.create_task(load.work(number)) for number in range(CLIENTS)]
    try:
        for number in range(1, max(1, round(seconds / ROUND_S)) + 1):
            done, _ = await asyncio.wait(
                workers, timeout=ROUND_S, return_when=asyncio.FIRST_EXCEPTION
            )
            for worker in done:
                worker.result()
            checked = check_list_append(load.builder.build(), "serializable")
            proof = {one.name for one in checked.anomalies}
            if proof & _READ_SKEW or (proof & _WRITE_SKEW and number >= ROUNDS):
                break
    finally:
        load.is_over = True
        await asyncio.wait(workers, timeout=10)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    if not load.committed:
        message = (
            f"None of {load.refused} transactions committed in {seconds:g} s, so there "
            "is nothing to judge. See what else is at work on this database."
        )
        raise TargetError(message)
    return check_list_append(load.builder.build(), "serializable")


def _name(proof: set[str]) -> PostgresLevel | None:
    if not proof:
        return PostgresLevel.SERIALIZABLE
    if proof <= _WRITE_SKEW:
        return PostgresLevel.REPEATABLE_READ
    return PostgresLevel.READ_COMMITTED if proof <= _WRITE_SKEW | _READ_SKEW else None


def _pool(connections: list[Any], level: PostgresLevel | None) -> Source:
    """Return what lends each connection to one client at a time."""
    free = list(connections)

    async def lend() -> Client:
        connection = free.pop()
        return _Lent(connection, level, free)

    return lend


class _Lent(Connection):
    """A connection that goes back to the others when it is closed."""

    def __init__(
        self,
        connection: Any,  # noqa: ANN401  # asyncpg has no types
        level: PostgresLevel | None,
        free: list[Any],
    ) -> None:
        super().__init__(connection, level)
        self._mine, self._free = connection, free

    async def close(self) -> None:
        """Roll back what is open, and give the connection back."""
        await super().close()
        self._free.append(self._mine)
