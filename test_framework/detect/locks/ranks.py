"""Declares in which order locks of one class are taken."""

import weakref
from typing import Any, TypeVar

from test_framework.detect.locks.ledger import ATTRIBUTE

LockType = TypeVar("LockType")

_ranks: "weakref.WeakKeyDictionary[Any, Any]" = weakref.WeakKeyDictionary()


def ordered(lock: LockType, key: Any) -> LockType:  # anything that sorts
    """Declare the rank of a lock among those of its class.

    While a watch is on, taking a lower rank under a higher one is an alarm from the
    first time on, and several locks of the class may be held without a note::

        locks[user] = ordered(asyncio.Lock(), user)

    Args:
        lock: A lock or semaphore.
        key: Its rank; ranks of one class must be comparable.

    Returns:
        The lock itself, unchanged.
    """
    _ranks[lock] = key
    resource = getattr(lock, ATTRIBUTE, None)
    if resource is not None:
        resource.key = key
    return lock


def rank_of(lock: Any) -> Any:  # anything that sorts
    """Return the declared rank of a lock; None when there is none."""
    return _ranks.get(lock) if _ranks else None
