"""What a conformance test says: a verdict, and for each anomaly its witness.

The worst of all that is known decides. A run in which no two operations overlapped
proves nothing, whatever its checkers say; nor does one that was cut off, or that could
not reach its service.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

from test_framework.battery.runner import RaceRun
from test_framework.check.witness import Anomaly, Checked
from test_framework.core import Verdict, merge

NS_PER_US = 1000
MAX_SHOWN = 5
"""Anomalies and errors that are shown of each kind; all of them are in the report."""


@dataclass(frozen=True, slots=True)
class RaceReport:
    """The outcome of a conformance test.

    Attributes:
        subject: What was tested.
        runs: What the workers did, scenario by scenario.
        checks: What is known of it.
        skipped: Scenarios that it was not put to, with the reason.
        scenarios: Names of the scenarios of the runs.
    """

    subject: str
    runs: tuple[RaceRun, ...]
    checks: tuple[Checked, ...]
    skipped: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all checks; ``unknown`` of none."""
        return merge(check.verdict for check in self.checks)

    @property
    def anomalies(self) -> tuple[Anomaly, ...]:
        """All anomalies, in the order of the checks."""
        return tuple(one for check in self.checks for one in check.anomalies)

    def __str__(self) -> str:
        """Say what was found, ready to read."""
        return "\n".join(_lines(self))


class RaceFailure(AssertionError):  # noqa: N818  # a test fails; nothing is in error
    """Raised by ``run`` of a conformance test that is not ``valid``.

    Attributes:
        report: What was found.
    """

    def __init__(self, report: RaceReport) -> None:
        super().__init__(str(report))
        self.report = report


def common_checks(run: RaceRun, *, needs_overlap: bool = True) -> Iterator[Checked]:
    """Yield what holds for every test: no error, no hang, and real concurrency.

    Args:
        run: What the workers did.
        needs_overlap: Whether a run without any two operations at once is to prove
            nothing; every test that is about concurrency does.
    """
    yield _check_errors(run)
    yield _check_end(run)
    if needs_overlap:
        yield _check_overlap(run)


def _check_errors(run: RaceRun) -> Checked:
    if not run.errors:
        return Checked("errors", "no worker fails", Verdict.VALID)
    ours = [error for error in run.errors if not error.is_of_target]
    if not ours:
        return Checked(
            "errors",
            "no worker fails",
            Verdict.UNKNOWN,
            reason=f"{len(run.errors)} errors, such as {run.errors[0]}. See that the "
            "service is up, and run it again.",
        )
    return Checked(
        "errors",
        "no worker fails",
        Verdict.INVALID,
        anomalies=tuple(Anomaly("error", str(error)) for error in ours),
        facts={"errors": len(run.errors)},
    )


def _check_end(run: RaceRun) -> Checked:
    name, model = "end", "every worker comes to its end"
    hang = run.hang
    if hang is None:
        return Checked(name, model, Verdict.VALID)
    # Errors are proofs: a circle of waiting, or nobody left who could end it.
    stuck = [alarm for alarm in hang.alarms if alarm.level == "error"]
    where = "; ".join(
        f"worker {one.worker} was in {one.kind}" for one in hang.pending[:MAX_SHOWN]
    )
    total = run.config.workers * run.config.iterations
    reason = (
        f"the run was cut off because {hang.reason}, in turn {run.turns:,} of {total:,}"
        + (f": {where}" if where else "")
        + "."
    )
    if hang.is_quiet:
        reason += " If operations may take as long, raise quiet_s."
    else:
        reason += " Ask for fewer iterations, or raise timeout_s."
    if not stuck:
        return Checked(name, model, Verdict.UNKNOWN, reason=reason)
    return Checked(
        name,
        model,
        Verdict.INVALID,
        reason=reason,
        anomalies=tuple(
            Anomaly(alarm.rule, "\n".join((alarm.claim, *alarm.evidence)))
            for alarm in stuck
        ),
    )


def _check_overlap(run: RaceRun) -> Checked:
    overlap = run.overlap
    facts = {
        "operations": overlap.operations,
        "peak": overlap.peak,
        "overlapped": overlap.share,
        "pairs": overlap.pairs,
    }
    if overlap.peak > 1:
        return Checked("overlap", "operations overlap", Verdict.VALID, facts=facts)
    cure = (
        'A function that never awaits cannot be interrupted by a task: use kind="thread".'
        if run.config.kind == "task"
        else "Ask for more iterations or workers."
    )
    return Checked(
        "overlap",
        "operations overlap",
        Verdict.UNKNOWN,
        reason=f"no two of the {overlap.operations:,} operations of "
        f"{run.config.workers} workers overlapped, so nothing is proved. {cure}",
        facts=facts,
    )


def _lines(report: RaceReport) -> Iterator[str]:
    yield f"{report.subject}: {report.verdict}"
    for name, run in zip_longest(report.scenarios, report.runs):
        config = run.config
        yield (
            f"  {f'{name}: ' if name else ''}{config.workers} {config.kind} workers x "
            f"{config.iterations} turns, seed {config.seed}: {run.overlap}"
        )
    for check in report.checks:
        if check.verdict is Verdict.VALID:
            continue
        yield f"  {check.checker} ({check.model}): {check.verdict}"
        if check.reason:
            yield f"    {check.reason}"
        yield from _told(check.anomalies)
    yield from _stacks(report.runs)
    yield from (f"  not tested: {reason}" for reason in report.skipped)


def _told(anomalies: tuple[Anomaly, ...]) -> Iterator[str]:
    for anomaly in anomalies[:MAX_SHOWN]:
        first, *rest = anomaly.claim.splitlines() or [""]
        yield f"    {anomaly.name}: {first}"
        yield from (f"      {line}" for line in rest)
        start = min((item.begin for item in anomaly.items), default=0)
        for item in anomaly.items:
            begin = f"{(item.begin - start) / NS_PER_US:,.1f}"
            end = "?" if item.end is None else f"{(item.end - start) / NS_PER_US:,.1f}"
            yield f"      {item.label} [{begin} .. {end} us] {item.text}"
        yield from (f"      {link.because}" for link in anomaly.links)
    if len(anomalies) > MAX_SHOWN:
        yield f"    ... and {len(anomalies) - MAX_SHOWN:,} more"


def _stacks(runs: Iterable[RaceRun]) -> Iterator[str]:
    for run in runs:
        if run.hang is None:
            continue
        for worker, stack in list(run.hang.stacks.items())[:MAX_SHOWN]:
            if stack:
                yield f"  worker {worker} stood at"
                yield from (f"    {line.strip()}" for line in stack.splitlines())
