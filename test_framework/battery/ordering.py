"""Conformance of memory: the litmus tests, on any registers.

Each execution of a litmus test begins with registers that were reset, to a number that
no other execution uses, so a value from an earlier one is known for what it is. In half
of the executions the order of all events is driven, one event after the other, through
every order that there is; in the other half the workers go at once, each as fast as it
can. The outcomes are held against those that the promised model allows.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from test_framework.battery.config import RaceTestConfig, WorkerKind
from test_framework.battery.ordering_driver import Driver, Executions
from test_framework.battery.ordering_lanes import lanes
from test_framework.battery.report import RaceFailure, RaceReport
from test_framework.battery.subject import Make, made, name_of
from test_framework.check.litmus import (
    LITMUS_TESTS,
    SEQUENTIAL,
    Litmus,
    LitmusTable,
    MemoryModel,
    Unit,
    check_litmus,
    litmus_named,
)
from test_framework.check.witness import Checked
from test_framework.core import Verdict, merge, stream

if TYPE_CHECKING:
    import random


_NEEDS = {
    Unit.OPERATION: ("read", "write"),
    Unit.TRANSACTION: ("read", "write", "begin", "commit", "rollback"),
    Unit.BATCH: ("read", "write", "execute"),
}


@dataclass(frozen=True, slots=True)
class OrderingReport(RaceReport):
    """The outcome of the litmus tests.

    Attributes:
        tables: For each test what is allowed, forbidden and was seen.
    """

    tables: tuple[LitmusTable, ...] = ()

    def table(self) -> str:
        """Return one line for each test, as a person reads it."""
        return "\n".join(_rows(self.tables))

    def details(self) -> str:
        """Return every outcome of every test."""
        return "\n".join(line for table in self.tables for line in table.lines())

    def __str__(self) -> str:
        """Say what was found, ready to read."""
        return f"{RaceReport.__str__(self)}\n{self.table()}"


class OrderingRaceTest:
    """Runs the litmus tests on registers and judges their outcomes by a model.

    Args:
        make: Makes fresh registers: a class or function, or a coroutine function. They
            are closed by their ``aclose`` if they have one.
        model: What they are held to; what they say of themselves in their attribute
            ``model`` by default, else that each operation is atomic.
        name: What reports call them; the name of ``make`` by default.
        tests: Names of the litmus tests; all by default.

    Raises:
        UsageError: There is no litmus test of a name.
    """

    def __init__(
        self,
        make: Make[Any],
        model: MemoryModel | None = None,
        *,
        name: str | None = None,
        tests: Sequence[str] | None = None,
    ) -> None:
        self._make, self._model = make, model
        self.name = name or name_of(make)
        self._tests: tuple[Litmus, ...] = LITMUS_TESTS
        if tests is not None:
            self._tests = tuple(map(litmus_named, tests))

    async def run(self, config: RaceTestConfig | None = None) -> OrderingReport:
        """Run them, and raise if the registers are not shown to be right.

        Args:
            config: How; see ``check``.

        Raises:
            RaceFailure: An outcome is forbidden, with its interleaving as the witness;
                or nothing is proved, with the reason. It is an ``AssertionError``.
        """
        report = await self.check(config)
        if report.verdict is not Verdict.VALID:
            raise RaceFailure(report)
        return report

    async def check(self, config: RaceTestConfig | None = None) -> OrderingReport:
        """Run them, and return what was found.

        Args:
            config: How: ``iterations`` are the executions of each test, which says by
                itself how many workers it has. Registers whose methods are functions
                are run in threads, unless processes are asked for.

        Raises:
            UsageError: They lack a method that the model needs.
        """
        config = config or RaceTestConfig()
        async with made(self._make) as registers:
            model: MemoryModel = (
                self._model or getattr(registers, "model", None) or SEQUENTIAL
            )
            kind = _kind_for(registers, config)
            count = max(len(litmus.programs) for litmus in self._tests)
            async with lanes(
                registers, kind, count, cpus=config.cpus, needs=_NEEDS[model.unit]
            ) as crew:
                driver = Driver(crew, model, config, is_spinning=kind != "task")
                judged = [
                    await _judge(driver, litmus, model, config)
                    for litmus in self._tests
                ]
        tables = tuple(table for table, _ in judged)
        checks = tuple(check for _, check in judged)
        return OrderingReport(self.name, (), checks, tables=tables)


def _kind_for(registers: object, config: RaceTestConfig) -> WorkerKind:
    read = getattr(registers, "read", None)
    is_blocking = read is not None and not inspect.iscoroutinefunction(read)
    return "thread" if is_blocking and config.kind == "task" else config.kind


async def _judge(
    driver: Driver, litmus: Litmus, model: MemoryModel, config: RaceTestConfig
) -> tuple[LitmusTable, Checked]:
    rng: random.Random = stream(config.seed, "litmus", litmus.name)
    done = await driver.execute(litmus, rng)
    table = check_litmus(litmus, model, done.runs)
    return table, _with_troubles(table.checked, done)


def _with_troubles(checked: Checked, done: Executions) -> Checked:
    """Add what went wrong around the executions."""
    verdict = merge([checked.verdict, done.verdict])
    # A reset that failed explains what came after it.
    anomalies = (*done.anomalies, *checked.anomalies)
    return Checked(
        checked.checker,
        checked.model,
        Verdict.INVALID if anomalies else verdict,
        reason=checked.reason if done.verdict is Verdict.VALID else done.reason,
        anomalies=anomalies,
        facts={**checked.facts, "refused": done.refused, "retried": done.retried},
    )


def _rows(tables: Sequence[LitmusTable]) -> Iterator[str]:
    yield (
        f"{'test':6} {'telling outcome':30} {'is':9} {'seen':>5} {'allowed':>8} "
        f"{'forbidden':>9} {'old':>4} {'driven':>9} {'free':>5} {'overlap':>7}"
    )
    for table in tables:
        litmus, seen = table.litmus, table.seen
        forbidden = sum(
            count for one, count in seen.items() if one not in table.allowed
        )
        shown = sum(1 for outcome in table.allowed if seen[outcome])
        yield (
            f"{litmus.name:6} {litmus.label(litmus.telling):30} "
            f"{'allowed' if litmus.telling in table.allowed else 'forbidden':9} "
            f"{seen[litmus.telling]:>5} {f'{shown} of {len(table.allowed)}':>8} "
            f"{forbidden:>9} {table.stale:>4} "
            f"{f'{table.orders}/{table.possible_orders}':>9} {table.free_orders:>5} "
            f"{table.overlapped:>7}"
        )
