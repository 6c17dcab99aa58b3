"""Hostile workloads and services: the audit neither lies, hangs, nor crashes."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.test_bad_input import (
    COMMAND,
    NOTES,
    NOTES_AUDIT,
    REPOSITORY,
    audit,
    clean_environment,
    require_sentence,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]

HOSTILE = "tests.targets.hostile:create_app"
LOGIN = """
from test_framework.swarm import load_plan
from pathlib import Path
login = load_plan(Path({path!r})).login
"""


def audit_of(
    folder: Path, workload: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Audit the notes service with a workload given as text."""
    path = folder / "hostile_audit.py"
    path.write_text(LOGIN.format(path=str(NOTES_AUDIT)) + workload)
    return audit(folder / "reports", "--workload", str(path), *arguments)


@pytest.mark.power
def test_exit_in_a_workload_is_no_pass(tmp_path: Path) -> None:
    """sys.exit(0) in an audit file must not end the command with 0."""
    ended = audit_of(tmp_path, "import sys\nasync def workload(user): sys.exit(0)\n")

    require_sentence(ended, 2, "called sys.exit")


@pytest.mark.power
def test_echo_is_no_proof(tmp_path: Path) -> None:
    """A user that only sees its own request come back has read nothing back."""
    ended = audit_of(
        tmp_path,
        """
async def workload(user):
    await user.rendezvous("write")
    await user.http.post("/notes", json={"text": user.canary("note")})
""",
    )

    require_sentence(ended, 3, "read back what they had written")


@pytest.mark.power
def test_workload_that_cancels_itself_is_told(tmp_path: Path) -> None:
    """CancelledError out of a workload is a failure of the workload."""
    ended = audit_of(
        tmp_path,
        """
import asyncio
async def workload(user):
    await user.http.post("/notes", json={"text": user.canary("note")})
    await user.http.get("/notes")
    raise asyncio.CancelledError
""",
    )

    require_sentence(ended, 3, "the workload itself failed", "CancelledError")


def test_wrong_identity_is_a_usage_error(tmp_path: Path) -> None:
    """A mistake in the audit file is told as such, wherever it is made."""
    ended = audit_of(tmp_path, "async def workload(user): user.own(42)\n")

    require_sentence(ended, 2, "user.own(42)")


def test_endless_body_is_cut(tmp_path: Path) -> None:
    """An answer without an end does not fill the memory."""
    ended = audit(
        tmp_path,
        "--users",
        "2",
        "--shapes",
        "own-connections",
        target=HOSTILE,
        HOSTILE="endless",
    )

    require_sentence(ended, 3, "goes on beyond 64 MiB")
    document = json.loads((tmp_path / "audit.json").read_text())
    assert document["peak_memory_mb"] < 600


def test_hang_up_after_an_error_hurts_no_bystander(tmp_path: Path) -> None:
    """A sound service whose error answers end the connection stays valid."""
    ended = audit(
        tmp_path,
        *("--shapes", "own-connections,shared-connections,error-paths"),
        target=HOSTILE,
        HOSTILE="raw500",
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target", "127.0.0.1:8000"), "Did you mean http://127.0.0.1:8000?"),
        (("--target", "http://127.0.0.1:99999"), "99999"),
        (("--users", "100000000000"), "at most 10,000"),
    ],
)
def test_impossible_values_are_usage_errors(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """What can never work is refused at once."""
    require_sentence(audit(tmp_path, *arguments), 2, words)


def test_report_onto_a_file_is_a_usage_error(tmp_path: Path) -> None:
    """``check --report`` names a folder that cannot be made."""
    audit(tmp_path / "reports", "--shapes", "own-connections")
    blocker = tmp_path / "file"
    blocker.write_text("")

    ended = subprocess.run(
        [*COMMAND, "check", str(tmp_path / "reports"), "--report", str(blocker)],
        capture_output=True,
        text=True,
        check=False,
    )

    require_sentence(ended, 2, "cannot be written")


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (lambda text: text * 2, "holds 2 runs"),
        (lambda text: text.replace('"user":0', '"user":-7'), "user=-7"),
    ],
    ids=["doubled", "negative user"],
)
def test_bent_history_is_refused(
    tmp_path: Path, bend: Callable[[str], str], words: str
) -> None:
    """A history that no run wrote gets a sentence, not a verdict."""
    audit(tmp_path, "--shapes", "own-connections")
    path = tmp_path / "history.jsonl"
    path.write_text(bend(path.read_text()))

    ended = subprocess.run(
        [*COMMAND, "check", str(path)], capture_output=True, text=True, check=False
    )

    require_sentence(ended, 2, words)


def test_blocked_loop_gives_way_to_a_signal(tmp_path: Path) -> None:
    """A workload without an await cannot keep the audit from ending."""
    path = tmp_path / "busy.py"
    path.write_text(
        LOGIN.format(path=str(NOTES_AUDIT))
        + "async def workload(user):\n    print('busy', flush=True)\n"
        "    while True: pass\n"
    )
    process = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            (
                "import test_framework.interruption as i; i.GRACE_S = 1;"
                "from test_framework.cli import main; main()"
            ),
            *("run", "--target", NOTES, "--workload", str(path), "--users", "2"),
            *("--workers", "1", "--services", "none", "--report", str(tmp_path / "r")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=REPOSITORY,
        env=clean_environment(),
    )
    assert process.stdout is not None
    while "busy" not in process.stdout.readline():
        assert process.poll() is None
    started = time.monotonic()

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)

    assert process.returncode == 130
    assert time.monotonic() - started < 20
    assert (tmp_path / "r" / "history.jsonl").stat().st_size > 0
