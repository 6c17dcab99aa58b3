"""A transaction log made at once of columns of numbers, as binary formats hold them.

``LogBuilder`` takes any names one operation at a time; this takes millions of operations
on registers whose sessions, keys and values are integers, at the speed of numpy.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from test_framework.check.transactions.log import (
    FOREVER,
    NOTHING,
    Ints,
    Kind,
    Status,
    TransactionLog,
)


def log_of_columns(
    *,
    session: npt.ArrayLike,
    sizes: npt.ArrayLike,
    is_write: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    is_initial: npt.ArrayLike | None = None,
    status: npt.ArrayLike | None = None,
) -> TransactionLog:
    """Return the log of transactions on registers that are given in columns.

    The transactions of a session stand in its program order. None has a time, so all
    sessions count as concurrent.

    Args:
        session: Name of the session of each transaction; shape ``(n,)``.
        sizes: Operations of each transaction, in order; ``(n,)``, sum ``m``.
        is_write: Whether an operation writes; ``(m,)``.
        key: What it is on; ``(m,)``.
        value: What it wrote or read; ``(m,)``.
        is_initial: Whether a read found the key as nobody had written it; ``(m,)``.
        status: A ``Status`` for each transaction; all ``OK`` without.
    """
    count = np.asarray(sizes, dtype=np.int64)
    transactions, operations = len(count), int(count.sum())
    sessions, session_of = _numbered(session)
    keys, key_of = _numbered(key)
    values, value_of = _numbered(value)
    writes = np.asarray(is_write, dtype=bool)
    if is_initial is not None:
        value_of[np.asarray(is_initial, dtype=bool) & ~writes] = NOTHING
    nothing = np.zeros(operations, dtype=np.int64)
    return TransactionLog(
        session=session_of,
        user=np.full(transactions, NOTHING, dtype=np.int64),
        status=np.full(transactions, Status.OK, dtype=np.int64)
        if status is None
        else np.asarray(status, dtype=np.int64),
        invoked=np.zeros(transactions, dtype=np.int64),
        completed=np.full(transactions, FOREVER, dtype=np.int64),
        index=np.arange(transactions, dtype=np.int64),
        first=np.concatenate(([0], np.cumsum(count))),
        transaction=np.repeat(np.arange(transactions, dtype=np.int64), count),
        kind=np.where(writes, int(Kind.WRITE), int(Kind.READ)).astype(np.int64),
        key=key_of,
        value=value_of,
        start=nothing,
        count=nothing,
        elements=np.zeros(0, dtype=np.int64),
        sessions=sessions,
        keys=keys,
        values=values,
    )


def never_written(
    is_write: npt.NDArray[np.bool_],
    key: npt.NDArray[Any],
    value: npt.NDArray[Any],
    initial: int,
) -> npt.NDArray[np.bool_]:
    """Tell which reads found the initial value, where a format writes it as a number.

    Some histories hold a first transaction that writes ``initial`` to its keys; then a
    read of it has a writer like any other.
    """
    is_zero = value == initial
    explicit = np.unique(key[is_zero & is_write])
    return np.asarray(is_zero & ~is_write & ~np.isin(key, explicit))


def _numbered(names: npt.ArrayLike) -> tuple[tuple[int, ...], Ints]:
    """Return the distinct names, and the number of each."""
    table, numbers = np.unique(np.asarray(names), return_inverse=True)
    return tuple(table.tolist()), numbers.reshape(-1).astype(np.int64)
