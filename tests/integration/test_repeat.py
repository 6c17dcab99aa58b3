"""Repeating: a seed fixes what can be fixed, and the printed command can be typed."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from test_framework.canary import Mint
from test_framework.config import Config
from test_framework.core import BurstRecord, CanaryRecord, History, Operation
from test_framework.staging import perform

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[2]
SHAPES = ("own-connections", "read-bursts", "error-paths")

Trace = tuple[list[str], list[list[str]], list[tuple[str, int]]]


def run_of(seed: int | None) -> Trace:
    """Run an audit and return its canaries, each user's requests, and its bursts."""
    history = History()
    config = Config(
        target="tests.targets.notes:create_app",
        workload=REPOSITORY / "tests" / "targets" / "notes_audit.py",
        users=5,
        seed=seed,
        shapes=SHAPES,
        workers=1,
        root=REPOSITORY,
    )
    perform(config, history, environ={})
    ids = {record.canary for record in history.of(CanaryRecord)}
    operations = sorted(history.of(Operation), key=lambda op: op.index)
    return (
        [Mint(history.run.seed).mint(0, 0), *sorted(ids)],
        [[op.endpoint for op in operations if op.user == user] for user in range(5)],
        [(burst.name, len(burst.ops)) for burst in history.of(BurstRecord)],
    )


def test_one_seed_gives_one_run() -> None:
    """Canary values, the order of each user's requests, and bursts agree."""
    assert run_of(8842) == run_of(8842)


def test_no_seed_gives_different_runs() -> None:
    """Without a seed each run draws its own (odds of a false alarm: 2**-32)."""
    assert run_of(None)[0] != run_of(None)[0]


def test_printed_repeat_command_finds_the_same_rule(tmp_path: Path) -> None:
    """The line under a finding is typed as it stands and finds it again."""
    dropped = {"DATABASE_URL", "REDIS_URL", "ISOLATION_TARGET"}
    environ = {name: value for name, value in os.environ.items() if name not in dropped}

    def run(arguments: list[str], report: Path) -> dict[str, object]:
        subprocess.run(
            [
                *(sys.executable, "-m", "test_framework.cli"),
                *arguments,
                *("--report", str(report)),
            ],
            cwd=REPOSITORY,
            env=environ,
            capture_output=True,
            check=False,
            timeout=120,
        )
        document = json.loads((report / "audit.json").read_text())
        finding: dict[str, object] = document["findings"][0]
        return finding

    first = run(
        [
            *("run", "--target", "examples.notes.service:create_app"),
            *("--workload", "examples/notes/audit.py", "--users", "8"),
            *("--workers", "1", "--services", "none"),
            *("--shapes", "own-connections"),
        ],
        tmp_path / "first",
    )
    command, *arguments = shlex.split(str(first["repeat"]))

    again = run(arguments, tmp_path / "again")

    assert command == "isolation-audit"
    assert again["rule"] == first["rule"]
    assert again["repeat"] == first["repeat"]
