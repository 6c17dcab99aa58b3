"""Objects that the workload called: did each answer as if calls came one at a time?

A workload says what it does to an object of the service and what it was answered
(``user.calling``). A list whose items are unique shows the order of its appends in every
read, so it is judged in linear time as Elle judges transactions of one operation (strict
serializability of those is linearizability). The checkers load numpy, which only runs
with such calls need.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence

from test_framework.check.sighting import Sighting
from test_framework.check.witness import Anomaly, Checked, Mark
from test_framework.core import CallRecord, FaultRecord, History, Verdict

LIST = "list"
"""The kind of object that is judged as transactions of one operation."""


def check_objects(history: History) -> tuple[Checked, ...]:
    """Judge all objects of each kind that were called, one answer for each kind."""
    by_model: dict[str, list[CallRecord]] = defaultdict(list)
    for call in history.of(CallRecord):
        by_model[call.model].append(call)
    faults = history.of(FaultRecord)
    return tuple(
        _with_users(
            _check_lists(calls) if model == LIST else _check(model, calls),
            calls,
            faults,
        )
        for model, calls in sorted(by_model.items())
    )


def see_anomalies(checks: Sequence[Checked]) -> Iterator[Sighting]:
    """Yield a sighting for each anomaly of objects that are not what was promised."""
    for checked in checks:
        if checked.verdict is not Verdict.INVALID:
            continue
        for anomaly in checked.anomalies:
            yield _sighting(checked, anomaly)


def _check_lists(calls: list[CallRecord]) -> Checked:
    from test_framework.check.transactions import (  # noqa: PLC0415  # loads numpy
        LogBuilder,
        Status,
        check_list_append,
    )

    status = {"ok": Status.OK, "fail": Status.FAIL, "info": Status.INFO}
    builder = LogBuilder()
    for call in calls:
        is_read = call.kind == "read"
        value = call.result if is_read else call.argument
        if is_read and not isinstance(value, tuple):
            value = () if call.outcome == "ok" else None
        builder.add(
            call.process,
            [("r" if is_read else "append", call.key, value)],
            status=status[call.outcome],
            invoked=call.invoked_ns,
            completed=call.completed_ns,
            user=call.user,
        )
    return check_list_append(builder.build(), model="strict-serializable")


def _check(model: str, records: list[CallRecord]) -> Checked:
    from test_framework.check.histories import (  # noqa: PLC0415  # loads numpy
        check_history,
    )
    from test_framework.check.linear import Call  # noqa: PLC0415  # see above

    calls = [
        Call(
            process=record.process,
            kind=record.kind,
            argument=record.argument,
            result=record.result,
            invoked=record.invoked_ns,
            completed=record.completed_ns,
            key=record.key,
            index=index,
        )
        for index, record in enumerate(records)
        if record.outcome != "fail"
    ]
    return check_history(calls, model)


def _with_users(
    checked: Checked, records: list[CallRecord], faults: Sequence[FaultRecord]
) -> Checked:
    """Say of each call in a witness whose it was, and which faults struck meanwhile."""
    anomalies = tuple(
        dataclasses.replace(
            anomaly,
            items=tuple(
                dataclasses.replace(item, user=records[item.index].user)
                for item in anomaly.items
            ),
            marks=(*anomaly.marks, *_marks(anomaly, faults)),
        )
        for anomaly in checked.anomalies
    )
    return dataclasses.replace(checked, anomalies=anomalies)


def _marks(anomaly: Anomaly, faults: Sequence[FaultRecord]) -> Iterator[Mark]:
    ends = [item.begin if item.end is None else item.end for item in anomaly.items]
    if not ends:
        return
    first, last = min(item.begin for item in anomaly.items), max(ends)
    for fault in faults:
        begin, end = fault.struck_ns, fault.healed_ns
        if begin is not None and begin <= last and (end is None or end >= first):
            yield Mark(fault.fault, begin, end)


def _sighting(checked: Checked, anomaly: Anomaly) -> Sighting:
    users = [item.user for item in anomaly.items if item.user is not None]
    victim = users[0] if users else None
    lets = [f"{one.label} = {one.text}  ({one.lane})" for one in anomaly.items]
    return Sighting(
        rule="not-linearizable",
        claim=f"{anomaly.name}: {anomaly.claim}",
        victim=victim,
        observer=next((user for user in users if user != victim), None),
        channel="object",
        surface=checked.checker,
        at_ns=min((item.begin for item in anomaly.items), default=0),
        evidence=(
            *(
                f"{'Let   ' if not place else '      '} {let}"
                for place, let in enumerate(lets)
            ),
            *(f"Then   {link.because}" for link in anomaly.links),
            f"Then   no {checked.model} object can do so: contradiction.",
        ),
    )
