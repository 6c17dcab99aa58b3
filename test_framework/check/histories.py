"""Judges a history of any kind: calls on objects, or transactions on lists or registers.

What is demanded decides the checker. Left open, it is what a single copy of the data
would show: linearizability of the objects that the calls are known from, strict
serializability of lists with times and serializability of everything else.
"""

from collections.abc import Collection, Sequence

import numpy as np

from test_framework.check.linear import MODELS as OBJECTS
from test_framework.check.linear import Call, Limits, check_linearizability, guess_model
from test_framework.check.transactions import (
    MODELS as LEVELS,
)
from test_framework.check.transactions import (
    Kind,
    TransactionLog,
    check_list_append,
    check_registers,
)
from test_framework.check.transactions.black_box import check_black_box
from test_framework.check.transactions.weak import IsolationLevel
from test_framework.check.witness import Checked
from test_framework.core import UsageError

BLACK_BOX = tuple(str(level) for level in IsolationLevel)
"""Levels of histories of registers, the weakest first."""


def check_history(
    history: Sequence[Call] | TransactionLog,
    model: str | None = None,
    *,
    limits: Limits | None = None,
) -> Checked:
    """Judge a history by what is demanded of it.

    Args:
        history: As ``formats.read_history`` returns it.
        model: An object such as ``cas-register`` for calls, an isolation level such as
            ``snapshot-isolation`` for transactions; by default see above.
        limits: Time and memory of what may take long.

    Raises:
        UsageError: The model is not known, or judges histories of another kind.
    """
    if not isinstance(history, TransactionLog):
        return _check_calls(history, model, limits)
    kinds = set(np.unique(history.kind).tolist())
    if kinds & {Kind.APPEND, Kind.READ_LIST}:
        _require(model, LEVELS, "transactions on lists", (OBJECTS, BLACK_BOX))
        timed = len(np.unique(history.invoked)) > 1
        open_model = "strict-serializable" if timed else "serializable"
        return check_list_append(history, model or open_model)
    known = (*BLACK_BOX, *(one for one in LEVELS if one not in BLACK_BOX))
    _require(model, known, "transactions on registers", (OBJECTS,))
    if model is not None and model not in BLACK_BOX:
        return check_registers(history, model)
    level = IsolationLevel(model) if model is not None else IsolationLevel.SERIALIZABLE
    return check_black_box(history, level, limits=limits)


def _check_calls(
    calls: Sequence[Call], model: str | None, limits: Limits | None
) -> Checked:
    _require(model, OBJECTS, "calls on objects", (LEVELS, BLACK_BOX))
    name = guess_model(calls) if model is None else model
    return check_linearizability(calls, OBJECTS[name](), limits=limits)


def _require(
    model: str | None,
    known: Collection[str],
    of: str,
    others: tuple[Collection[str], ...],
) -> None:
    if model is None or model in known:
        return
    is_other = any(model in other for other in others)
    what = "judges histories of another kind" if is_other else "is not known"
    message = (
        f"--model {model}: it {what}. This one holds {of}; choose one of "
        f"{', '.join(known)}."
    )
    raise UsageError(message)
