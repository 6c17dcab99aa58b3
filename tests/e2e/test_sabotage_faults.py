"""Twins that only a fault shows: each is caught by its rule, and the sound one is not.

Each is the reference service with one mistake that no traffic alone reveals, run as a
real process on real Postgres and Redis, which the fault disturbs.
"""

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from test_framework.check import Judgement
from test_framework.config import load_config
from test_framework.core import History, Verdict
from test_framework.staging import perform

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.power]

USERS = 8


class Twin(NamedTuple):
    """A twin and how it is to be caught.

    Attributes:
        factory: Function of ``tests.e2e.sabotage.outages``.
        fault: The fault that shows the mistake.
        rules: The rules that name it: one of them does.
        seconds: How long users work around the fault.
        workers: Processes; a mistake in memory needs but one.
    """

    factory: str
    fault: str
    rules: tuple[str, ...]
    seconds: float = 6.0
    workers: int = 1


LOST = ("event-lost", "own-data-wrong")
"""Of all events of a run, or of its first ones alone."""

TWINS = [
    Twin("create_hedged_writes", "partition", ("write-applied-twice",), 4.0),
    Twin("create_early_acknowledgement", "kill-worker", ("acknowledged-write-lost",)),
    Twin("create_lossy_events", "restart-redis", LOST, 10.0),
    Twin("create_poisoned_pool", "full-disk", ("failed-after-recovery",), 8.0),
    Twin("create_lasting_connection", "terminate-backends", ("no-recovery",)),
    Twin("create_hoarder", "clock-jump", ("memory-kept",)),
]

EACH_RUN = {"create_hedged_writes"}
"""The others are asked for by ``make soak``."""


@pytest.mark.parametrize(
    "twin",
    [
        pytest.param(
            twin,
            id=twin.factory,
            marks=() if twin.factory in EACH_RUN else pytest.mark.long,
        )
        for twin in TWINS
    ],
)
def test_twin_is_caught_under_its_fault(
    twin: Twin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What breaks a promise under a fault is found by the rule of that promise."""
    monkeypatch.setattr("test_framework.swarm.nemesis.RECOVERY_LIMIT_S", 5.0)

    judgement = _audit(twin, tmp_path / "history.jsonl")

    rules = {finding.rule for finding in judgement.findings}
    assert rules & set(twin.rules)
    assert judgement.verdict is Verdict.INVALID
    (endured,) = judgement.faults
    assert endured.overlapped > 0
    broken = [cell.promise for cell in endured.measured if cell.verdict == "invalid"]
    assert broken
    assert "isolation" not in broken


@pytest.mark.long
@pytest.mark.parametrize("fault", sorted({twin.fault for twin in TWINS}))
def test_sound_service_keeps_its_promises_under(fault: str, tmp_path: Path) -> None:
    """The service that the twins are made of breaks nothing under the same faults."""
    sound = Twin("", fault, (), 8.0, workers=2)

    judgement = _audit(sound, tmp_path / "history.jsonl")

    assert [finding.rule for finding in judgement.findings] == []
    assert judgement.verdict is Verdict.VALID, judgement.evidence.gaps


def _audit(twin: Twin, path: Path) -> Judgement:
    config = load_config(
        start=Path(__file__).parent,
        target=f"tests.e2e.sabotage.outages:{twin.factory}"
        if twin.factory
        else "app.main:create_app",
        users=USERS,
        workers=twin.workers,
        faults=twin.fault,
        fault_seconds=twin.seconds,
        detectors="none",
    )
    # Servers of its own: what is given may not be restarted.
    environ = {k: v for k, v in os.environ.items() if not k.endswith("_URL")}
    history = History(path)
    try:
        return perform(config, history, environ=environ)
    finally:
        history.close()
