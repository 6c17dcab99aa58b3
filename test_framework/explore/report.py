"""What an exploration concludes, and the proof when it found something."""

import enum
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePath

from test_framework.core import UsageError, Verdict
from test_framework.explore.failures import Failure
from test_framework.explore.schedule import Backwards, Raise, Schedule
from test_framework.explore.waits import NOWHERE


class Conclusion(enum.StrEnum):
    """The four things an exploration can say; none of them is a plain "holds"."""

    FOUND = "FOUND"
    PROVEN = "PROVEN"
    SAMPLED = "SAMPLED"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def verdict(self) -> Verdict:
        """The verdict of the house: what was only sampled showed nothing wrong."""
        return {
            Conclusion.FOUND: Verdict.INVALID,
            Conclusion.PROVEN: Verdict.VALID,
            Conclusion.SAMPLED: Verdict.VALID,
            Conclusion.INCONCLUSIVE: Verdict.UNKNOWN,
        }[self]


@dataclass(frozen=True, slots=True)
class Line:
    """A stretch of the witness: one task goes on.

    Attributes:
        task: Path name, ``turns`` or ``clock``.
        steps: How many steps; 0 where only requests left.
        start: ``file:line`` where it was suspended before; empty at its start.
        stop: ``file:line`` where it gave up control; empty when it ended, ``?`` where
            no line of the program waits.
        code: The source line at ``stop``, or what else it waits for.
        fault: What was done to it there; empty for nothing.
        requests: What it asked real services for from there, in the order of leaving.
    """

    task: str
    steps: int
    start: str
    stop: str
    code: str
    fault: str = ""
    requests: tuple[str, ...] = ()


def runs_in_words(count: int) -> str:
    """Return ``1 run``, ``2 runs``."""
    return f"{count:,} run{'s' * (count != 1)}"


def failure_lines(failure: Failure) -> list[str]:
    """Return what went wrong as lines, the first one not indented."""
    has_place = failure.where not in {"", NOWHERE}
    at = f"  at {failure.where}" if has_place else ""
    head = f"{failure.headline}{at}"
    return [head, *(f"    {detail}" for detail in failure.details)]


def story_lines(story: Sequence[Line]) -> list[str]:
    """Return a story as indented lines: task, steps, place, requests and fault.

    The first one says how to read the others.
    """
    if not story:
        return []
    task_width = max(len(line.task) for line in story)
    steps_width = max(len("1 steps"), *(len(_steps(line)) for line in story))
    lines = ["    Who goes on, how far, and the line where it then waits:"]
    lines += [
        f"    {line.task:<{task_width}}  {_steps(line):<{steps_width}}  {_told(line)}"
        for line in story
    ]
    return lines


def _steps(line: Line) -> str:
    if not line.steps:
        return "sends"
    return f"{line.steps} {'step' if line.steps == 1 else 'steps'}"


def _told(line: Line) -> str:
    if line.stop == NOWHERE:
        stop = line.code or "outside of the program"
    else:
        stop = f"{line.stop}  {line.code}" if line.stop else "to its end"
    runs = [(request, len(list(group))) for request, group in groupby(line.requests)]
    requests = ", ".join(
        f"{count}x {request}" if count > 1 else request for request, count in runs
    )
    sent = f"   -> {requests}" if requests else ""
    fault = f"   <- {line.fault}" if line.fault else ""
    return f"{stop}{sent}{fault}"


