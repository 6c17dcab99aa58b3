"""The run on a terminal: live progress, then findings and a verdict.

The first screen answers a manager (did anybody see another's data?), the findings
answer the engineer who must believe or dismiss them within a minute.
"""

import statistics
import time
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from test_framework.check import RULES
from test_framework.core import (
    Finding,
    History,
    Operation,
    UserRecord,
    Verdict,
)
from test_framework.report.document import tested_share
from test_framework.report.faults import fault_table

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from test_framework.check import Evidence, Judgement
    from test_framework.check.witness import Checked

_COLOURS = {Verdict.VALID: "green", Verdict.UNKNOWN: "yellow", Verdict.INVALID: "red"}
_SENTENCES = {
    Verdict.VALID: "No user saw, changed or received what belongs to another.",
    Verdict.UNKNOWN: "The run proved nothing: do not read it as a pass.",
    Verdict.INVALID: "Users reached, or were hurt by, what belongs to others.",
}
_MOST_SHOWN = 8


class TerminalProgress:
    """Phases with their times, and live counts of the phase that runs.

    Args:
        console: Where to print.
        history: Counted while it grows.
    """

    def __init__(self, console: Console, history: History) -> None:
        self._console = console
        self._history = history
        self._done: list[str] = []
        self._phase = ""
        self._phase_started = time.monotonic()
        self._started = self._phase_started
        self._operations = 0
        self._scanned = 0
        self._foreign = 0
        self._last_foreign: float | None = None
        self._spinner = Spinner("dots")
        self._live = Live(
            get_renderable=self._render,
            console=console,
            refresh_per_second=5,
            transient=True,
        )

    def __enter__(self) -> "Self":
        """Show the live line."""
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        """Take the live line away."""
        self._live.stop()

    def begin(self, phase: str) -> None:
        """Name the phase that runs."""
        self._phase = phase
        self._phase_started = time.monotonic()
        self._operations = len(self._history.of(Operation))

    def end(self, phase: str) -> None:
        """Print the finished phase."""
        took = time.monotonic() - self._phase_started
        count = f" {self._count():>7,} operations" if self._count() else ""
        self._console.print(f"  {phase:<28}{took:6.1f} s{count}", highlight=False)
        self._phase = ""

    def _count(self) -> int:
        return len(self._history.of(Operation)) - self._operations

    def _render(self) -> RenderableType:
        if not self._phase:
            return Text("")
        self._look()
        now = time.monotonic()
        words = (
            f"{self._phase}  {self._count():,} operations  {now - self._started:.1f} s"
        )
        if self._last_foreign is not None:
            words += (
                f"  {self._foreign} foreign canaries, "
                f"{now - self._last_foreign:.1f} s since the last"
            )
        self._spinner.update(text=words)
        return Padding(self._spinner, (0, 2))

    def _look(self) -> None:
        operations = self._history.of(Operation)
        for operation in operations[self._scanned :]:
            if any(seen.owner != operation.user for seen in operation.seen):
                self._foreign += 1
                self._last_foreign = time.monotonic()
        self._scanned = len(operations)


def print_judgement(console: Console, judgement: "Judgement", history: History) -> None:
    """Print findings, what was proved, what was not, and the verdict."""
    console.print()
    for number, finding in enumerate(judgement.findings, 1):
        console.print(render_finding(finding, number), highlight=False)
        console.print()
    console.print(_proof(judgement, history), highlight=False)
    if any(one.measured for one in judgement.faults):
        console.print()
        console.print(fault_table(judgement.faults), highlight=False)
    _print_warnings(console, judgement)
    _print_not_exercised(console, judgement.evidence)
    for gap in judgement.evidence.gaps:
        console.print(_indented(f"Gap: {gap}", by=2, style="yellow"))
    console.print()
    colour = _COLOURS[judgement.verdict]
    count = len(judgement.findings)
    tail = f"  {count} finding{'s' if count != 1 else ''}." if count else ""
    console.print(
        Text.assemble(
            (f" {str(judgement.verdict).upper()} ", f"bold reverse {colour}"),
            f"  {_SENTENCES[judgement.verdict]}{tail}",
        )
    )


def render_finding(finding: Finding, number: int) -> Group:
    """Return one finding as a small proof with its cure and its repeat."""
    title = RULES[finding.rule].title
    lines: list[RenderableType] = [
        Text.assemble(
            (f"{number}. {finding.rule}", "bold red"),
            f"  {title}, {finding.count} time{'s' if finding.count != 1 else ''}",
        ),
        _indented(finding.claim, by=3),
        *(_indented(sentence, by=5, hang=7) for sentence in finding.evidence),
    ]
    if len(finding.surfaces) > 1:
        lines.append(_labelled("Seen on", ", ".join(finding.surfaces)))
    lines += [_labelled("So also", told) for told in finding.consequences]
    lines += [
        _labelled("Inside" if number == 0 else "", told)
        for number, told in enumerate(finding.inside)
    ]
    lines += [
        _labelled("Handler" if number == 0 else "", told)
        for number, told in enumerate(finding.handlers)
    ]
    lines.append(_labelled("Fix", finding.fix))
    lines.append(_labelled("Repeat", finding.repeat, style="cyan"))
    lines.append(
        _labelled("", "(same users, workload and order; real timing varies)", "dim")
    )
    return Group(*lines)


