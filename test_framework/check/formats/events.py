"""From events, as Jepsen writes them, to calls or transactions.

An event is a map: its ``type`` is ``invoke`` or how the operation ended (``ok``,
``fail``: it did not happen, ``info``: nobody knows), its ``process`` does one
operation at a time, ``f`` and ``value`` say what it did. The order of the events is
the order of time, as in Jepsen; their ``time``, if they have one, must only not run
backwards within an operation.

Transactions are told by their values: sequences of ``[f key value]`` with ``append``,
``w`` and ``r``. Events of ``nemesis``, and those of type ``info`` of a process that
invokes nothing, say nothing about objects and are left out.

Source: https://github.com/jepsen-io/jepsen/blob/main/doc/tutorial/05-checker.md and the
histories of Elle and elle-cli.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from test_framework.check.linear import Call
from test_framework.check.transactions import LogBuilder, Status, TransactionLog

Event = Mapping[str, Any]

_TYPES: Final = ("invoke", "ok", "fail", "info")
_WORDS: Final = {
    "append": "append",
    "w": "w",
    "write": "w",
    "r": "r",
    "read": "r",
    "scan": "scan",
    "rp": "scan",
    "absent": "absent",
}
_STATUS: Final = {"ok": Status.OK, "fail": Status.FAIL, "info": Status.INFO}
_MICRO: Final = 3
NEMESIS: Final = "nemesis"
"""The process that injects faults."""

_MOST_SHOWN: Final = 80


class HistoryError(ValueError):
    """Raised when events make no history.

    Attributes:
        place: Of the event that is wrong, as it was given.
        problem: What is wrong and what to do, in whole sentences.
    """

    def __init__(self, place: int, problem: str) -> None:
        super().__init__(problem)
        self.place, self.problem = place, problem


@dataclass(slots=True)
class _Operation:
    """An invocation and, once it came, its completion; numbers count all events."""

    place: int
    number: int
    invocation: Event
    ended: int | None = None
    completion: Event | None = None

    @property
    def type(self) -> str:
        return "info" if self.completion is None else str(self.completion["type"])


def read_events(
    events: Iterable[tuple[int, Any]], *, failed_cas_is_false: bool = False
) -> list[Call] | TransactionLog:
    """Pair events and return what they tell of.

    Args:
        events: Each with its place in the source, in order of time.
        failed_cas_is_false: Whether a ``cas`` that failed found another value, as in
            the logs of Porcupine, or did not happen, as everywhere else.

    Returns:
        Calls if the history is one of single objects, by invocation; a log if it is one
        of transactions, by completion.

    Raises:
        HistoryError: They are no history.
    """
    operations = _paired(events)
    if not operations:
        message = "It holds no operation. Pass a history that recorded some."
        raise HistoryError(-1, message)
    transactions = [_is_transaction(each) for each in operations]
    if all(transactions):
        return _logged(operations)
    if any(transactions):
        odd = operations[transactions.index(False)]
        message = (
            "This operation is no transaction, but others of the same history are. "
            "Keep the two in histories of their own."
        )
        raise HistoryError(odd.place, message)
    return _called(operations, failed_cas_is_false=failed_cas_is_false)


def _paired(events: Iterable[tuple[int, Any]]) -> list[_Operation]:
    operations: list[_Operation] = []
    pending: dict[Hashable, _Operation] = {}
    last_index = None
    for number, (place, event) in enumerate(events):
        kind = _require_event(place, event)
        index = event.get("index")
        if isinstance(index, int):
            if last_index is not None and index <= last_index:
                message = (
                    f"Index {index} comes after index {last_index}, so the history is "
                    "not in order or stands there twice. Sort it by index and keep "
                    "each event once."
                )
                raise HistoryError(place, message)
            last_index = index
        process = event.get("process")
        if process == NEMESIS:
            continue
        open_one = pending.pop(process, None)
        if kind == "invoke":
            if open_one is not None:
                message = (
                    f"Process {process!r} invokes an operation while an earlier one is "
                    "still open. Give each concurrent caller a process of its own, and "
                    "write how every operation ended."
                )
                raise HistoryError(place, message)
            one = _Operation(place, number, event)
            operations.append(one)
            pending[process] = one
        elif open_one is not None:
            _require_order(place, open_one.invocation, event)
            open_one.ended, open_one.completion = number, event
        elif kind != "info":
            message = (
                f"Process {process!r} completes an operation that it did not invoke. "
                "Write an event of type 'invoke' before each completion."
            )
            raise HistoryError(place, message)
    return operations


def _require_event(place: int, event: object) -> str:
    if not isinstance(event, Mapping):
        message = (
            f"{event!r:.{_MOST_SHOWN}} is no event. Each must be a map with type, "
            "process, f and value."
        )
        raise HistoryError(place, message)
    kind = event.get("type")
    if kind not in _TYPES:
        message = (
            f"Its type is {kind!r:.{_MOST_SHOWN}}, not one of {', '.join(_TYPES)}."
        )
        raise HistoryError(place, message)
    if not isinstance(event.get("process"), Hashable):
        message = f"Its process is {event['process']!r:.{_MOST_SHOWN}}, not a number."
        raise HistoryError(place, message)
    return str(kind)


def _require_order(place: int, invocation: Event, completion: Event) -> None:
    begin, end = invocation.get("time"), completion.get("time")
    if isinstance(begin, int) and isinstance(end, int) and end < begin:
        message = (
            f"It completes at {end}, before it was invoked at {begin}. Record both on "
            "one monotonic clock."
        )
        raise HistoryError(place, message)
    asked, answered = invocation.get("f"), completion.get("f")
    if answered is not None and answered != asked:
        message = (
            f"It completes {answered!r}, but its process invoked {asked!r}. Give each "
            "concurrent caller a process of its own."
        )
        raise HistoryError(place, message)


def _is_transaction(operation: _Operation) -> bool:
    invocation = operation.invocation
    if invocation.get("f") == "txn":
        return True
    value = invocation.get("value")
    return (
        "f" not in invocation
        and isinstance(value, Sequence)
        and not isinstance(value, str)
    )


def _logged(operations: list[_Operation]) -> TransactionLog:
    builder = LogBuilder()
    contents = [_micros(one) for one in operations]
    has_lists = any(word == "append" for own in contents for word, _, _ in own)
    endings = sorted(
        zip(operations, contents, strict=True),
        key=lambda pair: pair[0].number if pair[0].ended is None else pair[0].ended,
    )
    for one, own in endings:
        status = _STATUS[one.type]
        if has_lists and status is Status.OK:
            # Nothing was read: the list is empty, and not of unknown length.
            own = [  # noqa: PLW2901  # the same, complete
                (word, key, () if word == "r" and value is None else value)
                for word, key, value in own
            ]
        user = one.invocation.get("user")
        builder.add(
            one.invocation.get("process"),
            own,
            status=status,
            invoked=one.number,
            completed=one.ended,
            user=user if isinstance(user, int) else None,
            index=one.number if one.ended is None else one.ended,
        )
    return builder.build()


def _micros(operation: _Operation) -> list[tuple[str, Hashable, Any]]:
    """Return what a transaction did: as it was answered if it was, else as asked."""
    event = operation.invocation
    if operation.type == "ok" and operation.completion is not None:
        event = operation.completion
    value = event.get("value")
    if not isinstance(value, list | tuple):
        message = (
            f"Its value is {value!r:.{_MOST_SHOWN}}, not a list of operations such as "
            "[append x 1] and [r x [1]]."
        )
        raise HistoryError(operation.place, message)
    micros = []
    for micro in value:
        is_whole = isinstance(micro, list | tuple) and len(micro) == _MICRO
        word = micro[0] if is_whole else None
        if not isinstance(word, str) or word not in _WORDS:
            message = (
                f"{micro!r:.{_MOST_SHOWN}} is no operation of a transaction. Known are "
                "[append key value], [w key value], [r key value] and [scan scope "
                "lists-by-key]."
            )
            raise HistoryError(operation.place, message)
        micros.append((_WORDS[word], frozen(micro[1]), frozen(micro[2])))
    return micros


def _called(operations: list[_Operation], *, failed_cas_is_false: bool) -> list[Call]:
    are_keyed = _are_keyed(operations)
    calls = []
    for one in operations:
        invocation, completion = one.invocation, one.completion
        kind, is_known = invocation.get("f"), one.type == "ok"
        if not isinstance(kind, str):
            message = f"Its f is {kind!r:.{_MOST_SHOWN}}, not the name of an operation."
            raise HistoryError(one.place, message)
        has_failed_cas = failed_cas_is_false and kind == "cas" and one.type == "fail"
        if one.type == "fail" and not has_failed_cas:
            continue  # it did not happen
        argument = invocation.get("value")
        result = completion.get("value") if is_known and completion else None
        key = invocation.get("key")
        if are_keyed:
            key, argument = invocation["value"]
            result = result[1] if result is not None and _is_pair(result) else result
        if kind == "cas":
            result = None if one.type == "info" else is_known
        calls.append(
            Call(
                process=invocation.get("process"),
                kind=kind,
                argument=frozen(argument),
                result=frozen(result),
                invoked=one.number,
                completed=one.ended if is_known or has_failed_cas else None,
                key=frozen(key),
                index=one.number,
            )
        )
    return calls


def _are_keyed(operations: list[_Operation]) -> bool:
    """Whether values are pairs of a key and the value itself (``jepsen.independent``).

    A read is asked with nothing, so a read that is asked with a pair tells.
    """
    are_pairs = all(_is_pair(one.invocation.get("value")) for one in operations)
    return are_pairs and any(one.invocation.get("f") == "read" for one in operations)


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == len(("key", "value"))


def frozen(value: Any) -> Any:  # noqa: ANN401  # any value of JSON or EDN
    """Return a value as one that can be a key, a state or a number in a table."""
    if isinstance(value, list | tuple):
        return tuple(frozen(one) for one in value)
    if isinstance(value, Mapping):
        return frozenset((key, frozen(one)) for key, one in value.items())
    return value
