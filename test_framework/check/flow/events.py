"""Reads and writes of users in columns, of calls or of transactions alike."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from test_framework.check.linear import Call, CallLog
from test_framework.check.linear.columns import Ints, Mask
from test_framework.check.transactions import (
    NOTHING,
    Kind,
    Status,
    Transaction,
    TransactionLog,
)
from test_framework.check.witness import Item

_WRITES = ("write", "put", "append", "add", "enqueue")
_READS = ("read", "get", "dequeue")


@dataclass(frozen=True, slots=True)
class Events:
    """What was written and read, by whom.

    Attributes:
        user: Number of the user of each step; a step is a call or a transaction.
        write_step: Step of each write; shape ``(w,)``.
        write_key: Number of its key; ``(w,)``.
        write_value: Number of its value; ``(w,)``.
        read_step: Step of each value that was read; ``(r,)``.
        read_key: Number of its key; ``(r,)``.
        read_value: Number of its value; ``(r,)``.
        users: Names by number.
        keys: Names by number.
        values: Values by number.
        item: Returns a step as the item of a witness, under a label.
    """

    user: Ints
    write_step: Ints
    write_key: Ints
    write_value: Ints
    read_step: Ints
    read_key: Ints
    read_value: Ints
    users: Sequence[Hashable]
    keys: Sequence[Hashable]
    values: Sequence[Hashable]
    item: Callable[[int, str], Item]


def events_of(history: Iterable[Call] | CallLog | TransactionLog) -> Events:
    """Return what a history tells of who wrote and read what.

    The user of a call is its process; that of a transaction is its user, or its
    session where it has none. What failed wrote nothing; what is of unknown outcome
    wrote, perhaps, and read nothing.
    """
    if isinstance(history, TransactionLog):
        return _of_transactions(history)
    return _of_calls(history if isinstance(history, CallLog) else CallLog.of(history))


def _of_calls(log: CallLog) -> Events:
    write = np.zeros(len(log), dtype=np.bool_)
    read = np.zeros(len(log), dtype=np.bool_)
    for kind in _WRITES:
        write |= log.where(kind)
    for kind in _READS:
        read |= log.where(kind) & log.is_known
    writes = np.flatnonzero(write & (log.argument >= 0))
    reads = np.flatnonzero(read & (log.result >= 0))

    def item(step: int, label: str) -> Item:
        call = log.read(step)
        return Item(
            label=label,
            lane=str(call.process),
            text=str(call),
            begin=call.invoked,
            end=call.completed,
            index=call.index,
        )

    return Events(
        user=log.process,
        write_step=writes,
        write_key=log.key[writes],
        write_value=log.argument[writes],
        read_step=reads,
        read_key=log.key[reads],
        read_value=log.result[reads],
        users=log.processes,
        keys=log.keys,
        values=log.values,
        item=item,
    )


def _of_transactions(log: TransactionLog) -> Events:
    has_user: Mask = log.user != NOTHING
    numbers, user = np.unique(
        np.where(has_user, log.user, -2 - log.session), return_inverse=True
    )
    users = [
        int(number) if number >= 0 else log.sessions[-2 - int(number)]
        for number in numbers
    ]
    status, kind = log.status[log.transaction], log.kind
    is_write = np.isin(kind, (Kind.APPEND, Kind.WRITE)) & (status != Status.FAIL)
    writes = np.flatnonzero(is_write & (log.value >= 0))
    single = np.flatnonzero(
        (kind == Kind.READ) & (status == Status.OK) & (log.value >= 0)
    )
    lists = np.flatnonzero(
        (kind == Kind.READ_LIST) & (status == Status.OK) & (log.count > 0)
    )
    count = log.count[lists]
    # The places in ``elements`` of all lists that were read, one after the other.
    ends = np.cumsum(count)
    within = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(
        ends - count, count
    )
    places = np.repeat(log.start[lists], count) + within
    return Events(
        user=user,
        write_step=log.transaction[writes],
        write_key=log.key[writes],
        write_value=log.value[writes],
        read_step=np.concatenate(
            (log.transaction[single], np.repeat(log.transaction[lists], count))
        ),
        read_key=np.concatenate((log.key[single], np.repeat(log.key[lists], count))),
        read_value=np.concatenate((log.value[single], log.elements[places])),
        users=users,
        keys=log.keys,
        values=log.values,
        item=lambda step, label: _transaction_item(log.read(step), label),
    )


def _transaction_item(one: Transaction, label: str) -> Item:
    text = ", ".join(f"{word} {key!r} {value!r}" for word, key, value in one.operations)
    return Item(
        label=label,
        lane=str(one.session),
        text=text,
        begin=one.invoked,
        end=one.completed,
        index=one.index,
        user=one.user,
    )
