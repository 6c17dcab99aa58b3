"""Cancelled commands of a real client with a known defect, and of the version without."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
UNREAD = "nobody reads the reply to its GET gate:session:0"
PROGRAM = ROOT / "tests" / "targets" / "cancelled_reader.py"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where versions of redis-py are installed, each in a folder of its own."""
    return tmp_path_factory.mktemp("packages")


def explored(packages: Path, version: str, redis_url: str) -> dict[str, Any]:
    """Return what explorations of that version of redis-py report."""
    folder = packages / version
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
    # Since 3.11 asyncio has timeouts of its own, but these versions ask for the package.
    wanted = [f"redis=={version}", "async-timeout"]
    installed = subprocess.run(
        [*pip, "--no-deps", *wanted], capture_output=True, text=True, check=False
    )
    if installed.returncode:
        pytest.skip(f"redis {version} cannot be installed: no package index answers")
    path = os.pathsep.join([str(folder), str(ROOT)])
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), redis_url],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    assert report["version"] == version
    return report


@pytest.mark.power
@pytest.mark.parametrize("version", ["4.5.1", "4.5.3"])
def test_reply_of_a_cancelled_command_reaches_another_user(
    packages: Path, version: str, redis_url: str
) -> None:
    """The sweep of plain asyncio's order finds it, at the first wait for a reply."""
    reports = explored(packages, version, redis_url)

    report = reports["looking"]
    assert report["conclusion"] == "FOUND", report
    assert report["message"] == "user 1 received 'secret of 0'"
    # The users arrive, send, and wait for the reply.
    assert report["suspensions"] == [3]
    # Where the foreign reply came from is told as well.
    assert UNREAD in " ".join(report["details"])
    report = reports["blind"]
    assert report["kind"] == "dirty-connection", report
    assert UNREAD in report["message"]
    assert report["details"][-1].startswith("user[0] was cancelled at ")


def test_connection_of_a_cancelled_command_is_cut_in_the_mended_version(
    packages: Path, redis_url: str
) -> None:
    """Every suspension was struck and no user saw a foreign session."""
    reports = explored(packages, "4.5.5", redis_url)

    assert reports["looking"]["conclusion"] == "SAMPLED", reports
    assert reports["blind"]["conclusion"] == "SAMPLED", reports
