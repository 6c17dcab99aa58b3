"""Broken object-level authorization is found, and a service that asks whose stays valid."""

import re
from pathlib import Path

import pytest

from test_framework.check import Judgement, judge
from test_framework.config import Config
from test_framework.core import History, Operation, Verdict
from test_framework.staging import perform

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[3]
AUDIT = REPOSITORY / "tests" / "targets" / "numbered_audit.py"


def audited(workload: Path = AUDIT, **env: str) -> tuple[History, Judgement]:
    """Audit the numbered notes with four users."""
    history = History()
    config = Config(
        target="tests.targets.numbered:create_app",
        workload=workload,
        users=4,
        seed=17,
        shapes=("own-connections", "error-paths"),
        workers=1,
        root=REPOSITORY,
        env=env,
    )
    perform(config, history, environ={})
    return history, judge(history)


def borrowed(history: History) -> list[Operation]:
    """Return what users asked for as others had asked."""
    return [op for op in history.of(Operation) if op.borrowed_from is not None]


@pytest.mark.power
@pytest.mark.parametrize(
    "numbers", ["decimal", pytest.param("hex", marks=pytest.mark.long)]
)
def test_note_served_to_whoever_knows_its_number_is_found(numbers: str) -> None:
    """One finding, which tells who asked for what, and what to change."""
    history, judgement = audited(NUMBERED_FOR="anyone", NUMBERED_IN=numbers)

    assert judgement.verdict is Verdict.INVALID
    (finding,) = judgement.findings
    assert finding.rule == "foreign-canary-in-response"
    assert re.fullmatch(
        rf"{finding.observer} asked for what {finding.victim} had asked for: "
        rf"GET /notes/\w+ -> 200 with a canary of {finding.victim}",
        finding.claim,
    )
    assert f"credentials of {finding.observer} alone" in finding.evidence[2]
    assert "OWASP API1:2023" in finding.fix
    assert 'PUBLIC = ["GET /notes/{id}"]' in finding.fix
    assert len(borrowed(history)) == 4


def test_note_served_to_its_owner_only_is_valid() -> None:
    """The sound sibling is asked as well, and refuses each."""
    history, judgement = audited()

    assert judgement.verdict is Verdict.VALID, judgement.findings
    assert [op.status for op in borrowed(history)] == [404] * 4


def test_note_declared_as_shared_is_valid(tmp_path: Path) -> None:
    """What the audit file calls public is asked of nobody."""
    path = tmp_path / "shared_audit.py"
    path.write_text(
        "from tests.targets.numbered_audit import login, workload\n"
        'PUBLIC = ["GET /notes/{id}"]\n'
    )

    history, judgement = audited(path, NUMBERED_FOR="anyone")

    assert judgement.verdict is Verdict.VALID, judgement.findings
    assert borrowed(history) == []
