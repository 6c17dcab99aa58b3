"""Redis, reached only through a user's own keyspace."""

from app.cache.keyspace import UserKeyspace, user_prefix
from app.cache.lease import Lease
from app.cache.pool import connect

__all__ = ["Lease", "UserKeyspace", "connect", "user_prefix"]
