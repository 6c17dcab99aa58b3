"""Registers: in memory, in Redis, and in Postgres at each isolation level."""

from test_framework.battery.registers.memory import (
    AsyncioLockedRegisters,
    AsyncioRegisters,
    ProcessLockedRegisters,
    ProcessRegisters,
    ThreadRegisters,
)
from test_framework.battery.registers.postgres import PostgresRegisters
from test_framework.battery.registers.redis import RedisMultiRegisters, RedisRegisters
from test_framework.battery.registers.register import (
    BatchRegisters,
    BatchStep,
    Registers,
    TransactionalRegisters,
)

__all__ = [
    "AsyncioLockedRegisters",
    "AsyncioRegisters",
    "BatchRegisters",
    "BatchStep",
    "PostgresRegisters",
    "ProcessLockedRegisters",
    "ProcessRegisters",
    "RedisMultiRegisters",
    "RedisRegisters",
    "Registers",
    "ThreadRegisters",
    "TransactionalRegisters",
]
