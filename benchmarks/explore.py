"""The explorer beside plain asyncio and four other explorers: speed, finds, verdicts.

    python -m benchmarks explore [--quick] [--python=PATH]

Each contender runs in a process of its own on the programs of ``explore_scenarios``.
Speed is schedules per second of CPU; rounds of all contenders are interleaved, ratios
are taken within a round, and the median round counts. Finding power is counted in
schedules: all runs that were made, divided by the bugs that were found, so seeds that
gave up at the cap or at the end of the time count as well.
"""

import argparse
import contextlib
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.explore_environment import (
    Contender,
    Environment,
    NoAnswerError,
    prepare,
)
from benchmarks.explore_scenarios import RACES, VERDICTS

SEEDS = 24
CAP = 1_500
OUR_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PROVEN_USERS = 50


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: Interleaved rounds of everything that is timed.
        round_s: CPU time of one contender in one round.
        search_s: CPU time of a rival for all seeds of one program.
        shrink_s: CPU time of a contender to find and shrink in one program.
        enumerate_s: Wall time to enumerate one program.
        largest: Most users whose updates are enumerated.
    """

    rounds: int
    round_s: float
    search_s: float
    shrink_s: float
    enumerate_s: float
    largest: int


FULL = Effort(5, 0.2, 3.0, 3.0, 25.0, 5)
QUICK = Effort(2, 0.1, 0.3, 0.3, 1.0, 3)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a table: a contender, how it searches, and where it runs."""

    label: str
    adapter: str
    strategy: str
    python: str


