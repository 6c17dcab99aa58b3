"""The command line: parse, call, print.

Exit codes: 0 valid, 1 invalid, 2 usage error, 3 unknown (the run proved nothing),
4 the service or what it needs is down, 130 interrupted.
"""

import dataclasses
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.status import Status
from rich.text import Text

from test_framework.check import RULES, Judgement, judge, rule
from test_framework.config import load_config
from test_framework.core import (
    EndRecord,
    History,
    InternalError,
    RunRecord,
    TargetError,
    UsageError,
    Verdict,
    merge,
)
from test_framework.explore import (
    Fidelity,
    Listener,
    Progress,
    Scenario,
    Witness,
    explore,
    find_scenarios,
    load_scenario,
    marked_options,
    read_schedule,
    replay,
)
from test_framework.explore import as_test as make_test
from test_framework.explore.budget import seconds_of
from test_framework.explore.loader import left_out, mark_outcome, outcome_of
from test_framework.explore.report import is_written_test
from test_framework.interruption import EXIT_INTERRUPTED
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
from test_framework.swarm import SHAPES

EXIT_USAGE = 2
EXIT_TARGET = 4
EXIT_INTERNAL = 70


def _console() -> Console:
    """Return a console; what goes to a file or a pipe is not squeezed into 80 columns."""
    is_free = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=120 if is_free else None, highlight=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="isolation-audit")
def cli() -> None:
    """Prove that no user of a service sees, changes or receives another's data."""


@cli.command()
@click.option("--target", help="URL of a running service, or module:app to start it.")
@click.option("--workload", help="Audit file: login and workload in Python.")
@click.option("--users", type=int, help="Concurrent users.  [default: 100]")
@click.option("--seed", type=int, help="Repeat the run of this seed.")
@click.option(
    "--shapes", help=f"Traffic shapes, with commas.  [default: {','.join(SHAPES)}]"
)
@click.option("--services", help="What module:app needs: postgres,redis or none.")
@click.option("--workers", type=int, help="Processes of module:app.  [default: 2]")
@click.option("--port", type=int, help="Port of module:app.  [default: a free one]")
@click.option(
    "--log", "logs", multiple=True, help="Log file of a running service; repeatable."
)
@click.option(
    "--report",
    default="reports",
    show_default=True,
    help="Folder for audit.json, junit.xml and the history.",
)
def run(report: str, logs: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401  # click's own types
    """Audit a service with concurrent users and judge what they saw."""
    console = _console()
    config = load_config(logs=list(logs) or None, **options)
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
                config, history, progress=progress, on_start=keep_from_now_on
            )
    except (TargetError, UsageError, KeyboardInterrupt):
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
    _conclude(console, judgement, history, folder, note=note)


@cli.command()
@click.argument("history_path", metavar="HISTORY", type=click.Path(path_type=Path))
@click.option("--report", help="Also write audit.json and junit.xml to this folder.")
def check(history_path: Path, report: str | None) -> None:
    """Judge a stored history again."""
    console = _console()
    history = History.load(history_path)
    judgement = judge(history)
    folder = Path(report) if report is not None else None
    if folder is not None:
        make_folder(folder)
    _conclude(console, judgement, history, folder)


@cli.command()
@click.argument("rule_id", metavar="RULE", required=False)
def explain(rule_id: str | None) -> None:
    """Explain a rule, or list all of them."""
    console = _console()
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