@dataclass(frozen=True, slots=True)
class Witness:
    """The shortest schedule known to fail, and what fails.

    Attributes:
        schedule: Repeats it.
        failure: What went wrong.
        story: The schedule with source lines.
        users: Users of the scenario; None for a plain test.
        found_after: Runs until the first failure, that one included.
        shrink_runs: Runs spent on shrinking.
        is_confirmed: The stock loop fails the same way (what does not is no witness);
            None when that was not tried (fidelities other than ``fifo``, real I/O).
        scenario: ``PATH::NAME`` of the scenario; empty when it has none.
    """

    schedule: Schedule
    failure: Failure
    story: tuple[Line, ...]
    users: int | None
    found_after: int
    shrink_runs: int
    is_confirmed: bool | None
    scenario: str = ""

    @property
    def command(self) -> str:
        """The command line that repeats the failing run."""
        return f"isolation-audit replay {self.schedule.token()}"

    def text(self) -> str:
        """Return the proof as lines: what fails, how it comes to that, how to repeat."""
        lines = [*failure_lines(self.failure), *story_lines(self.story)]
        if Backwards() in self.schedule.faults:
            lines.append(
                "    The sets of asyncio are iterated backwards: their order is that of "
                "addresses."
            )
        if self.is_confirmed:
            lines.append("    The loop of plain asyncio fails the same way.")
        elif self.schedule.fidelity == "await":
            lines.append("    Fidelity await: every await may take any time.")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one exploration.

    Attributes:
        conclusion: What it says.
        claim: One sentence that says how far that goes.
        seed: Repeats the exploration.
        schedules: Runs made, shrinking and replays not counted.
        distinct: Different orders among them.
        unseen_mass: Estimated share of orders not seen (Good-Turing: orders seen once
            by runs drawn); None when nothing was drawn.
        seconds: Wall time.
        tracked: Names of what was registered with ``shared()`` or reported with
            ``access()``; empty without ``track=True``.
        classes: Classes of orders that differ only in steps that do not touch the same,
            each run once; None without ``track=True`` and where it did not apply.
        notes: What a reader must know, such as jobs of executors.
        witness: The proof, when FOUND.
    """

    conclusion: Conclusion
    claim: str
    seed: int
    schedules: int
    distinct: int
    unseen_mass: float | None
    seconds: float
    tracked: tuple[str, ...] = ()
    classes: int | None = None
    notes: tuple[str, ...] = field(default=())
    witness: Witness | None = None

    @property
    def verdict(self) -> Conclusion:
        """The conclusion, by the word that other rooms use."""
        return self.conclusion

    def text(self) -> str:
        """Return the report as lines for a terminal."""
        lines = [f"{self.conclusion}  {self.claim}"]
        if self.witness is not None:
            lines.append(self.witness.text())
            if self.witness.scenario:
                lines.append(f"    Replay  {self.witness.command}")
            elif self.witness.users is not None and self.witness.schedule.io != "live":
                lines.append("    No replay: give the Scenario a name at module level.")
        lines += [f"    Note: {note}" for note in self.notes]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long exploration has come.

    Attributes:
        schedules: Runs so far.
        distinct: Different orders so far.
        since_new_s: Seconds since the last new order.
        left_s: Seconds of the budget that are left.
    """

    schedules: int
    distinct: int
    since_new_s: float
    left_s: float


Listener = Callable[[Progress], object]


_TEST = '''"""{headline}

Found by the explorer; fails while the bug is there.
"""

from pathlib import Path

import pytest

from test_framework.core import IsolationError
from test_framework.explore import explore, load_scenario, replay

FILE = Path(__file__).parent / {path}
SCHEDULE = """\\
{schedule}"""


def test_{name}_stays_mended():
    """The order that once broke {name} does no harm."""
    try:
        scenario = load_scenario(f"{{FILE.resolve()}}::{scenario}")
        outcome = replay(scenario, SCHEDULE)
        assert outcome.failure is None, outcome.text()
        if outcome.parted is not None:
            # The program has changed since, so this order is another one: search.
            report = explore(scenario, {options})
            assert report.witness is None, report.text()
    except IsolationError as exc:
        raise pytest.fail.Exception(str(exc), pytrace=False) from None
'''


def as_test(schedule: Schedule, failure: Failure, folder: Path | None = None) -> str:
    """Return a pytest file that fails while the bug is there and passes without it.

    When the program has changed so that the schedule no longer fits, it explores the
    scenario instead, within the same bounds.

    Args:
        schedule: Repeats the failure; knows its scenario.
        failure: What goes wrong.
        folder: Where the file will be; the working folder when left out.

    Raises:
        UsageError: The scenario cannot be imported from a file.
    """
    if not schedule.scenario:
        raise UsageError(
            "The scenario is a local function or takes fixtures, so a test of its own "
            "cannot import it. Move it to the top of a module, or replay it with "
            "pytest --explore-replay."
        )
    file, _, scenario = schedule.scenario.partition("::")
    path = os.path.relpath(file, folder or Path.cwd())
    name = re.sub(r"\W+", "_", schedule.scenario.rpartition("::")[2])
    # The message may hold quotes and backslashes of the program.
    headline = failure.headline.replace("\\", "/").replace('"', "'")
    return _TEST.format(
        headline=headline,
        schedule=schedule.text(),
        name=name.removeprefix("test_"),
        path=json.dumps(PurePath(path).as_posix()),
        scenario=scenario,
        options=_options(schedule),
    )


def _options(schedule: Schedule) -> str:
    """Return arguments of ``explore`` for orders and faults as those of a schedule."""
    options = ["schedules=2_000", "seed=1", f"fidelity={str(schedule.fidelity)!r}"]
    if schedule.users is not None:
        options.append(f"users={schedule.users}")
    if schedule.io != "sim":
        options.append(f"io={schedule.io!r}")
    errors = {fault.error for fault in schedule.faults if isinstance(fault, Raise)}
    if errors:
        options.append(f"errors={tuple(sorted(errors))!r}")
    if any(not isinstance(fault, Raise | Backwards) for fault in schedule.faults):
        options.append("cancel=True")
    return ", ".join(options)


def is_written_test(text: str) -> bool:
    """Tell whether a file begins as those that :func:`as_test` makes."""
    docstring = text.split('"""', 2)[1:2]
    return text.startswith('"""') and "\nFound by the explorer;" in docstring[0]
