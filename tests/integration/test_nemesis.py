"""The nemesis of an audit, on a real process: it strikes, heals, waits and tells."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from test_framework.check import Judgement, judge
from test_framework.config import load_config
from test_framework.core import FaultRecord, History, UsageError, Verdict
from test_framework.faults import Field
from test_framework.staging import staged
from test_framework.swarm import Plan, Target, User, run_audit
from tests.targets.notes_audit import login, workload

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[2]
AUDIT = REPOSITORY / "tests" / "targets" / "notes_audit.py"
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def notes() -> Iterator[Target]:
    """The notes service in one process, behind a proxy; no database, no Redis."""
    config = load_config(
        start=REPOSITORY,
        target="tests.targets.notes:create_app",
        faults="reset-connections",
        services="none",
        workers=1,
    )
    with staged(config, environ={}) as target:
        yield target


class Scripted:
    """A fault of a test's own.

    Attributes:
        log: What was done to it.
    """

    name = "scripted"
    promise = "Nothing is promised."

    def __init__(self, *, spoils: bool = False) -> None:
        self.log: list[str] = []
        self.has_struck = asyncio.Event()
        self._spoils = spoils

    def lacks(self, field: Field) -> str | None:  # noqa: ARG002  # of the protocol
        """Strike anywhere."""
        return None

    async def strike(self, field: Field) -> None:
        """Take note; one that spoils refuses connections for good."""
        self.log.append("strike")
        self.has_struck.set()
        if self._spoils and field.service_proxy is not None:
            field.service_proxy.refuse()
            field.service_proxy.reset()

    async def heal(self, field: Field) -> None:  # noqa: ARG002  # of the protocol
        """Take note, after the while that healing takes."""
        await asyncio.sleep(0.05)
        self.log.append("heal")


async def audit(target: Target, history: History, **fields: Any) -> Judgement:  # noqa: ANN401  # the fields of Plan
    """Run an audit of a few users under faults, and judge it."""
    values: dict[str, Any] = {
        "workload": workload,
        "login": login,
        "users": 6,
        "shapes": ("own-connections",),
        "faults": ("reset-connections",),
        "fault_seconds": 2.0,
    }
    plan = Plan(**(values | fields))
    async with asyncio.timeout(LIMIT_S):
        await run_audit(target, plan, seed=7, history=history, repeat="repeat me")
    return judge(history)


async def test_sound_service_keeps_every_promise(notes: Target) -> None:
    """It is disturbed, recovers, and is judged; what cannot strike is told."""
    history = History()

    judgement = await audit(
        notes, history, faults=("reset-connections", "restart-postgres")
    )

    assert judgement.verdict is Verdict.VALID, judgement.evidence.gaps
    assert judgement.findings == ()
    by_name = {one.fault: one for one in judgement.faults}
    struck = by_name["reset-connections"]
    assert struck.overlapped > 0
    assert struck.recovery_s is not None
    assert {str(cell.verdict) for cell in struck.measured} <= {"valid", "unknown"}
    assert by_name["restart-postgres"].measured == ()
    told = [
        line for line in judgement.evidence.not_exercised if "not exercised" in line
    ]
    assert [line.split(":")[0] for line in told] == ["fault restart-postgres"]
    (record, _) = sorted(
        history.of(FaultRecord), key=lambda fault: fault.struck_ns is None
    )
    assert record.memory_before
    assert record.memory_after
    assert record.probes == 6


async def test_service_that_does_not_come_back_ends_the_faults(
    notes: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a finding, and what it left is not taken for the next fault's doing."""
    spoiling, next_one = Scripted(spoils=True), Scripted()
    monkeypatch.setattr(
        "test_framework.swarm.nemesis.chosen", lambda _: [spoiling, next_one]
    )
    monkeypatch.setattr("test_framework.swarm.nemesis.RECOVERY_LIMIT_S", 0.5)
    history = History()
    assert notes.field is not None
    assert notes.field.service_proxy is not None

    async def restore(_: User) -> None:
        notes.field.service_proxy.accept()  # type: ignore[union-attr]  # asserted above

    judgement = await audit(notes, history, logout=restore)

    rules = [finding.rule for finding in judgement.findings]
    assert "no-recovery" in rules
    first, second = history.of(FaultRecord)
    assert first.late == tuple(range(6))
    assert next_one.log == []
    assert "had not recovered from scripted" in second.reason


async def test_cancelled_run_heals_what_it_struck(
    notes: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ends the run in mid-fault finds everything healed."""
    fault = Scripted()
    monkeypatch.setattr("test_framework.swarm.nemesis.chosen", lambda _: [fault])
    history = History()
    running = asyncio.create_task(audit(notes, history, fault_seconds=200.0))
    monkeypatch.setattr("test_framework.swarm.nemesis.CALM_SHARE", 0.001)

    async with asyncio.timeout(LIMIT_S):
        await fault.has_struck.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    assert fault.log == ["strike", "heal"]
    (record,) = history.of(FaultRecord)
    assert record.healed_ns is not None
    assert record.reason == "the run was interrupted"


async def test_wrong_hook_ends_the_run_and_heals(
    notes: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in the audit file is told at once, not after the faults."""
    fault = Scripted()
    monkeypatch.setattr("test_framework.swarm.nemesis.chosen", lambda _: [fault])
    monkeypatch.setattr("test_framework.swarm.nemesis.CALM_SHARE", 0.001)

    async def wrong(user: User) -> None:
        await fault.has_struck.wait()
        user.own("")

    with pytest.raises(UsageError, match="an identity is a non-empty string"):
        await audit(notes, History(), under_faults=wrong, fault_seconds=200.0)

    assert fault.log == ["strike", "heal"]


async def test_hook_that_never_ends_well_proves_nothing(notes: Target) -> None:
    """What users do under faults is excused for failing, not for failing always."""

    async def broken(_: User) -> None:
        message = "no such field"
        raise KeyError(message)

    judgement = await audit(notes, History(), under_faults=broken)

    assert judgement.verdict is Verdict.UNKNOWN
    assert any(
        "never came to its end: KeyError" in gap for gap in judgement.evidence.gaps
    )


def test_interrupt_in_mid_fault_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while a worker is stopped: it goes on, ends, and the record says so."""
    command = [
        sys.executable,
        "-c",
        "from test_framework.cli import main; main()",
        "run",
    ]
    command += ["--target", "tests.targets.notes:create_app", "--workload", str(AUDIT)]
    command += ["--users", "3", "--workers", "1", "--services", "none"]
    command += ["--faults", "stop-worker", "--fault-seconds", "8"]
    command += ["--report", str(tmp_path)]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={k: v for k, v in os.environ.items() if not k.endswith("_URL")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        stopped = _await_stopped_child(process.pid)
        process.send_signal(signal.SIGINT)
        code = process.wait(LIMIT_S)
    finally:
        process.kill()
        process.wait()

    gone, alive = psutil.wait_procs([stopped], timeout=LIMIT_S)
    assert code == 130
    assert not alive, gone
    (record,) = History.load(tmp_path).of(FaultRecord)
    assert record.struck_ns is not None
    assert record.healed_ns is not None
    assert record.reason == "the run was interrupted"


def _await_stopped_child(pid: int) -> psutil.Process:
    parent, deadline = psutil.Process(pid), time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        for child in parent.children(recursive=True):
            if child.status() == psutil.STATUS_STOPPED:
                return child
        signal.sigtimedwait([], 0.05)
    pytest.fail("no worker was stopped")
