"""What ``pytest --isolation-matrix`` adds: a test for each cell of the matrix.

The scenarios are played once, when the first of these tests runs; each test then says
what became of its cell, so a report names the anomaly and the level.
"""

import asyncio
import concurrent.futures
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from test_framework.battery.isolation import (
    SCENARIOS,
    Matrix,
    PostgresLevel,
    load_sessions,
    run_matrix,
    run_sessions_matrix,
)
from test_framework.core import IsolationError, TargetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

PLAY_S = 120.0
"""All cells take a second or two; a database that needs longer than this is stuck."""


class Playing:
    """Plays the matrix once, in a thread: the loop of pytest belongs to others."""

    def __init__(self, dsn: str, sessions: str | None, level: str | None) -> None:
        self._dsn = dsn
        self._sessions = sessions
        self.level = None if level is None else _level(level)
        self._found: Matrix | IsolationError | None = None

    @property
    def levels(self) -> tuple[PostgresLevel | None, ...]:
        """Levels to play; None stands for that of the service's sessions."""
        if self._sessions is not None or self.level is not None:
            return (self.level,)
        return tuple(PostgresLevel)

    @property
    def is_of_sessions(self) -> bool:
        """Whether sessions of a service are played through."""
        return self._sessions is not None

    def result(self) -> Matrix:
        """Return the matrix; the first time it is played.

        Raises:
            IsolationError: It could not be played.
        """
        if self._found is None:
            with concurrent.futures.ThreadPoolExecutor(1) as thread:
                try:
                    played = thread.submit(asyncio.run, self._bounded())
                    self._found = played.result()
                except IsolationError as exc:
                    self._found = exc
        if isinstance(self._found, IsolationError):
            raise self._found
        return self._found

    async def _bounded(self) -> Matrix:
        try:
            async with asyncio.timeout(PLAY_S):
                return await self._play()
        except TimeoutError as exc:
            message = (
                f"The matrix was not played within {PLAY_S:g} s. See what holds up the "
                "database or the sessions of the service."
            )
            raise TargetError(message) from exc

    def _play(self) -> "Coroutine[Any, Any, Matrix]":
        if self._sessions is not None:
            factory = load_sessions(self._sessions)
            return run_sessions_matrix(factory, self._dsn, self.level)
        levels = [level for level in self.levels if level is not None]
        return run_matrix(self._dsn, levels)


class CellItem(pytest.Item):
    """The test of one cell, or of the sessions when ``anomaly`` is empty."""

    playing: Playing
    level: PostgresLevel | None
    anomaly: str

    def runtest(self) -> None:
        """Fail if the cell shows what its level forbids."""
        problem = ""
        try:
            problem = self._problem(self.playing.result())
        except IsolationError as exc:
            problem = str(exc)
        if problem:
            pytest.fail(problem, pytrace=False)

    def _problem(self, found: Matrix) -> str:
        if not self.anomaly:
            return "\n".join(found.problems)
        for cell in found.cells:
            is_ours = self.level is None or cell.level is self.level
            if is_ours and cell.scenario.id == self.anomaly and cell.is_broken:
                return (
                    f"{cell.level.upper()} let {self.anomaly} happen: "
                    f"{cell.scenario.claim} {cell.scenario.cure}"
                )
        return ""

    def reportinfo(self) -> tuple[str, None, str]:
        """Return how pytest calls it."""
        return "isolation-matrix", None, self.name


def matrix_items(session: pytest.Session, playing: Playing) -> Iterator[CellItem]:
    """Yield the tests of all cells."""
    if playing.is_of_sessions:
        yield _item(session, playing, "sessions", None, "")
    for level in playing.levels:
        for scenario in SCENARIOS:
            name = f"{level or 'sessions'}-{scenario.id}".replace(" ", "-")
            yield _item(session, playing, name, level, scenario.id)


def _item(
    session: pytest.Session,
    playing: Playing,
    name: str,
    level: PostgresLevel | None,
    anomaly: str,
) -> CellItem:
    item: CellItem = CellItem.from_parent(session, name=f"isolation-matrix[{name}]")
    item.playing, item.level, item.anomaly = playing, level, anomaly
    return item


def _level(name: str) -> PostgresLevel:
    try:
        return PostgresLevel(name.replace("-", " ").lower())
    except ValueError as exc:
        message = (
            f"--isolation-level={name!r} is no level of Postgres. Choose one of: "
            f"{', '.join(PostgresLevel)}."
        )
        raise UsageError(message) from exc