@cli.command("explore")
@click.argument("path", metavar="PATH[::NAME]")
@click.option("--budget", help="Time for each scenario.  [default: 5s]")
@click.option(
    "--fidelity",
    type=click.Choice([str(one) for one in Fidelity]),
    help="Which orders the loop may produce.  [default: fifo]",
)
@click.option(
    "--cancel",
    help="Cancel tasks of this pattern ('*': all) at each suspension that a run has.",
)
@click.option(
    "--error",
    "errors",
    multiple=True,
    help="Let waits for the outside end with this exception, such as OSError.",
)
@click.option("--users", type=click.IntRange(min=1), help="Users of a Scenario.")
@click.option(
    "--io",
    type=click.Choice(["sim", "gate", "live"]),
    help="What stands for the outside.  [default: sim]",
)
@click.option(
    "--track",
    is_flag=True,
    default=None,
    help="Prove by classes of orders, over what shared() registers.",
)
@click.option(
    "--symmetric",
    is_flag=True,
    default=None,
    help="Take the users of a Scenario as identical, and prove many of them.",
)
@click.option("--schedules", type=click.IntRange(min=1), help="At most so many runs.")
@click.option("--seed", type=int, help="Repeat the exploration of this seed.")
@click.option(
    "--report",
    default="reports",
    show_default=True,
    help="Folder for the schedules that fail.",
)
def explore_command(path: str, report: str, **options: Any) -> None:  # noqa: ANN401  # click's own types
    """Search the schedules of async tests and Scenarios for one that breaks them."""
    console = _console()
    given = {name: value for name, value in options.items() if value not in (None, ())}
    seconds_of(given.get("budget", "5s"))
    _require_writable(Path(report))
    for sentence in left_out(path):
        console.print(Text(f"{sentence}."), soft_wrap=True)
    found = find_scenarios(path)
    _require_crowd(found, given)
    verdicts = []
    is_refused = False
    for reference, scenario in found:
        console.print(Text(reference, "bold"))
        try:
            verdict = _explore_one(console, report, reference, scenario, given)
        except UsageError as exc:
            # One wrong marker is no reason to leave the others unexplored.
            _complain(exc)
            is_refused = True
        else:
            verdicts += [verdict] if verdict is not None else []
    sys.exit(EXIT_USAGE if is_refused else merge(verdicts).exit_code)


def _require_writable(folder: Path) -> None:
    """Refuse a folder before the search, and leave none where nothing is found."""
    is_new = not folder.exists()
    make_folder(folder)
    if is_new:
        folder.rmdir()


def _require_crowd(found: list[tuple[str, Any]], given: dict[str, Any]) -> None:
    words = [f"--{name}" for name in ("users", "symmetric") if name in given]
    if words and not any(isinstance(scenario, Scenario) for _, scenario in found):
        raise UsageError(
            f"{' and '.join(words)}: there is no Scenario here, only plain tests, which "
            "start their users themselves. Leave it out, or write a Scenario(setup, "
            "user, check)."
        )


def _explore_one(
    console: Console,
    report: str,
    reference: str,
    scenario: Any,  # noqa: ANN401  # a coroutine function or a Scenario
    given: dict[str, Any],
) -> Verdict | None:
    """Explore and print one scenario; return nothing for one that skips itself."""
    wanted = dict(given)
    if not isinstance(scenario, Scenario):
        # A file may hold both kinds; a plain test starts its users itself.
        wanted.pop("users", None)
        wanted.pop("symmetric", None)
    outcome = mark_outcome(scenario)
    if outcome:
        console.print(Text(outcome), soft_wrap=True)
        return None
    marked = marked_options(scenario)
    try:
        with console.status("") as status:
            result = explore(
                scenario,
                reference=reference,
                progress=_listener(status),
                **(marked | wanted),
            )
    except BaseException as exc:
        outcome = outcome_of(exc)
        if not outcome:
            raise
        console.print(Text(outcome), soft_wrap=True)
        return None
    # A token that is broken into lines cannot be copied.
    console.print(Text(result.text()), soft_wrap=True)
    witness = result.witness
    if witness is not None and witness.schedule.io != "live":
        console.print(Text(f"    File    {_keep_schedule(report, witness)}"))
    console.print(Text(f"    Seed    {result.seed}", "dim"))
    return result.conclusion.verdict


def _listener(status: Status) -> Listener:
    def show(progress: Progress) -> None:
        status.update(
            f"{_count(progress.schedules, 'run')}, "
            f"{_count(progress.distinct, 'distinct order')}, "
            f"{progress.since_new_s:.0f} s since a new one, {progress.left_s:.0f} s left"
        )

    return show


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _keep_schedule(report: str, witness: Witness) -> Path:
    name = re.sub(r"\W+", "-", witness.scenario).strip("-") or "scenario"
    path = make_folder(Path(report)) / f"{name}.schedule"
    path.write_text(witness.schedule.text(), encoding="utf-8")
    return path


