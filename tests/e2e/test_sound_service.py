"""The sound service passes: a hundred users, every traffic shape, no false alarm.

The counterpart of ``test_sabotage``: what finds every twin must be silent here, run
after run. With ``ISOLATION_TARGET`` these tests audit a service that already runs.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from test_framework.config import load_config
from test_framework.core import History, Verdict, WatchRecord
from test_framework.detect import DETECTORS
from test_framework.staging import perform
from test_framework.swarm import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from test_framework.check import Evidence, Judgement
    from test_framework.pytest_swarm import Swarm
    from test_framework.services import Services

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORKLOAD = Path(__file__).parents[2] / "audits" / "reference.py"
MET_SHARE = 0.99
"""Of all pairs of regular users, those who must have been in flight together."""
HELD_SHARE = 0.95
"""Of each burst of all users, what the service must have held at one time."""
STALLED_BURSTS = 1
"""Bursts that a machine busy with other things may tear apart."""


@pytest.mark.isolation(users=100)
async def test_sound_service_passes_every_shape(swarm: "Swarm") -> None:
    """All users together meet in every shape, and nothing is found."""
    judgement = await swarm.require_isolation(WORKLOAD)

    _require_silence(judgement)
    evidence = judgement.evidence
    assert {shape.shape for shape in evidence.shapes if shape.exercised} == set(SHAPES)
    assert evidence.user_pairs_overlapped >= MET_SHARE * evidence.user_pairs
    assert len(_torn_bursts(evidence)) <= STALLED_BURSTS


@pytest.mark.parametrize(
    "shapes",
    [
        pytest.param(("own-connections",), id="first shape"),
        pytest.param(SHAPES, id="every shape", marks=pytest.mark.long),
    ],
)
def test_sound_service_is_quiet_under_all_detectors(
    services: "Services", tmp_path: Path, shapes: tuple[str, ...]
) -> None:
    """With every detector inside of its workers, a hundred users raise no error."""
    config = load_config(
        start=Path(__file__).parent,
        shapes=shapes,
        detectors=tuple(name for name in DETECTORS if name != "access"),
        track=("app",),
    )
    environ = os.environ | {
        "DATABASE_URL": str(services.database_url),
        "REDIS_URL": str(services.redis_url),
    }
    history = History(tmp_path / "history.jsonl")
    try:
        judgement = perform(config, history, environ=environ)
    finally:
        history.close()

    # The gates are for the service as it is, not for one with a probe at each access.
    assert {finding.rule for finding in judgement.findings} <= {"p95-gate"}
    assert judgement.evidence.gaps == ()
    assert {watch.detector for watch in history.of(WatchRecord)} >= set(DETECTORS)
    # What might happen with other timing depends on how busy the machine is.
    assert [alarm for alarm in judgement.alarms if alarm.level == "error"] == []


@pytest.mark.isolation(users=20)
@pytest.mark.parametrize("audit", range(2))
async def test_small_swarm_gives_no_false_alarm(
    swarm: "Swarm", audit: int, record_property: "Callable[[str, object], None]"
) -> None:
    """Audits with seeds of their own, on one service that lives on, find nothing."""
    record_property(f"seed of audit {audit}", swarm.seed)

    judgement = await swarm.require_isolation(WORKLOAD)

    _require_silence(judgement)


@pytest.mark.long
@pytest.mark.isolation(users=100)
@pytest.mark.parametrize("audit", range(20))
async def test_full_swarm_gives_no_false_alarm(
    swarm: "Swarm", audit: int, request: pytest.FixtureRequest
) -> None:
    """Twenty audits in a row, each with a printed seed of its own, find nothing."""
    terminal = request.config.pluginmanager.getplugin("terminalreporter")
    terminal.write_line(f" audit {audit}, seed {swarm.seed}")

    judgement = await swarm.require_isolation(WORKLOAD)

    _require_silence(judgement)


def _require_silence(judgement: "Judgement") -> None:
    assert judgement.verdict is Verdict.VALID
    assert judgement.findings == ()
    assert judgement.evidence.gaps == ()


def _torn_bursts(evidence: "Evidence") -> list[str]:
    """Return the bursts of all users that the service did not hold together."""
    return [
        f"{burst.name}: {burst.in_flight} of {burst.size}"
        for burst in evidence.bursts
        # Small ones are of one user, who sends one request several times.
        if 2 * burst.size > evidence.users and burst.in_flight < HELD_SHARE * burst.size
    ]
