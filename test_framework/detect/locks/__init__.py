"""The deadlock watcher: who holds what, who waits for whom, in which order.

Always on in tests and cheap enough for production: an acquire that nobody contends
costs about a microsecond more. It sees

* tasks that wait for each other, at the moment the circle closes;
* orders of locks that could deadlock, also when no two tasks ever met;
* a lock that its holder forgot, a stranger released, or an await kept for long.

It patches asyncio by name and imports nothing else, so it is of use in any process.
"""

from test_framework.detect.locks.ranks import ordered
from test_framework.detect.locks.watcher import OWN_THREADS, DeadlockWatcher

__all__ = ["OWN_THREADS", "DeadlockWatcher", "ordered"]