class Field:
    """All contenders, started when first asked.

    Args:
        environment: Where the rivals live.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._running: dict[tuple[str, str, bool], Contender] = {}

    @property
    def rival_python(self) -> str:
        """Version of the rivals' Python."""
        return self._environment.version

    def entries(self, *wanted: tuple[str, str, str]) -> list[Entry]:
        """Return lines of label, adapter and strategy; the rivals on their Python."""
        return [
            Entry(
                label,
                adapter,
                strategy,
                OUR_PYTHON if adapter in {"ours", "asyncio"} else self.rival_python,
            )
            for label, adapter, strategy in wanted
        ]

    def on_rival_python(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the lines for the rivals' Python, none if it is ours as well."""
        if self._environment.python is None or self.rival_python == OUR_PYTHON:
            return []
        return [
            Entry(entry.label, entry.adapter, entry.strategy, self.rival_python)
            for entry in entries
        ]

    def ask(
        self,
        entry: Entry,
        do: str,
        *,
        is_web: bool = False,
        timeout_s: float = 60.0,
        **options: Any,  # noqa: ANN401  # whatever is JSON
    ) -> Any:  # noqa: ANN401  # likewise
        """Ask the contender of a line.

        Raises:
            NoAnswerError: There is no figure; it says why.
        """
        try:
            return self._contender(entry, is_web=is_web).ask(
                do, timeout_s=timeout_s, **options
            )
        except NoAnswerError as exc:
            raise NoAnswerError(f"{entry.label}: {exc}") from None

    def _contender(self, entry: Entry, *, is_web: bool) -> Contender:
        missing = self._environment.missing
        is_ours = entry.python == OUR_PYTHON and entry.adapter in {"ours", "asyncio"}
        if not is_ours:
            for needed in (entry.adapter, *["web"] * is_web):
                if needed in missing:
                    raise NoAnswerError(f"not installed: {missing[needed]}")
        python = sys.executable if is_ours else self._environment.python
        if python is None:
            raise NoAnswerError("there is no environment for it")
        key = (entry.adapter, python, is_web)
        if key not in self._running:
            self._running[key] = Contender(entry.adapter, python, is_web=is_web)
        return self._running[key]

    def close(self) -> None:
        """End all processes."""
        for contender in self._running.values():
            contender.close()


_TEXTS = {
    *("two tasks with", "contender", "Python", "left are"),
    *("program", "right", "read, wait, write", "conclusion"),
}


class Table:
    """A Markdown table whose cells may be sentences about a figure that is not there."""

    def __init__(self, title: str, *columns: str) -> None:
        print(f"\n### {title}\n", flush=True)
        print(f"| {' | '.join(columns)} |")
        sides = ("---" if name in _TEXTS else "--:" for name in columns)
        print(f"|{'|'.join(sides)}|", flush=True)
        self._notes: dict[str, None] = {}

    def row(self, label: str, *cells: str | NoAnswerError) -> None:
        """Print a line; what has no figure gets a dash, and a sentence below."""
        texts = []
        for cell in cells:
            texts.append("-" if isinstance(cell, NoAnswerError) else cell)
            if isinstance(cell, NoAnswerError):
                self._notes[f"{str(cell).rstrip('.')}."] = None
        print(f"| {label} | {' | '.join(texts)} |", flush=True)

    def end(self) -> None:
        """Print the sentences."""
        if self._notes:
            print()
        for note in self._notes:
            print(f"* {note}", flush=True)


# Speed


def measure_rates(
    field: Field,
    work: Sequence[tuple[Entry, str]],
    effort: Effort,
    *,
    is_web: bool,
) -> dict[tuple[Entry, str], list[float] | NoAnswerError]:
    """Return schedules per second in each round, by line and program."""
    rates: dict[tuple[Entry, str], list[float] | NoAnswerError] = {}
    for _ in range(effort.rounds):
        for entry, program in work:
            so_far = rates.setdefault((entry, program), [])
            if isinstance(so_far, NoAnswerError):
                continue
            try:
                rate = field.ask(
                    entry,
                    "rate",
                    is_web=is_web,
                    program=program,
                    strategy=entry.strategy,
                    seconds=effort.round_s,
                )
            except NoAnswerError as exc:
                rates[entry, program] = exc
            else:
                so_far.append(rate)
    return rates


def rate_cells(
    rates: list[float] | NoAnswerError, base: list[float] | NoAnswerError
) -> list[str | NoAnswerError]:
    """Return the median rate, and the median of its ratios to the base."""
    if isinstance(rates, NoAnswerError):
        return [rates, ""]
    if isinstance(base, NoAnswerError):
        return [f"{statistics.median(rates):,.0f}", base]
    ratio = statistics.median(a / b for a, b in zip(rates, base, strict=True))
    digits = 1 if ratio >= 0.1 else 3
    return [f"{statistics.median(rates):,.0f}", f"{ratio:.{digits}f}"]


def speed(field: Field, effort: Effort) -> None:
    """Print schedules per second, alone and with a web stack in memory."""
    stock, urw, explore = field.entries(
        ("asyncio.run", "asyncio", "run"),
        ("ours, one policy (URW)", "ours", "urw"),
        ("ours, explore()", "ours", "explore"),
    )
    rivals = field.entries(
        ("frontrun random", "frontrun", "random"),
        ("seedloop", "seedloop", "fifo"),
        ("simloom random", "simloom", "random"),
        ("simloop random", "simloop", "random"),
    )
    newer = field.on_rival_python([stock, urw])
    three = [(entry, "three awaits") for entry in (stock, urw, *newer, *rivals)]
    # explore() would end three awaits with a proof before it can be timed.
    ten = [(entry, "ten awaits") for entry in (stock, urw, explore)]
    found = [
        measure_rates(field, three + ten, effort, is_web=is_web)
        for is_web in (False, True)
    ]
    table = Table(
        "Schedules per second of CPU",
        "two tasks with",
        "contender",
        "Python",
        "alone",
        "of asyncio.run",
        "web stack imported",
        "of asyncio.run",
    )
    bases = {
        (entry.python, program): entry
        for entry, program in three + ten
        if entry.label == stock.label
    }
    for entry, program in three + ten:
        cells: list[str | NoAnswerError] = []
        base = bases.get((entry.python, program), stock)
        for rates in found:
            cells += rate_cells(rates[entry, program], rates[base, program])
        table.row(program, entry.label, entry.python, *cells)
    table.end()


def web_application(field: Field, effort: Effort) -> None:
    """Print schedules per second of a FastAPI application with five users."""
    stock, ours = field.entries(
        ("asyncio.Runner", "asyncio", "runner"),
        ("ours, one policy (URW)", "ours", "urw"),
    )
    rivals = field.entries(
        ("frontrun random", "frontrun", "random"),
        ("seedloop", "seedloop", "fifo"),
        ("simloom random", "simloom", "random"),
        ("simloop random", "simloop", "random"),
    )
    explore, driver = field.entries(
        ("ours, explore()", "ours", "explore"),
        ("ours, explore.asgi", "ours", "asgi"),
    )
    newer = field.on_rival_python([stock, ours])
    work = [
        (entry, "five users")
        for entry in (stock, ours, explore, driver, *newer, *rivals)
    ]
    rates = measure_rates(field, work, effort, is_web=True)
    bases = {entry.python: entry for entry, _ in work if entry.adapter == "asyncio"}
    table = Table(
        "FastAPI application in one process, five users at once, raw ASGI",
        "contender",
        "Python",
        "schedules per second of CPU",
        "of asyncio.Runner",
    )
    for entry, program in work:
        base = bases.get(entry.python, stock)
        cells = rate_cells(rates[entry, program], rates[base, program])
        table.row(entry.label, entry.python, *cells)
    table.end()


# Finding power


def finds(field: Field, effort: Effort) -> None:
    """Print the mean of schedules to the first bug."""
    table = Table(
        f"Schedules to the first bug: mean (found / seeds), cap {CAP:,}",
        "contender",
        *RACES,
    )
    for entry in field.entries(
        ("plain asyncio", "asyncio", "runner"),
        ("ours, explore()", "ours", "explore"),
        ("frontrun random", "frontrun", "random"),
        ("frontrun DPOR", "frontrun", "dpor"),
        ("seedloop", "seedloop", "fifo"),
        ("simloom random", "simloom", "random"),
        ("simloom PCT", "simloom", "pct:auto"),
        ("simloop random", "simloop", "random"),
        ("simloop PCT", "simloop", "pct"),
    ):
        table.row(
            entry.label, *(find_cell(field, entry, race, effort) for race in RACES)
        )
    table.end()


def find_cell(
    field: Field, entry: Entry, race: str, effort: Effort
) -> str | NoAnswerError:
    """Return the mean of schedules to the bug of one program."""
    try:
        result = field.ask(
            entry,
            "bugs",
            program=race,
            strategy=entry.strategy,
            seeds=SEEDS,
            cap=CAP,
            # Ours may take what it needs: the target is that all seeds find.
            seconds=60.0 if entry.adapter == "ours" else effort.search_s,
        )
    except NoAnswerError as exc:
        return exc
    runs, found, tried = result["runs"], result["found"], result["tried"]
    mean = f"{runs / found:,.1f}" if found else f"none in {runs:,}"
    return f"{mean} ({found}/{tried})"


def shrinking(field: Field, effort: Effort) -> None:
    """Print what is left of a failing schedule, and what that took."""
    races = [name for name in RACES if name != "needle"]
    table = Table(
        "Shrinking: left (most), runs (most), milliseconds of CPU (median)",
        "contender",
        "left are",
        *races,
    )
    units = {"ours": "switches", "simloom": "deviations", "simloop": "steps kept"}
    for entry in field.entries(
        ("ours", "ours", "explore"),
        ("simloom random", "simloom", "random"),
        ("simloop random", "simloop", "random"),
    ):
        cells = [shrink_cell(field, entry, race, effort) for race in races]
        table.row(entry.label, units[entry.adapter], *cells)
    table.end()


def shrink_cell(
    field: Field, entry: Entry, race: str, effort: Effort
) -> str | NoAnswerError:
    """Return the shrinking of one program as a cell."""
    try:
        shrunk = field.ask(
            entry,
            "shrinks",
            program=race,
            strategy=entry.strategy,
            seeds=SEEDS,
            seconds=effort.shrink_s,
        )
    except NoAnswerError as exc:
        return exc
    if not shrunk:
        return "not found"
    left, runs = (max(one[name] for one in shrunk) for name in ("left", "runs"))
    milliseconds = statistics.median(one["ms"] for one in shrunk)
    return f"{left:.0f}, {runs:.0f}, {milliseconds:,.1f}"


# Proofs and verdicts


def proofs(field: Field, effort: Effort) -> None:
    """Print how many executions it takes to see every class of orders."""
    sizes = range(2, effort.largest + 1)
    table = Table(
        "Every class of orders of n lost updates: executions, seconds of CPU",
        "contender",
        *(f"n={users}" for users in sizes),
    )
    table.row("classes in theory, (n!)^2", *(f"{CLASSES[users]:,}" for users in sizes))
    for entry in field.entries(
        ("ours, explore(track=True)", "ours", "explore"),
        ("frontrun DPOR, unbounded", "frontrun", "dpor"),
    ):
        cells = [classes_cell(field, entry, users, effort) for users in sizes]
        table.row(entry.label, *cells)
    table.end()
    entry = field.entries(("ours", "ours", "explore"))[0]
    table = Table(
        f"{PROVEN_USERS} identical users, explore(symmetric=True)",
        "read, wait, write",
        "conclusion",
        "executions",
        "seconds of CPU",
    )
    for label, is_locked in (("under a lock", True), ("without a lock", False)):
        try:
            result = field.ask(
                entry, "enumerate_states", users=PROVEN_USERS, is_locked=is_locked
            )
        except NoAnswerError as exc:
            table.row(label, exc, "", "")
        else:
            table.row(
                label,
                result["conclusion"],
                f"{result['executions']:,}",
                f"{result['seconds']:.2f}",
            )
    table.end()


CLASSES = {2: 4, 3: 36, 4: 576, 5: 14_400}


def classes_cell(
    field: Field, entry: Entry, users: int, effort: Effort
) -> str | NoAnswerError:
    """Return executions and seconds of one size as a cell."""
    try:
        result = field.ask(
            entry, "enumerate_classes", users=users, budget_s=effort.enumerate_s
        )
    except NoAnswerError as exc:
        return exc
    least = "" if result["is_complete"] else "cut off at "
    classes = f"{result['classes']:,} classes in " if result.get("classes") else ""
    return f"{least}{classes}{result['executions']:,}, {result['seconds']:.2f} s"


def verdicts(field: Field) -> None:
    """Print who judges programs right whose verdict is known."""
    entries = field.entries(
        ("ours", "ours", "explore"),
        ("frontrun DPOR", "frontrun", "dpor"),
        ("frontrun random", "frontrun", "random"),
        ("seedloop", "seedloop", "fifo"),
        ("simloom random", "simloom", "random"),
        ("simloop random", "simloop", "random"),
    )
    table = Table("Verdicts", "program", "right", *(entry.label for entry in entries))
    for name, program in VERDICTS.items():
        right = "passes" if program.is_correct else "fails"
        cells: list[str | NoAnswerError] = []
        for entry in entries:
            try:
                said = field.ask(
                    entry,
                    "judge",
                    program=name,
                    strategy=entry.strategy,
                    timeout_s=20.0,
                )
            except NoAnswerError as exc:
                cells.append(exc)
            else:
                cells.append(said if said == right else f"**{said}**")
        table.row(name, right, *cells)
    table.end()


@contextlib.contextmanager
def fielded(python: str) -> Iterator[Field]:
    """Install the rivals, and end all processes afterwards."""
    field = Field(prepare(python))
    try:
        yield field
    finally:
        field.close()


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="about a minute, rough")
    parser.add_argument(
        "--python", default="", help="Python >= 3.12 for the rivals; found if left out"
    )
    options = parser.parse_args()
    effort = QUICK if options.quick else FULL
    with fielded(options.python) as field:
        speed(field, effort)
        web_application(field, effort)
        finds(field, effort)
        shrinking(field, effort)
        proofs(field, effort)
        verdicts(field)


if __name__ == "__main__":
    main()
