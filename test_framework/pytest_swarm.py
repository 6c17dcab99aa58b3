"""What the ``swarm`` fixture gives a test: audits on the service under test."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from test_framework.check import Judgement, judge
from test_framework.core import History, IsolationError, UsageError, Verdict
from test_framework.report import HISTORY_NAME, print_judgement, write_reports
from test_framework.swarm import (
    FAULT_SECONDS,
    SHAPES,
    Plan,
    load_plan,
    run_audit,
)

if TYPE_CHECKING:
    from test_framework.swarm import Target
    from test_framework.swarm.plan import Hook


class Swarm:
    """Runs audits of one test against one service.

    Args:
        target: The service.
        users: Users of each audit unless its plan says otherwise.
        seed: Seed of each audit.
        folder: Where reports and histories go; one folder per audit.
        repeat: Command that repeats the test.
        faults: Faults of each audit unless its plan says otherwise; None for none.
        fault_seconds: How long users work around each; None for the usual time.

    Attributes:
        judgements: One per audit, in order.
    """

    def __init__(
        self,
        target: "Target",
        *,
        users: int,
        seed: int,
        folder: Path,
        repeat: str,
        faults: str | None = None,
        fault_seconds: float | None = None,
    ) -> None:
        self.target = target
        self.users = users
        self.seed = seed
        self.judgements: list[Judgement] = []
        self._folder = folder
        self._repeat = repeat
        self._faults = tuple(faults.split(",")) if faults else ()
        self._fault_seconds = fault_seconds or FAULT_SECONDS

    async def audit(
        self,
        workload: "Plan | Path | Hook",
        **options: Any,  # noqa: ANN401  # the fields of Plan
    ) -> Judgement:
        """Run one audit and judge it.

        Args:
            workload: A plan, an audit file, or ``async def workload(user)``.
            **options: Further fields of ``Plan``, such as ``login`` or ``shapes``.

        Returns:
            The judgement, whatever its verdict; reports are written beside it.
        """
        judgement, _ = await self._run(workload, options)
        return judgement

    async def require_isolation(
        self,
        workload: "Plan | Path | Hook",
        **options: Any,  # noqa: ANN401  # the fields of Plan
    ) -> Judgement:
        """Run one audit and fail the test unless its verdict is ``valid``."""
        judgement, history = await self._run(workload, options)
        if judgement.verdict is not Verdict.VALID:
            console = Console(record=True, width=100, file=io.StringIO())
            print_judgement(console, judgement, history)
            reason = next(
                (finding.claim for finding in judgement.findings),
                "; ".join(judgement.evidence.gaps),
            )
            pytest.fail(
                f"{judgement.verdict}: {reason}\n{console.export_text()}\n"
                f"  Reports: {self._folder}",
                pytrace=False,
            )
        return judgement

    async def _run(
        self, workload: "Plan | Path | Hook", options: dict[str, Any]
    ) -> tuple[Judgement, History]:
        try:
            plan = self._plan(workload, options)
        except UsageError as exc:
            pytest.fail(str(exc), pytrace=False)
        folder = self._folder / f"audit-{len(self.judgements) + 1}"
        folder.mkdir()
        history = History(folder / HISTORY_NAME)
        try:
            await run_audit(
                self.target, plan, seed=self.seed, history=history, repeat=self._repeat
            )
        except IsolationError as exc:
            pytest.fail(str(exc), pytrace=False)
        finally:
            history.close()
        judgement = judge(history)
        write_reports(folder, judgement, history)
        self.judgements.append(judgement)
        return judgement, history

    def _plan(self, workload: "Plan | Path | Hook", options: dict[str, Any]) -> Plan:
        if isinstance(workload, Plan):
            return workload
        options.setdefault("users", self.users)
        options.setdefault("faults", self._faults)
        options.setdefault("fault_seconds", self._fault_seconds)
        if options["faults"]:
            options.setdefault("shapes", SHAPES[:1])
        if isinstance(workload, Path):
            return load_plan(workload, **options)
        return Plan(workload=workload, **options)
