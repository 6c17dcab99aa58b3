"""The leak watchers inside of the reference service: quiet on it, exact on its twins."""

import os
from pathlib import Path

import pytest

from test_framework.check import Judgement
from test_framework.check.rules.leaks import LEAK_RULES
from test_framework.config import load_config
from test_framework.core import AlarmRecord, History
from test_framework.services import Services
from test_framework.staging import perform

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.long]

RULES = {rule.id for rule in LEAK_RULES}


def audit(target: str, users: int, services: Services, path: Path) -> Judgement:
    """Return what an audit with all watchers says."""
    config = load_config(
        start=Path(__file__).parent,
        target=target,
        users=users,
        detectors=("leaks", "hygiene"),
    )
    environ = os.environ | {
        "DATABASE_URL": str(services.database_url),
        "REDIS_URL": str(services.redis_url),
    }
    history = History(path)
    try:
        return perform(config, history, environ=environ)
    finally:
        history.close()


def leaks_of(judgement: Judgement) -> list[AlarmRecord]:
    """Return what the watchers saw, of any level."""
    return [alarm for alarm in judgement.alarms if alarm.rule in RULES]


def test_sound_service_under_a_hundred_users_leaks_nothing(
    services: Services, tmp_path: Path
) -> None:
    """No error and no warning, with every traffic shape."""
    judgement = audit("app.main:create_app", 100, services, tmp_path / "history")

    assert leaks_of(judgement) == []


@pytest.mark.power
@pytest.mark.parametrize(
    ("factory", "rule", "file", "line"),
    [
        (
            "storage:create_pooled_setting",
            "pool-state-kept",
            "storage.py",
            "await session.execute",
        ),
        (
            "agents:create_shared_agent_state",
            "residue-of-departed",
            "agents.py",
            "messages: list",
        ),
    ],
)
def test_twin_is_named_by_its_line(
    factory: str, rule: str, file: str, line: str, services: Services, tmp_path: Path
) -> None:
    """The line is that of the mistake itself."""
    target = f"tests.e2e.sabotage.{factory}"

    (alarm,) = leaks_of(audit(target, 12, services, tmp_path / "history"))

    path, _, number = alarm.site.rpartition(":")
    lines = (Path(__file__).parent / "sabotage" / file).read_text("utf-8").splitlines()
    assert (alarm.rule, alarm.level) == (rule, "error")
    assert path == f"tests/e2e/sabotage/{file}"
    assert line in lines[int(number) - 1]
    assert alarm.users
