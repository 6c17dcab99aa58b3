"""The judge: all checkers over one finished history, one verdict, few findings.

Sightings are many, causes are few. Sightings of one rule are one finding; findings
of different rules become one when they share a canary and its receiver (the same
leaked value seen in an answer and in an event is one leak). What a worse finding
already explains is told as its consequence, and what a detector saw inside of the service goes
with the damage that users saw. So one root cause is one finding, at the price that two
separate leaks of one rule are told together, surface by surface.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from test_framework.check.alarms import CHANNEL, check_alarms, gather_alarms
from test_framework.check.conduct import (
    check_bystanders,
    check_expectations,
    check_identifiers,
    check_once,
    check_residue,
)
from test_framework.check.contamination import check_contamination
from test_framework.check.delivery import check_delivery
from test_framework.check.evidence import Evidence, weigh
from test_framework.check.faults import (
    Endured,
    check_faults,
    check_writes,
    measure_faults,
)
from test_framework.check.floors import check_floors
from test_framework.check.handlers import name_handlers
from test_framework.check.names import user_name
from test_framework.check.objects import check_objects, see_anomalies
from test_framework.check.policy import gates_of
from test_framework.check.rules import RULES, rule
from test_framework.check.sighting import Sighting
from test_framework.check.timing import (
    Latency,
    check_gates,
    check_slowed,
    measure_latencies,
)
from test_framework.check.witness import Checked
from test_framework.core import AlarmRecord, Finding, History, Verdict, merge

Checker = Callable[[History], Iterable[Sighting]]

CHECKERS: tuple[Checker, ...] = (
    check_contamination,
    check_identifiers,
    check_once,
    check_delivery,
    check_expectations,
    check_bystanders,
    check_residue,
    check_slowed,
    check_writes,
    check_faults,
    check_floors,
    check_alarms,
)

_NAMED_BETTER = {
    "not-linearizable": {"acknowledged-write-lost", "write-applied-twice"},
}
"""Rules that say of the same calls only that something is wrong, and not what."""

_MOST_SURFACES = 12
_KEPT = frozenset({"residue-of-departed", "context-kept-alive", "pool-state-kept"})
_ABSORBED_BY_ANY = frozenset(
    {"left-behind", "bystander-slowed", "p50-gate", "p95-gate", "p99-gate"}
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A run judged.

    Attributes:
        verdict: ``valid``, ``unknown`` or ``invalid``.
        findings: One per root cause, worst first.
        evidence: What was exercised.
        latencies: Latencies per endpoint, slowest first.
        alarms: What detectors saw inside of the service, errors first.
        objects: What checkers say of the objects that the workload called.
        faults: What was kept under each fault, in the order they were tried.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    evidence: Evidence
    latencies: tuple[Latency, ...]
    alarms: tuple[AlarmRecord, ...] = ()
    objects: tuple[Checked, ...] = ()
    faults: tuple[Endured, ...] = ()


def judge(history: History) -> Judgement:
    """Judge a finished (or broken off) history; the same history, the same verdict.

    Cost is linear in records, up to sorting.
    """
    latencies = measure_latencies(history)
    sightings = [sighting for checker in CHECKERS for sighting in checker(history)]
    sightings += check_gates(latencies, gates_of(history))
    objects = check_objects(history)
    sightings += see_anomalies(objects)
    findings = name_handlers(_findings(sightings, repeat=history.run.repeat), history)
    evidence = weigh(history)
    verdict = merge(
        [
            Verdict.INVALID if findings else Verdict.VALID,
            Verdict.UNKNOWN if evidence.gaps else Verdict.VALID,
            *(checked.verdict for checked in objects),
        ]
    )
    return Judgement(
        verdict,
        findings,
        evidence,
        tuple(latencies),
        gather_alarms(history),
        objects,
        measure_faults(history, sightings),
    )


@dataclass(slots=True)
class _Cause:
    """Sightings believed to have one cause."""

    sightings: list[Sighting]

    @property
    def tier(self) -> int:
        return min(rule(sighting.rule).tier for sighting in self.sightings)

    @property
    def witness(self) -> Sighting:
        """The earliest sighting of the worst tier."""
        tier = self.tier
        worst = [s for s in self.sightings if rule(s.rule).tier == tier]
        return min(worst, key=lambda s: s.at_ns)

    def users(self) -> set[int]:
        return {
            user
            for sighting in self.sightings
            for user in (sighting.victim, sighting.observer)
            if user is not None
        }


def _findings(sightings: list[Sighting], *, repeat: str) -> tuple[Finding, ...]:
    by_rule: dict[tuple[str, str], list[Sighting]] = defaultdict(list)
    for sighting in sightings:
        by_rule[sighting.rule, sighting.cause].append(sighting)
    causes = sorted(
        _merge_by_canary([_Cause(group) for group in by_rule.values()]),
        key=lambda cause: (
            cause.tier,
            cause.witness.rule in _NAMED_BETTER,
            cause.witness.at_ns,
        ),
    )
    roots: list[tuple[_Cause, list[Sighting]]] = []
    seen_inside = [cause for cause in causes if cause.witness.channel == CHANNEL]
    for cause in causes:
        if cause in seen_inside:
            continue
        root = next(
            (
                (earlier, consequences)
                for earlier, consequences in roots
                if _explains(earlier, cause)
            ),
            None,
        )
        if root is None:
            roots.append((cause, []))
        else:
            root[1].extend(cause.sightings)
    inside: dict[int, list[Sighting]] = defaultdict(list)
    damages = list(roots)
    for cause in seen_inside:
        damage = next(
            (
                place
                for place, (root, _) in enumerate(damages)
                if _goes_with(root, cause)
            ),
            None,
        )
        if damage is None:
            roots.append((cause, []))
        else:
            inside[damage] += cause.sightings
    return tuple(
        _finding(cause, consequences, inside[place], repeat=repeat)
        for place, (cause, consequences) in enumerate(roots)
    )


def _merge_by_canary(causes: list[_Cause]) -> list[_Cause]:
    """Join causes in which one receiver got one and the same canary."""
    merged: list[tuple[_Cause, set[tuple[str, int | None]]]] = []
    for cause in causes:
        marks = {(s.canary, s.observer) for s in cause.sightings if s.canary}
        apart = []
        for other, other_marks in merged:
            if marks & other_marks:
                cause.sightings.extend(other.sightings)
                marks |= other_marks
            else:
                apart.append((other, other_marks))
        merged = [*apart, (cause, marks)]
    return [cause for cause, _ in merged]


def _explains(root: _Cause, other: _Cause) -> bool:
    """Tell whether ``other`` is what one would expect to follow from ``root``."""
    if root.witness.rule in _NAMED_BETTER.get(other.witness.rule, ()):
        return bool(root.users() & other.users())
    if root.tier >= other.tier:
        return False
    if {s.rule for s in other.sightings} <= _ABSORBED_BY_ANY:
        return True
    return bool(root.users() & other.users())


def _goes_with(damage: _Cause, alarm: _Cause) -> bool:
    """Tell whether what a detector saw goes with damage that users saw.

    It does when it happened to the same users, or when one of the two names nobody.
    Slow answers are no damage that explains a line of the program.
    """
    rules = {s.rule for s in damage.sightings}
    if rules <= _ABSORBED_BY_ANY - {"left-behind"}:
        return False
    if alarm.witness.rule in _KEPT and (damage.tier == 0 or rules == {"left-behind"}):
        # What is kept names its last user only, and what was left behind its first.
        return True
    users, wronged = alarm.users(), damage.users()
    return not users or not wronged or bool(users & wronged)


def _finding(
    cause: _Cause,
    consequences: list[Sighting],
    inside: list[Sighting],
    *,
    repeat: str,
) -> Finding:
    witness = cause.witness
    surfaces = Counter(f"{s.surface} [{s.channel}]" for s in cause.sightings)
    ranked = [name for name, _ in surfaces.most_common(_MOST_SURFACES)]
    first = f"{witness.surface} [{witness.channel}]"
    ordered = [first, *(name for name in ranked if name != first)]
    told = _tell([s for s in cause.sightings if s.rule != witness.rule])
    told += _tell(consequences)
    return Finding(
        rule=witness.rule,
        claim=witness.claim,
        victim=user_name(witness.victim),
        observer=None if witness.observer is None else user_name(witness.observer),
        channel=witness.channel,
        endpoint=witness.surface,
        operation=witness.operation,
        planted_by=witness.planted_by,
        evidence=witness.evidence,
        fix=witness.fix or rule(witness.rule).fix,
        repeat=repeat,
        count=sum(s.count for s in cause.sightings),
        surfaces=tuple(ordered),
        consequences=tuple(told),
        inside=tuple(line for alarm in inside for line in _tell_inside(alarm)),
    )


def _tell_inside(alarm: Sighting) -> list[str]:
    return [
        f"{alarm.rule}  {alarm.claim}",
        f"  at {alarm.surface}",
        *(f"  {line}" for line in alarm.evidence),
        f"  fix: {alarm.fix or rule(alarm.rule).fix}",
    ]


def _tell(sightings: list[Sighting]) -> list[str]:
    counts = Counter(sighting.rule for sighting in sightings)
    first = {s.rule: s for s in reversed(sightings)}
    return [
        f"{count} x {name} ({RULES[name].title}), first: {first[name].claim}"
        for name, count in counts.most_common()
    ]
