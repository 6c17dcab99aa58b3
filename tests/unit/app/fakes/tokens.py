"""The table of refresh tokens with the locks of Postgres, in memory.

Statements are the service's own, read from SQLAlchemy's expressions. What matters to a
race is as Postgres does it at READ COMMITTED: a transaction sees what others have
committed and what it wrote itself; an UPDATE waits for the row's lock, looks again at
what was committed meanwhile, and keeps the lock even if the row no longer matches; an
advisory lock is held until the transaction ends. Where Postgres breaks a deadlock with
an error after a second, this one waits for ever.
``tests/integration/test_miniatures.py`` holds it and a real server to one contract.
"""

import asyncio
import contextlib
import operator
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from sqlalchemy import Insert, Select, Update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BindParameter,
    BooleanClauseList,
    Cast,
    ColumnElement,
    Grouping,
    Null,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.schema import Column

from app.security import hash_refresh_token
from app.storage import SessionFactory
from test_framework.explore import external

Row = dict[str, Any]
_NOW = datetime(2030, 1, 1, tzinfo=UTC)


class MemoryTokens(SessionFactory):
    """The table, and sessions on it.

    Attributes:
        rows: What is committed, by token hash.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.rows: dict[bytes, Row] = {}
        self.locks: defaultdict[object, asyncio.Lock] = defaultdict(asyncio.Lock)

    @contextlib.asynccontextmanager
    async def for_auth(self) -> AsyncIterator[AsyncSession]:
        """Open a transaction; commit at the end, roll back on error and cancel."""
        session = _Session(self)
        try:
            yield cast("AsyncSession", session)
            self.rows |= session.written
            session.end()
            await external("commit")
        finally:
            session.end()

    def add(self, token: str, family_id: str, *, is_spent: bool) -> None:
        """Write a token that was issued before."""
        token_hash = hash_refresh_token(token)
        self.rows[token_hash] = {
            "token_hash": token_hash,
            "user_id": "ada",
            "family_id": family_id,
            "expires_at": _NOW + timedelta(days=1),
            "spent_at": _NOW if is_spent else None,
            "revoked_at": None,
        }

    def live(self, family_id: str) -> list[bytes]:
        """Return the tokens of a login that still work."""
        return [
            token
            for token, row in self.rows.items()
            if row["family_id"] == family_id
            and row.get("spent_at") is None
            and row.get("revoked_at") is None
        ]


class _Result:
    """Rows of an answer."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def first(self) -> SimpleNamespace | None:
        return SimpleNamespace(**self._rows[0]) if self._rows else None

    def scalar(self) -> object:
        return next(iter(self._rows[0].values())) if self._rows else None


class _Session:
    """One transaction: what it has written and the locks it holds."""

    def __init__(self, table: MemoryTokens) -> None:
        self._table = table
        self._held: list[asyncio.Lock] = []
        self.written: dict[bytes, Row] = {}

    async def execute(self, statement: Any) -> _Result:  # noqa: ANN401  # any of three kinds
        """Run a statement after a round trip."""
        await external(type(statement).__name__.upper())
        match statement:
            case Select():
                return _Result(
                    [await self._select(statement, r) for r in self._from(statement)]
                )
            case Insert():
                row = _assigned(statement, {})
                self.written[row["token_hash"]] = row
                return _Result([])
            case Update():
                return _Result(await self._update(statement))
            case _:
                raise AssertionError(statement)

    async def scalar(self, statement: Any) -> object:  # noqa: ANN401  # as above
        """Run a statement and return the first value of its answer."""
        return (await self.execute(statement)).scalar()

    def end(self) -> None:
        """Release all locks."""
        while self._held:
            self._held.pop().release()

    async def _lock(self, key: object) -> None:
        lock = self._table.locks[key]
        if lock not in self._held:
            await lock.acquire()
            self._held.append(lock)

    def _see(self, key: bytes) -> Row:
        return self.written.get(key) or self._table.rows[key]

    def _matching(self, statement: Any) -> Iterator[bytes]:  # noqa: ANN401  # as above
        for key in {**self._table.rows, **self.written}:
            if all(_value(c, self._see(key)) for c in statement._where_criteria):
                yield key

    def _from(self, statement: Any) -> list[Row]:  # noqa: ANN401  # as above
        if not statement.get_final_froms():
            return [{}]
        return [self._see(key) for key in self._matching(statement)]

    async def _select(self, statement: Any, row: Row) -> Row:  # noqa: ANN401  # as above
        answer: Row = {}
        for number, column in enumerate(statement.selected_columns):
            if getattr(column, "name", "") == "pg_advisory_xact_lock":
                (key,) = column.clauses
                await self._lock(_value(next(iter(key.clauses)), row))
            else:
                name = column.name if isinstance(column, Column) else str(number)
                answer[name] = _value(column, row)
        return answer or {"0": None}

    async def _update(self, statement: Any) -> list[Row]:  # noqa: ANN401  # as above
        answer: list[Row] = []
        for key in list(self._matching(statement)):
            await self._lock(key)
            row = self._see(key)
            if all(_value(c, row) for c in statement._where_criteria):
                self.written[key] = row | _assigned(statement, row)
                answer.append({c.name: row[c.name] for c in statement._returning})
        return answer


def _assigned(statement: Any, row: Row) -> Row:  # noqa: ANN401  # an insert or an update
    return {
        getattr(column, "name", column): _value(value, row)
        for column, value in statement._values.items()
    }


_OPERATORS = {
    operators.eq: operator.eq,
    operators.is_: operator.is_,
    operators.is_not: operator.is_not,
    operators.gt: operator.gt,
    operators.lt: operator.lt,
    operators.add: operator.add,
}


def _value(expression: Any, row: Row) -> Any:  # noqa: ANN401  # SQL is as untyped as this
    match expression:
        case Column():
            return row.get(expression.name)
        case BindParameter():
            return expression.value
        case Null():
            return None
        case BooleanClauseList():
            return all(_value(each, row) for each in expression.clauses)
        case Cast():
            return _value(expression.clause, row)
        case Grouping():
            return _value(expression.element, row)
        case FunctionElement():
            return _NOW
        case ColumnElement():
            binary: Any = expression
            left, right = _value(binary.left, row), _value(binary.right, row)
            return _OPERATORS[binary.operator](left, right)
        case _:
            raise AssertionError(expression)
