"""Judges a history of any kind: calls on objects, or transactions on lists or registers.

What is demanded decides the checker. Left open, it is what a single copy of the data
would show: linearizability of the objects that the calls are known from, strict
serializability of lists with times and serializability of everything else.
"""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from test_framework.check.flow import FlowPolicy, check_flow
from test_framework.check.linear import MODELS as OBJECTS
from test_framework.check.linear import Call, Limits, check_linearizability, guess_model
from test_framework.check.sessions import check_sessions
from test_framework.check.transactions import (
    LISTS,
    TransactionLog,
    check_list_append,
    check_registers,
)
from test_framework.check.transactions import (
    MODELS as LEVELS,
)
from test_framework.check.transactions.black_box import check_black_box
from test_framework.check.transactions.weak import IsolationLevel
from test_framework.check.witness import Checked
from test_framework.core import UsageError, Verdict

BLACK_BOX = tuple(str(level) for level in IsolationLevel)
"""Levels of histories of registers, the weakest first."""

FLOW = "non-interference"
SESSIONS = "session-guarantees"


_WITHOUT_ANSWERS = frozenset({"mutex", "lease"})
"""Objects whose calls prove something by being possible at all."""

_ANSWERED = frozenset({"cas", "contains", "dequeue", "increment", "remove"})
"""Calls beside reads that return what they found; a write is only echoed."""


def check_history(
    history: Sequence[Call] | TransactionLog,
    model: str | None = None,
    *,
    limits: Limits | None = None,
    policy: FlowPolicy | None = None,
) -> Checked:
    """Judge a history by what is demanded of it.

    Args:
        history: As ``formats.read_history`` returns it.
        model: An object such as ``cas-register`` for calls, an isolation level such as
            ``snapshot-isolation`` for transactions; ``non-interference`` (nothing flows
            between users) for both, ``session-guarantees`` for calls that read and
            write versions; by default see above.
        limits: Time and memory of what may take long.
        policy: What may flow between users all the same.

    Raises:
        UsageError: The model is not known, or judges histories of another kind.
    """
    if policy is not None and model != FLOW:
        message = f"A policy says what may flow between users: pass --model {FLOW}."
        raise UsageError(message)
    if model == FLOW:
        return check_flow(history, policy)
    if not isinstance(history, TransactionLog):
        return _check_calls(history, model, limits)
    kinds = set(np.unique(history.kind).tolist())
    if not kinds.isdisjoint(LISTS):
        _require(model, (FLOW, *LEVELS), "transactions on lists", (OBJECTS, BLACK_BOX))
        timed = len(np.unique(history.invoked)) > 1
        open_model = "strict-serializable" if timed else "serializable"
        return check_list_append(history, model or open_model)
    known = (FLOW, *BLACK_BOX, *(one for one in LEVELS if one not in BLACK_BOX))
    _require(model, known, "transactions on registers", (OBJECTS,))
    if model is not None and model not in BLACK_BOX:
        return check_registers(history, model)
    level = IsolationLevel(model) if model is not None else IsolationLevel.SERIALIZABLE
    return check_black_box(history, level, limits=limits)


def _check_calls(
    calls: Sequence[Call], model: str | None, limits: Limits | None
) -> Checked:
    if model == SESSIONS:
        return check_sessions(calls)
    known = (*OBJECTS, SESSIONS, FLOW)
    _require(model, known, "calls on objects", (LEVELS, BLACK_BOX))
    if not calls:
        reason = "No operation took effect, so nothing is proved. Record some that did."
        return Checked(
            "linearizability", model or "any object", Verdict.UNKNOWN, reason
        )
    name = guess_model(calls) if model is None else model
    made = OBJECTS[name]()
    calls = [_as_meant(call) for call in calls if not _is_refused(call)]
    checked = check_linearizability(calls, made, limits=limits)
    if checked.verdict is not Verdict.VALID or name in _WITHOUT_ANSWERS:
        return checked
    if any(c.is_known and (c.kind in _ANSWERED or made.is_read(c)) for c in calls):
        return checked
    reason = "No call returned anything that could be wrong. Record reads as well."
    return dataclasses.replace(checked, verdict=Verdict.UNKNOWN, reason=reason)


def _is_refused(call: Call) -> bool:
    """Whether it is an attempt at a lock that says it did not get it."""
    return call.kind == "acquire" and call.result is False


def _as_meant(call: Call) -> Call:
    """Return a call with its answer as the models know it.

    Raises:
        UsageError: An answer of yes or no is neither.
    """
    if call.kind == "get" and call.is_known and call.result is None:
        return dataclasses.replace(call, result="")  # what stores say of an absent key
    if call.kind == "contains" and call.is_known and type(call.result) is not bool:
        message = (
            f"Call {call.index} ({call}) is a contains that returned {call.result!r:.60}. "
            "Record true or false."
        )
        raise UsageError(message)
    return call


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