def _labelled(label: str, text: str, style: str = "") -> RenderableType:
    """Return a text beside its label; further lines stand under the first."""
    return _beside(f"   {label:<9}", text, style)


def _indented(text: str, *, by: int, hang: int = 0, style: str = "") -> RenderableType:
    """Return a text set in; further lines are set in by ``hang`` more."""
    return _beside(" " * by + text[:hang], text[hang:], style)


def _beside(left: str, text: str, style: str) -> RenderableType:
    grid = Table.grid()
    grid.add_column(no_wrap=True, min_width=len(left))
    grid.add_column(overflow="fold")
    grid.add_row(Text(left, style), Text(text, style))
    return grid


def _proof(judgement: "Judgement", history: History) -> Table:
    evidence = judgement.evidence
    tested, cells = tested_share(evidence)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    table.add_row(
        "  Did",
        f"{evidence.users} users, {evidence.requests:,} requests, "
        f"{evidence.websockets} WebSockets, {evidence.events:,} events "
        f"in {evidence.seconds:.1f} s",
    )
    table.add_row(
        "  At once",
        f"{evidence.in_flight_peak} requests in flight (seen by "
        f"{evidence.overlap_source}); {evidence.user_pairs_overlapped:,} of "
        f"{evidence.user_pairs:,} pairs of users met",
    )
    # Small bursts of one user (``user.once``) would hide those of the whole swarm.
    full = [burst for burst in evidence.bursts if 2 * burst.size > evidence.users]
    if full:
        spread = statistics.median(burst.spread_ms for burst in full)
        flight = statistics.median(burst.in_flight for burst in full)
        table.add_row(
            "  Bursts",
            f"{len(full)} of all users, {flight:.0f} in flight, first to last start "
            f"{spread:.1f} ms (medians)",
        )
    table.add_row("  Tested", f"{tested} of {cells} endpoints, tables, keys and logs")
    for checked in judgement.objects:
        facts = ", ".join(f"{count:,} {name}" for name, count in _counts(checked))
        told = checked.reason or str(checked.verdict)
        table.add_row(
            "  Objects", f"{checked.checker}, {checked.model}: {told} ({facts})"
        )
    if judgement.latencies:
        slowest = judgement.latencies[0]
        table.add_row(
            "  Slowest",
            f"{slowest.endpoint}: P50 {slowest.p50_ms:.0f} ms, "
            f"P95 {slowest.p95_ms:.0f} ms, P99 {slowest.p99_ms:.0f} ms",
        )
    extra = sum(user.cohort != "regular" for user in history.of(UserRecord))
    table.add_row(
        "  Seed",
        f"{history.run.seed}"
        + (f"  ({extra} more users with colliding names)" if extra else ""),
    )
    return table


def _counts(checked: "Checked") -> list[tuple[str, int]]:
    """Return what was looked at: the first counts that a checker tells."""
    counts = [(k, v) for k, v in checked.facts.items() if isinstance(v, int)]
    return counts[:3]


def _print_warnings(console: Console, judgement: "Judgement") -> None:
    warnings = [alarm for alarm in judgement.alarms if alarm.level == "warning"]
    notes = sum(alarm.level == "note" for alarm in judgement.alarms)
    if warnings:
        console.print(f"  Warnings ({len(warnings)})", style="bold yellow")
    for alarm in warnings[:_MOST_SHOWN]:
        console.print(_indented(f"{alarm.rule}  {alarm.claim}", by=4))
        console.print(_indented(f"at {alarm.site}", by=6, style="dim"))
    told = []
    if len(warnings) > _MOST_SHOWN:
        told.append(f"{len(warnings) - _MOST_SHOWN} more warnings")
    if notes:
        told.append(f"{notes} note{'s' if notes != 1 else ''}")
    if told:
        console.print(Text(f"    {' and '.join(told)} in audit.json", "dim"))


def _print_not_exercised(console: Console, evidence: "Evidence") -> None:
    lines = evidence.not_exercised
    if not lines:
        return
    console.print(f"  Not tested ({len(lines)})", style="bold")
    for line in lines[:_MOST_SHOWN]:
        console.print(_indented(line, by=4, style="dim"))
    if len(lines) > _MOST_SHOWN:
        console.print(
            Text(f"    and {len(lines) - _MOST_SHOWN} more in audit.json", "dim")
        )
