"""What detectors saw inside of the service, and what timing shows, for the judge.

Only errors void a run: a warning says what could happen, and a note what may be
meant. Several processes of one service see the same cause; it is told once.
"""

import dataclasses
from collections.abc import Iterable, Iterator

from test_framework.check.convoys import find_convoys
from test_framework.check.faults import find_slow_recoveries
from test_framework.check.floors import find_quick
from test_framework.check.names import user_name
from test_framework.check.rules import RULES
from test_framework.check.rules.own import OWN_DETECTOR
from test_framework.check.sighting import Sighting
from test_framework.core import AlarmRecord, History, Level

CHANNEL = "process"
WHEN_ALL_HAVE_LEFT = frozenset(
    {"residue-of-departed", "context-kept-alive", "leaked-task", "leaked-file"}
)
"""Rules about what a service may still need, or clean up, while somebody is there."""

_NEEDS_AN_END = WHEN_ALL_HAVE_LEFT | {"memory-growth"}
_ORDER: dict[Level, int] = {"error": 0, "warning": 1, "note": 2}


def gather_alarms(history: History) -> tuple[AlarmRecord, ...]:
    """Return one alarm per cause, over all processes and all that timing shows.

    Errors come first.
    """
    shown = (
        *find_convoys(history),
        *find_quick(history),
        *find_slow_recoveries(history),
    )
    return _merged((*_raised(history), *shown))


def _raised(history: History) -> list[AlarmRecord]:
    """Return what detectors saw; of a run that was broken off, nobody has left yet."""
    alarms = history.of(AlarmRecord)
    if history.is_broken_off:
        alarms = [alarm for alarm in alarms if alarm.rule not in _NEEDS_AN_END]
    return alarms


def _merged(alarms: Iterable[AlarmRecord]) -> tuple[AlarmRecord, ...]:
    merged: dict[tuple[str, str, str], AlarmRecord] = {}
    for alarm in alarms:
        key = (alarm.rule, alarm.level, alarm.site)
        first = merged.get(key)
        merged[key] = (
            alarm
            if first is None
            else dataclasses.replace(first, count=first.count + alarm.count)
        )
    return tuple(sorted(merged.values(), key=lambda alarm: _ORDER[alarm.level]))


def check_alarms(history: History) -> Iterator[Sighting]:
    """Yield each error that a detector saw."""
    for alarm in _merged(_raised(history)):
        if alarm.level != "error":
            continue
        users = alarm.users
        yield Sighting(
            rule=alarm.rule if alarm.rule in RULES else OWN_DETECTOR,
            claim=alarm.claim,
            victim=users[0] if users else None,
            observer=users[1] if len(users) > 1 else None,
            channel=CHANNEL,
            surface=alarm.site,
            at_ns=0,
            evidence=(
                *((f"Users  {_named(users)}",) if users else ()),
                *alarm.evidence,
            ),
            count=alarm.count,
            cause=f"{alarm.rule} {alarm.site}",
            fix=alarm.fix,
        )


def _named(users: tuple[int, ...]) -> str:
    return ", ".join(user_name(user) for user in users)
