"""Postgres as asyncpg shows it, in memory: connections, transactions, the current user.

It knows the few statements that a session sends by itself and one for the work, which
answers with the user of the transaction. Above it, pool, session and driver adapter
are SQLAlchemy's own, so what a cancellation does to them is what it does in service.
Every call asks the world outside once, and its effect comes before the answer: who is
cancelled while it waits has sent the command.
``tests/integration/test_miniatures.py`` holds it and a real server to one contract.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import asyncpg

from test_framework.explore import external

_TEXT_OID = 25


class MemoryPostgres:
    """A server.

    Attributes:
        connections: All that were ever opened, in order.
    """

    def __init__(self) -> None:
        """Have no connection yet."""
        self.connections: list[MemoryConnection] = []

    async def connect(self, **_: object) -> "MemoryConnection":
        """Open a connection."""
        await external("connect")
        connection = MemoryConnection()
        self.connections.append(connection)
        return connection

    @property
    def open_connections(self) -> "list[MemoryConnection]":
        """Those that nobody has closed."""
        return [each for each in self.connections if not each.is_closed()]


class MemoryConnection:
    """One connection, which does one thing at a time.

    Attributes:
        is_in_transaction: A transaction was begun and not ended.
        user: The user of the transaction; empty for none.
        committed: Users whose transactions were committed, in order.
    """

    _ANSWERS: ClassVar[dict[str, str]] = {
        "version()": "PostgreSQL 18.0",
        "current_schema()": "public",
        "standard_conforming_strings": "on",
        "transaction isolation level": "read committed",
    }

    def __init__(self) -> None:
        """Be open and idle."""
        self._is_closed = False
        self._is_busy = False
        self.is_in_transaction = False
        self.user = ""
        self.committed: list[str] = []

    async def prepare(self, query: str, **_: object) -> "_Statement":
        """Prepare a statement."""
        async with self._operation("prepare"):
            return _Statement(self, query)

    def transaction(self, **_: object) -> "_Transaction":
        """Return a transaction that has not begun."""
        return _Transaction(self)

    async def set_type_codec(self, *_: object, **__: object) -> None:
        """Do nothing: there are no types here."""

    def is_closed(self) -> bool:
        """Tell whether it was closed."""
        return self._is_closed

    async def close(self, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109  # the driver's signature
        """Say goodbye; a transaction that stands open is rolled back."""
        if not self._is_closed:
            async with self._operation("close"):
                self.terminate()

    def terminate(self) -> None:
        """Hang up."""
        self._is_closed = True
        self.end_transaction()

    def run(self, query: str, arguments: tuple[Any, ...]) -> list[tuple[str]]:
        """Execute a statement."""
        if match := re.search(r"set_config\('app\.(\w+)', (\$1|'\w+')", query):
            value = str(arguments[0]) if match[2] == "$1" else match[2].strip("'")
            self.user = value
            return [(value,)]
        for part, answer in self._ANSWERS.items():
            if part in query:
                return [(answer,)]
        assert "current_setting('app.user_id', true)" in query, query
        return [(self.user,)]

    def end_transaction(self) -> None:
        """Forget the transaction and what was set in it."""
        self.is_in_transaction = False
        self.user = ""

    @asynccontextmanager
    async def _operation(self, name: str) -> AsyncIterator[None]:
        if self._is_closed:
            message = "connection is closed"
            raise asyncpg.InterfaceError(message)
        if self._is_busy:
            message = "cannot perform operation: another operation is in progress"
            raise asyncpg.InterfaceError(message)
        self._is_busy = True
        try:
            yield
            await external(name)
        finally:
            self._is_busy = False


class _Statement:
    def __init__(self, connection: MemoryConnection, query: str) -> None:
        self._connection = connection
        self._query = query

    def get_attributes(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="value", type=SimpleNamespace(oid=_TEXT_OID))]

    def get_statusmsg(self) -> str:
        return "SELECT 1"

    async def fetch(self, *arguments: object) -> list[tuple[str]]:
        async with self._connection._operation(self._query[:40]):
            return self._connection.run(self._query, arguments)


class _Transaction:
    def __init__(self, connection: MemoryConnection) -> None:
        self._connection = connection

    async def start(self) -> None:
        async with self._connection._operation("BEGIN"):
            self._connection.is_in_transaction = True

    async def commit(self) -> None:
        async with self._connection._operation("COMMIT"):
            self._connection.committed.append(self._connection.user)
            self._connection.end_transaction()

    async def rollback(self) -> None:
        async with self._connection._operation("ROLLBACK"):
            self._connection.end_transaction()
