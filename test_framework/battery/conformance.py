"""What all conformance tests have in common: scenarios, each on a fresh implementation.

A scenario is what a worker does in a turn and how its history is judged. Whatever an
implementation does not offer is not passed over: the report says what was not tested.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from test_framework.battery.config import RaceTestConfig
from test_framework.battery.report import RaceFailure, RaceReport, common_checks
from test_framework.battery.runner import RaceRun, RaceTestRunner
from test_framework.battery.subject import Make, Offer, ask, made, name_of, offer_of
from test_framework.battery.worker import Work
from test_framework.check.witness import Checked
from test_framework.core import UsageError, Verdict

Subject = TypeVar("Subject")


class NothingToTestError(UsageError):
    """Raised when an implementation offers none of the scenarios that were chosen."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a scenario is judged by.

    Attributes:
        run: What the workers did.
        subject: The implementation.
        before: What the implementation held before; None where it holds nothing.
        after: What it held after; None of a run that was cut off.
    """

    run: RaceRun
    subject: Any = None
    before: Any = None
    after: Any = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way to use an implementation concurrently.

    Attributes:
        name: As people type it.
        needs: Methods without which it makes no sense.
        work: A turn of a worker.
        judge: Says what the history shows.
        most: How many turns all workers take together at most; None for no limit.
        is_cancelling: Whether operations are cancelled underway, which functions that
            are not coroutines cannot be.
        needs_overlap: Whether it proves nothing unless operations overlap; not so where
            workers meet between two operations.
    """

    name: str
    needs: tuple[str, ...]
    work: Work[Any]
    judge: Callable[[Evidence], Iterable[Checked]]
    most: int | None = None
    is_cancelling: bool = False
    needs_overlap: bool = True


class Conformance(Generic[Subject]):
    """A conformance test of any implementation of a protocol.

    Args:
        make: Makes a fresh implementation: its class, a function, or a coroutine
            function. What it makes is closed by its ``aclose`` if it has one.
        name: What reports call it; the name of ``make`` by default.

    Attributes:
        scenarios: All that there are.
        protocol: The methods that an implementation may have.
        reading: The method that tells what it holds; empty if there is none.
    """

    scenarios: ClassVar[tuple[Scenario, ...]] = ()
    protocol: ClassVar[tuple[str, ...]] = ()
    reading: ClassVar[str] = ""

    def __init__(self, make: Make[Subject], *, name: str | None = None) -> None:
        self._make = make
        self.name = name or name_of(make)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the scenarios."""
        return [scenario.name for scenario in cls.scenarios]

    async def run(
        self,
        config: RaceTestConfig | None = None,
        *,
        scenarios: Sequence[str] | None = None,
    ) -> RaceReport:
        """Test it, and raise if it is not shown to be right.

        Args:
            config: How; the defaults if none is given.
            scenarios: Which; all if none is named.

        Raises:
            RaceFailure: It is wrong, with the witness; or nothing is proved, with the
                reason. It is an ``AssertionError``.
            UsageError: There is no scenario of a name.
            NothingToTestError: It offers none of them.
        """
        report = await self.check(config, scenarios=scenarios)
        if report.verdict is not Verdict.VALID:
            raise RaceFailure(report)
        return report

    async def check(
        self,
        config: RaceTestConfig | None = None,
        *,
        scenarios: Sequence[str] | None = None,
    ) -> RaceReport:
        """Test it, and return what was found.

        Args:
            config: How; the defaults if none is given.
            scenarios: Which; all if none is named.

        Raises:
            UsageError: There is no scenario of a name.
            NothingToTestError: It offers none of them.
        """
        config = config or RaceTestConfig()
        chosen = self._chosen(scenarios)
        runs: list[RaceRun] = []
        checks: list[Checked] = []
        skipped: list[str] = []
        names: list[str] = []
        for scenario in chosen:
            async with made(self._make) as subject:
                reason = await self._reason_to_skip(scenario, subject, config)
                if reason:
                    skipped.append(f"{scenario.name}: {reason}")
                    continue
                run, found = await self._play(scenario, subject, config)
            runs.append(run)
            names.append(scenario.name)
            checks += [
                dataclasses.replace(check, checker=f"{scenario.name}: {check.checker}")
                for check in found
            ]
        if not runs:
            raise self._nothing(skipped)
        return RaceReport(
            self.name, tuple(runs), tuple(checks), tuple(skipped), tuple(names)
        )

    async def require_any(self, config: RaceTestConfig | None = None) -> None:
        """Do nothing if there is any scenario that it can be put to.

        Raises:
            NothingToTestError: There is none.
        """
        config = config or RaceTestConfig()
        async with made(self._make) as subject:
            reasons = [
                await self._reason_to_skip(scenario, subject, config)
                for scenario in self.scenarios
            ]
        if all(reasons):
            raise self._nothing(
                f"{scenario.name}: {reason}"
                for scenario, reason in zip(self.scenarios, reasons, strict=True)
            )

    async def _reason_to_skip(
        self, scenario: Scenario, subject: object, config: RaceTestConfig
    ) -> str:
        async with asyncio.timeout(config.timeout_s):
            offer = await offer_of(subject, self.protocol)
        return self.obstacle(scenario, offer, config)

    def _nothing(self, skipped: Iterable[str]) -> NothingToTestError:
        return NothingToTestError(
            f"{self.name}: there is nothing to test. {'; '.join(skipped)}."
        )

    def _chosen(self, names: Sequence[str] | None) -> list[Scenario]:
        known = self.names()
        strange = [name for name in names or () if name not in known]
        if strange:
            raise UsageError(
                f"{strange[0]!r} is no scenario of {type(self).__name__}. Choose from "
                f"{', '.join(known)}."
            )
        return [
            scenario
            for scenario in self.scenarios
            if names is None or scenario.name in names
        ]

    def obstacle(self, scenario: Scenario, offer: Offer, config: RaceTestConfig) -> str:
        """Return why a scenario cannot be played; empty if it can.

        Args:
            scenario: Which.
            offer: What the implementation has.
            config: How it would be played.
        """
        del config
        missing = [name for name in scenario.needs if name not in offer.methods]
        if missing:
            return f"it has no {', '.join(missing)}"
        if scenario.is_cancelling and not offer.is_async:
            return "what does not await cannot be cancelled"
        return ""

    def judge(self, scenario: Scenario, evidence: Evidence) -> Iterable[Checked]:
        """Say what the history of a scenario shows."""
        return scenario.judge(evidence)

    async def _play(
        self, scenario: Scenario, subject: object, config: RaceTestConfig
    ) -> tuple[RaceRun, list[Checked]]:
        if scenario.most is not None:
            turns = max(1, scenario.most // config.workers)
            config = dataclasses.replace(
                config, iterations=min(config.iterations, turns)
            )
        before = await self._read(subject, config)
        run = await RaceTestRunner(config).run(scenario.work, subject)
        # Of what hangs, asking it may hang as well.
        after = None if run.hang else await self._read(subject, config)
        checks = [*common_checks(run, needs_overlap=scenario.needs_overlap)]
        # What a lost worker did would be missing everywhere: that is no anomaly.
        if run.is_complete:
            checks += self.judge(scenario, Evidence(run, subject, before, after))
        return run, checks

    async def _read(self, subject: object, config: RaceTestConfig) -> object:
        if not self.reading:
            return None
        async with asyncio.timeout(config.timeout_s):
            return await ask(subject, self.reading)
