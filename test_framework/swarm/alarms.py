"""What the detectors in the service's processes say of one audit.

A service may live through several audits and its detectors with it, so what they had
seen before an audit began is none of its alarms.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from test_framework.check.alarms import WHEN_ALL_HAVE_LEFT
from test_framework.check.names import user_name
from test_framework.core import (
    AlarmRecord,
    History,
    Operation,
    TargetError,
    WatchRecord,
)

if TYPE_CHECKING:
    from test_framework.services import AlarmReport, Host

_REQUEST = re.compile(r"\brequest (?P<number>\d+)\b")
_Key = tuple[str, str, str, int | None]


class Alarms:
    """The alarms of one audit.

    Args:
        host: The service's processes, when this run started them.

    Raises:
        TargetError: One of them ended or is blocked.
    """

    def __init__(self, host: "Host | None") -> None:
        self._host = host
        self._before: Counter[_Key] = Counter()
        self._last: AlarmReport | None = None
        if host is not None and host.is_watched:
            # Whom an earlier audit knew is nobody of this one.
            host.identify({})
            for alarm in host.alarms().alarms:
                self._before[_key(alarm)] += alarm.count

    def are_passing(self) -> bool:
        """Whether something is seen that the service may still be cleaning up.

        When nothing is, this was the last look: one walks through the whole heap.

        Raises:
            TargetError: A process ended or is blocked.
        """
        if self._host is None or not self._host.is_watched:
            return False
        report = self._host.alarms()
        is_passing = any(alarm.rule in WHEN_ALL_HAVE_LEFT for alarm in report.alarms)
        self._last = None if is_passing else report
        return is_passing

    def record(self, history: History) -> None:
        """Add what was seen since, with the users that it happened to."""
        if self._host is None or not self._host.is_watched:
            return
        try:
            report = self._last or self._host.alarms()
        except TargetError as exc:
            # The run has been broken off, or is about to be, for the same reason.
            history.add(WatchRecord("detectors", unwatched=(str(exc),)))
            return
        operations = history.of(Operation)
        users = {op.index: op.user for op in operations}
        names = {op.index: f"{user_name(op.user)} ({op.endpoint})" for op in operations}
        for alarm in report.alarms:
            count = alarm.count - self._before[_key(alarm)]
            if count > 0:
                found = (users[op] for op in alarm.operations if op in users)
                known = tuple(dict.fromkeys((*alarm.users, *found)))
                history.add(replace(_named(alarm, names), count=count, users=known))
        for watch in report.watches:
            history.add(watch)


def _named(alarm: AlarmRecord, names: Mapping[int, str]) -> AlarmRecord:
    """Say in an alarm's own sentences whose requests it speaks of, and for what."""

    def name(match: re.Match[str]) -> str:
        named = names.get(int(match["number"]))
        return match[0] if named is None else f"{match[0]} of {named}"

    return replace(
        alarm,
        claim=_REQUEST.sub(name, alarm.claim),
        evidence=tuple(_REQUEST.sub(name, line) for line in alarm.evidence),
    )


def _key(alarm: AlarmRecord) -> _Key:
    return alarm.rule, alarm.level, alarm.site, alarm.worker
