"""Refusals under every order: whoever is cancelled while writing, none is forgotten."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import pytest
from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql

from app.security import Refusals
from app.storage import SessionFactory, write_refusals
from test_framework.explore import Report, Scenario, explore, external
from tests.unit.app.exploring import USERS_ALONE, assert_found

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

_USERS = 3
_POSTGRES: Dialect = cast("Any", postgresql.dialect)()

Write = Callable[[SessionFactory, Refusals], Awaitable[None]]


class _Table(SessionFactory):
    """The table of refusals: what is committed, by source."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def for_auth(self) -> "AsyncIterator[AsyncSession]":
        """Open a transaction, which has committed before its answer comes."""
        session = _Session()
        yield cast("AsyncSession", session)
        self.refused += session.added
        await external("COMMIT")


class _Session:
    def __init__(self) -> None:
        self.added: Counter[str] = Counter()

    async def execute(self, statement: Any) -> None:  # noqa: ANN401  # an insert of many rows
        values = statement.compile(dialect=_POSTGRES).params
        await external("INSERT")
        for name, count in values.items():
            if name.startswith("refused_m"):
                row = name.removeprefix("refused_m")
                self.added[values[f"source_m{row}"]] += count


class _Worker:
    """One process: it refuses, and several tasks write what was refused."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._refusals = Refusals()
        self._table = _Table()

    async def refuse_and_write(self, number: int) -> None:
        """Refuse somebody and write all refusals so far."""
        self._refusals.note("forged", str(number))
        await self._write(self._table, self._refusals)

    def check(self) -> None:
        """Check that each refusal is counted, in the table or still in the process."""
        kept = self._refusals.take()
        counted = self._table.refused + Counter(
            {refusal.source: count for refusal, count in kept.items()}
        )
        missing = {str(n) for n in range(_USERS)} - counted.keys()
        assert not missing, f"refusals of {sorted(missing)} are forgotten"


def _explored(write: Write) -> Report:
    scenario = Scenario(
        lambda: _Worker(write),
        _Worker.refuse_and_write,
        _Worker.check,
        users=_USERS,
    )
    return explore(
        scenario,
        fidelity="await",
        cancel=USERS_ALONE,
        schedules=300,
        budget="90s",
        seed=1,
    )


def test_cancelled_writers_forget_nothing() -> None:
    """Who is cancelled in mid-write puts back what may not have been written."""
    report = _explored(write_refusals)

    assert report.witness is None, report.text()


@pytest.mark.power
def test_writer_that_keeps_what_it_took_is_found() -> None:
    """The twin takes the counts and loses them when it is cancelled."""

    class _Taken(Refusals):
        def put_back(self, taken: object) -> None:
            del taken

    async def write(sessions: SessionFactory, refusals: Refusals) -> None:
        taken = _Taken()
        for refusal, count in refusals.take().items():
            for _ in range(count):
                taken.note(refusal.reason, refusal.source)
        await write_refusals(sessions, taken)

    assert_found(_explored(write), "assertion", "forgotten")
