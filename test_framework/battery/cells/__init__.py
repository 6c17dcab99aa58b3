"""Cells: a number that many change at once, in this process, in Redis and in Postgres."""

from test_framework.battery.cells.cell import Cell
from test_framework.battery.cells.memory import AsyncioCell, ProcessCell, ThreadCell
from test_framework.battery.cells.postgres import (
    PostgresCell,
    PostgresLockedCell,
    PostgresSerializableCell,
    PostgresVersionedCell,
)
from test_framework.battery.cells.redis import (
    RedisCell,
    RedisScriptCell,
    RedisWatchCell,
)

__all__ = [
    "AsyncioCell",
    "Cell",
    "PostgresCell",
    "PostgresLockedCell",
    "PostgresSerializableCell",
    "PostgresVersionedCell",
    "ProcessCell",
    "RedisCell",
    "RedisScriptCell",
    "RedisWatchCell",
    "ThreadCell",
]