@cli.command("replay")
@click.argument("word", metavar="TOKEN|FILE")
@click.option(
    "--scenario", help="PATH::NAME, if the schedule does not know or it moved."
)
@click.option(
    "--as-test",
    type=click.Path(path_type=Path),
    help="Write a pytest file that fails while the bug is there.",
)
def replay_command(word: str, scenario: str | None, as_test: Path | None) -> None:
    """Follow one schedule of a scenario and show what happens, line by line."""
    console = _console()
    if as_test is not None:
        _require_replaceable(as_test)
    schedule = read_schedule(word)
    if scenario is not None:
        schedule = dataclasses.replace(schedule, scenario=scenario)
    if not schedule.scenario:
        raise UsageError(
            "The schedule does not say of which scenario it is. Pass --scenario "
            "PATH::NAME."
        )
    outcome = replay(load_scenario(schedule.scenario), schedule)
    console.print(Text(outcome.text()), soft_wrap=True)
    if outcome.failure is None:
        is_stale = outcome.parted is not None
        sys.exit((Verdict.UNKNOWN if is_stale else Verdict.VALID).exit_code)
    if as_test is not None:
        _write_test(as_test, make_test(schedule, outcome.failure, as_test.parent))
        console.print(Text(f"    Test    {as_test}"))
    sys.exit(Verdict.INVALID.exit_code)


def _require_replaceable(path: Path) -> None:
    """Refuse to write a test over anything but such a test."""
    if path.is_dir():
        raise UsageError(
            f"--as-test {path} is a folder: give the file to write, such as "
            f"{path / 'test_regression.py'}."
        )
    if path.is_file() and not is_written_test(
        path.read_text(encoding="utf-8", errors="replace")
    ):
        raise UsageError(
            f"--as-test {path} exists and is no test that the explorer wrote, so it is "
            "left alone. Give the name of a new file."
        )


def _write_test(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise UsageError(
            f"--as-test {path} cannot be written: {exc.strerror}. Give a file in a "
            "folder you may write to."
        ) from exc


@cli.command()
def doctor() -> None:
    """Say which Postgres and Redis were found, what will be used, what is missing."""
    console = _console()
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


def _keep(console: Console, history: History, folder: Path) -> None:
    """Judge what was recorded before the run broke off, and say where it is."""
    if not history.of(RunRecord):
        return
    judgement = judge(history)
    written = write_reports(folder, judgement, history)
    if judgement.findings:
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


def _conclude(
    console: Console,
    judgement: Judgement,
    history: History,
    folder: Path | None,
    *,
    note: str = "",
) -> None:
    print_judgement(console, judgement, history)
    if note and judgement.verdict is not Verdict.VALID:
        console.print(Text(f"  {note}"))
    if folder is not None:
        paths = write_reports(folder, judgement, history)
        names = ", ".join(str(path) for path in paths)
        console.print(Text(f"  Reports: {names}", "dim"))
    sys.exit(judgement.verdict.exit_code)


def _complain(problem: object) -> None:
    """Print one sentence to stderr; what reads it from a pipe gets it in one line."""
    console = Console(stderr=True, highlight=False)
    console.print(
        Text(f"isolation-audit: {problem}"), soft_wrap=not console.is_terminal
    )


def main() -> None:
    """Run the command line; a user's mistake gets one sentence, no traceback."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as exc:
        exc.show()
        sys.exit(EXIT_USAGE)
    except UsageError as exc:
        _complain(exc)
        sys.exit(EXIT_USAGE)
    except TargetError as exc:
        _complain(exc)
        sys.exit(EXIT_TARGET)
    except InternalError as exc:
        _complain(exc)
        sys.exit(EXIT_INTERNAL)
    except KeyboardInterrupt:
        _complain("interrupted; nothing was left running.")
        sys.exit(EXIT_INTERRUPTED)
    except Exception as exc:  # noqa: BLE001  # whatever it is, it is not a finding: not exit 1
        frame = traceback.extract_tb(exc.__traceback__)[-1]
        error = InternalError(
            f"{type(exc).__name__}: {exc} (in {frame.name}, {frame.filename} line "
            f"{frame.lineno})."
        )
        _complain(error)
        sys.exit(EXIT_INTERNAL)


if __name__ == "__main__":
    main()
