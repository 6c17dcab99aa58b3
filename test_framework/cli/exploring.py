"""``explore`` and ``replay``: searches through schedules, and one schedule again."""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.status import Status
from rich.text import Text

from test_framework.cli.output import EXIT_USAGE, complain, make_console
from test_framework.core import UsageError, Verdict, merge
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
from test_framework.report import make_folder


@click.command("explore")
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
    console = make_console()
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
            complain(exc)
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


@click.command("replay")
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
    console = make_console()
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
