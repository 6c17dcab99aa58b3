"""Locks: of files, in Redis with leases and fencing, in Postgres; for one or for readers."""

from test_framework.battery.locks.files import FileLock
from test_framework.battery.locks.lock import Lease, Mutex, ReadWriteLock
from test_framework.battery.locks.postgres import PostgresAdvisoryLock
from test_framework.battery.locks.redis import RedisLease

__all__ = [
    "FileLock",
    "Lease",
    "Mutex",
    "PostgresAdvisoryLock",
    "ReadWriteLock",
    "RedisLease",
]
