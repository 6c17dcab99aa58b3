"""``run``, ``explain`` and ``doctor``: audits, and what is told of them."""

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from test_framework.check import RULES, Judgement, judge, rule
from test_framework.cli.baselines import make_comparison
from test_framework.cli.output import EXIT_TARGET, make_console
from test_framework.config import DETECTED, load_config
from test_framework.core import (
    EndRecord,
    History,
    Level,
    RunRecord,
    TargetError,
    UsageError,
    Verdict,
)
from test_framework.report import (
    HISTORY_NAME,
    TerminalProgress,
    make_folder,
    print_judgement,
    put_away,
    write_reports,
)
from test_framework.services import examine
from test_framework.staging import perform
from test_framework.swarm import FAULT_SECONDS, SHAPES


@click.command()
@click.option("--target", help="URL of a running service, or module:app to start it.")
@click.option("--workload", help="Audit file: login and workload in Python.")
@click.option("--users", type=int, help="Concurrent users.  [default: 100]")
@click.option("--seed", type=int, help="Repeat the run of this seed.")
@click.option(
    "--shapes", help=f"Traffic shapes, with commas.  [default: {','.join(SHAPES)}]"
)
@click.option(
    "--faults",
    help="Faults that strike while users work: all, or names with commas.  "
    "[default: none]",
)
@click.option(
    "--fault-seconds",
    type=float,
    help=f"How long users work around each fault.  [default: {FAULT_SECONDS:g}]",
)
@click.option("--services", help="What module:app needs: postgres,redis or none.")
@click.option("--workers", type=int, help="Processes of module:app.  [default: 2]")
@click.option("--port", type=int, help="Port of module:app.  [default: a free one]")
@click.option(
    "--detect",
    "detectors",
    help="Detectors inside of module:app, with commas, or none.  "
    f"[default: {','.join(DETECTED)}]",
)
@click.option(
    "--track",
    multiple=True,
    help="Package of module:app whose shared state to follow; repeatable.",
)
@click.option(
    "--log", "logs", multiple=True, help="Log file of a running service; repeatable."
)
@click.option(
    "--baseline",
    help="Latencies of an earlier run to compare with; made when absent.",
)
@click.option(
    "--update-baseline",
    "is_updating",
    is_flag=True,
    help="Replace the baseline by this run.",
)
@click.option(
    "--on-regression",
    "level",
    type=click.Choice(["warning", "error"]),
    help="What an endpoint slower than its baseline is.  [default: warning]",
)
@click.option(
    "--report",
    default="reports",
    show_default=True,
    help="Folder for audit.json, junit.xml and the history.",
)
def run(
    report: str,
    logs: tuple[str, ...],
    track: tuple[str, ...],
    baseline: str | None,
    level: Level | None,
    *,
    is_updating: bool,
    **options: Any,  # noqa: ANN401  # click's own types
) -> None:
    """Audit a service with concurrent users and judge what they saw."""
    console = make_console()
    config = load_config(logs=list(logs) or None, track=list(track) or None, **options)
    comparison = make_comparison(baseline, config, is_updating=is_updating, level=level)
    folder = make_folder(Path(report))
    history = History()

    def keep_from_now_on() -> None:
        # Not before the service is up: a failed start leaves the last report there.
        put_away(folder)
        history.write_to(folder / HISTORY_NAME)

    console.print(
        Text.assemble(
            ("isolation-audit", "bold"),
            f"  {config.target}  {config.users} users",
        )
    )
    console.print()
    try:
        with TerminalProgress(console, history) as progress:
            judgement = perform(
                config,
                history,
                progress=progress,
                on_start=keep_from_now_on,
                on_end=None if comparison is None else comparison.compare,
            )
    except UsageError:
        # What a run shows that an audit file broke off is no word about the service.
        _keep(console, history, folder, are_findings_told=False)
        raise
    except (TargetError, KeyboardInterrupt):
        _keep(console, history, folder)
        raise
    finally:
        history.close()
    note = ""
    if config.shares_nothing:
        note = (
            f"Note: the service ran as {config.workers} processes without a database. "
            "If it keeps its state in memory, they do not share it: try --workers 1."
        )
    remark = ""
    if comparison is not None:
        remark = comparison.conclude(history, judgement.verdict)
    conclude(console, judgement, history, folder, note=note, remark=remark)


@click.command()
@click.argument("rule_id", metavar="RULE", required=False)
def explain(rule_id: str | None) -> None:
    """Explain a rule, or list all of them."""
    console = make_console()
    if rule_id is None:
        for one in RULES.values():
            console.print(f"{one.id:<28}{one.title}")
        return
    one = rule(rule_id)
    console.print(Text.assemble((one.id, "bold"), f"  {one.title}"))
    console.print()
    for line in one.scenario:
        console.print(Text(f"  {line}"))
    console.print()
    console.print(Text(f"Fix     {one.fix}"))
    console.print(Text(f"Source  CWE-{one.cwe}"))


@click.command()
def doctor() -> None:
    """Say which Postgres and Redis were found, what will be used, what is missing."""
    console = make_console()
    checks = examine()
    for one in checks:
        mark = ("ok  ", "green") if one.ok else ("MISS", "red")
        console.print(Text.assemble(mark, f"  {one.name:<12}{one.found}"))
        if one.will_use:
            console.print(Text(f"      uses        {one.will_use}"))
        if one.cure:
            console.print(Text(f"      cure        {one.cure}", "yellow"))
    if not all(one.ok for one in checks):
        sys.exit(EXIT_TARGET)


def _keep(
    console: Console,
    history: History,
    folder: Path,
    *,
    are_findings_told: bool = True,
) -> None:
    """Judge what was recorded before the run broke off, and say where it is."""
    if not history.of(RunRecord):
        return
    judgement = judge(history)
    written = write_reports(folder, judgement, history)
    if judgement.findings and are_findings_told:
        print_judgement(console, judgement, history)
    end = history.of(EndRecord)
    seconds = judgement.evidence.seconds
    console.print(
        Text(
            f"  {judgement.evidence.requests:,} requests in {seconds:.1f} s were "
            f"recorded{'' if end else ', without an end'}; they are in "
            f"{folder / HISTORY_NAME} and judged in {written[0]}."
        )
    )


def conclude(
    console: Console,
    judgement: Judgement,
    history: History,
    folder: Path | None,
    *,
    note: str = "",
    remark: str = "",
) -> None:
    """Print a judgement, write its reports, and exit with its code."""
    print_judgement(console, judgement, history)
    if note and judgement.verdict is not Verdict.VALID:
        console.print(Text(f"  {note}"))
    if remark:
        console.print(Text(f"  {remark}"))
    if folder is not None:
        paths = write_reports(folder, judgement, history)
        names = ", ".join(str(path) for path in paths)
        console.print(Text(f"  Reports: {names}", "dim"))
    sys.exit(judgement.verdict.exit_code)
