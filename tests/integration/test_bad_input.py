"""Bad input: one clear sentence with the cure, the documented exit code, no traceback.

Each case runs the real command as its own process against real services.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from test_framework.services import Services

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[2]
NOTES = "tests.targets.notes:create_app"
NOTES_AUDIT = REPOSITORY / "tests" / "targets" / "notes_audit.py"
COMMAND = [sys.executable, "-m", "test_framework.cli"]


def audit(
    folder: Path, *arguments: str, target: str = NOTES, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run an audit of few users and return how it ended."""
    return subprocess.run(
        [
            *COMMAND,
            *("run", "--target", target, "--workload", str(NOTES_AUDIT)),
            *("--users", "6", "--workers", "1", "--services", "none"),
            *("--shapes", "own-connections,read-bursts", "--report", str(folder)),
            *arguments,
        ],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=clean_environment() | env,
        timeout=60,
        check=False,
    )


def clean_environment() -> dict[str, str]:
    """Return the environment without what points audits at services."""
    dropped = {"DATABASE_URL", "REDIS_URL", "ISOLATION_TARGET"}
    return {name: value for name, value in os.environ.items() if name not in dropped}


def require_sentence(
    ended: subprocess.CompletedProcess[str], code: int, *words: str
) -> None:
    """Require the exit code, the words, and the absence of a traceback."""
    output = " ".join((ended.stdout + ended.stderr).split())
    assert "Traceback" not in output
    for word in words:
        assert word in output
    assert ended.returncode == code, output


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def taken_port() -> Iterator[int]:
    """Listen on a port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_sound_service_passes(tmp_path: Path) -> None:
    """The cases below start from a run that is valid."""
    ended = audit(tmp_path)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert json.loads((tmp_path / "audit.json").read_text())["verdict"] == "valid"
    for name in ("history.jsonl", "junit.xml"):
        assert (tmp_path / name).stat().st_size > 0


def test_stored_history_judges_to_the_same_verdict(tmp_path: Path) -> None:
    """``check`` repeats the judgement from the file alone."""
    audit(tmp_path / "first")

    ended = subprocess.run(
        [
            *COMMAND,
            *("check", str(tmp_path / "first" / "history.jsonl")),
            *("--report", str(tmp_path / "again")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    first = json.loads((tmp_path / "first" / "audit.json").read_text())
    assert json.loads((tmp_path / "again" / "audit.json").read_text()) == first


def test_failed_start_leaves_the_last_report(tmp_path: Path) -> None:
    """A service that does not start must not take the report of the run before."""
    audit(tmp_path)
    before = (tmp_path / "audit.json").read_text()

    ended = audit(tmp_path, target="no_such_module:app")

    assert ended.returncode == 4
    assert (tmp_path / "audit.json").read_text() == before
    assert not (tmp_path / "earlier").exists()


def test_one_user_of_a_leaking_service_is_unknown(tmp_path: Path) -> None:
    """The tutorial's wrong turn: one user proves nothing, in every shape."""
    ended = subprocess.run(
        [
            *(*COMMAND, "run", "--target", "examples.notes.service:create_app"),
            *("--workload", "examples/notes/audit.py", "--services", "none"),
            *("--workers", "1", "--users", "1", "--report", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=clean_environment(),
        check=False,
    )

    require_sentence(ended, 3, "1 user(s) took part; it takes two")


def test_missing_workload_is_a_usage_error(tmp_path: Path) -> None:
    """Without an audit file there is nothing to do."""
    ended = subprocess.run(
        [*COMMAND, "run", "--target", NOTES],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=clean_environment() | {"PYTHONPATH": str(REPOSITORY)},
        check=False,
    )

    require_sentence(ended, 2, "There is no workload", "Pass --workload FILE")


def test_wrong_url_is_a_usage_error(tmp_path: Path) -> None:
    """A target that is neither URL nor module:app."""
    ended = audit(tmp_path, target="ftp://127.0.0.1")

    require_sentence(ended, 2, "'ftp://127.0.0.1'", "Pass http://host:port")


def test_service_that_is_down_is_named(tmp_path: Path) -> None:
    """Nobody listens at the URL."""
    ended = audit(tmp_path, target=f"http://127.0.0.1:{free_port()}")

    require_sentence(ended, 4, "does not accept connections", "Start it")


def test_service_that_dies_half_way_keeps_the_record(tmp_path: Path) -> None:
    """What was recorded before the death is kept and judged."""
    ended = audit(tmp_path, NOTES_DIE_AFTER="20")

    require_sentence(ended, 4, "requests in", "were recorded")
    document = json.loads((tmp_path / "audit.json").read_text())
    assert document["requests"] > 0
    assert document["complete"] is False


def test_refused_login_is_named(tmp_path: Path) -> None:
    """The service lets nobody in."""
    ended = audit(tmp_path, NOTES_REFUSE_LOGIN="1")

    require_sentence(ended, 4, "The login of", "was refused", "403")


def test_target_that_does_not_import_is_named(tmp_path: Path) -> None:
    """A module that does not exist."""
    ended = audit(tmp_path, target="no_such_module:app")

    require_sentence(ended, 4, "no_such_module")


def test_refused_postgres_is_named_without_its_password(tmp_path: Path) -> None:
    """A given database that is down."""
    url = f"postgresql://u:hidden@127.0.0.1:{free_port()}/d"

    ended = audit(tmp_path, DATABASE_URL=url)

    require_sentence(ended, 4, "127.0.0.1")
    assert "hidden" not in ended.stdout + ended.stderr


def test_refused_redis_is_named_without_its_password(tmp_path: Path) -> None:
    """A given Redis that is down."""
    url = f"redis://:hidden@127.0.0.1:{free_port()}/0"

    ended = audit(tmp_path, REDIS_URL=url)

    require_sentence(ended, 4, "127.0.0.1")
    assert "hidden" not in ended.stdout + ended.stderr


async def test_full_postgres_is_named(tmp_path: Path, services: Services) -> None:
    """A database without a free connection for the owner sweep."""
    url = str(services.database_url)
    taken: list[asyncpg.Connection] = []
    try:
        with contextlib.suppress(asyncpg.TooManyConnectionsError):
            while True:
                taken.append(await asyncpg.connect(url))

        ended = await asyncio.to_thread(audit, tmp_path, DATABASE_URL=url)
    finally:
        await asyncio.gather(*(connection.close() for connection in taken))

    require_sentence(ended, 4, "no connection left", "max_connections")
    assert json.loads((tmp_path / "audit.json").read_text())["requests"] > 0


def test_taken_port_is_named(tmp_path: Path) -> None:
    """A port that somebody else listens on."""
    with taken_port() as port:
        ended = audit(tmp_path, "--port", str(port))

    require_sentence(ended, 4, str(port))


def test_missing_binaries_say_what_to_install(tmp_path: Path) -> None:
    """A machine without Postgres."""
    absent = str(tmp_path / "absent")

    ended = audit(
        tmp_path,
        *("--services", "postgres"),
        ISOLATION_POSTGRES_BIN=absent,
    )

    require_sentence(ended, 4, absent, "install")


def test_unwritable_report_folder_is_a_usage_error(tmp_path: Path) -> None:
    """A report folder that cannot be made."""
    blocker = tmp_path / "file"
    blocker.write_text("")

    ended = audit(blocker / "reports")

    require_sentence(ended, 2, "cannot be written", "Pass --report")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("async def workload(user:\n", "line 1 is not valid Python"),
        ("import nothing_of_the_kind\n", "failed on import"),
        ("x = 1\n", "defines no workload"),
    ],
)
def test_malformed_audit_file_is_a_usage_error(
    tmp_path: Path, text: str, words: str
) -> None:
    """Each mistake of an audit file is one sentence."""
    path = tmp_path / "broken.py"
    path.write_text(text)

    ended = audit(tmp_path, "--workload", str(path))

    require_sentence(ended, 2, words)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--users", "0", "users=0"),
        ("--users", "many", "--users"),
        ("--shapes", "sideways", "'sideways' is not a traffic shape"),
        ("--services", "mysql", "'mysql' is not a service"),
    ],
)
def test_wrong_option_is_a_usage_error(
    tmp_path: Path, option: str, value: str, words: str
) -> None:
    """A wrong value is named and the right ones listed."""
    require_sentence(audit(tmp_path, option, value), 2, words)


def test_history_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    """``check`` on a file that is no history names the line."""
    path = tmp_path / "history.jsonl"
    path.write_text("nonsense\n")

    ended = subprocess.run(
        [*COMMAND, "check", str(path)], capture_output=True, text=True, check=False
    )

    require_sentence(ended, 2, "in no format that is known")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_keeps_the_record_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C and a termination end the run in good order."""
    process = subprocess.Popen(
        [
            *COMMAND,
            *("run", "--target", NOTES, "--workload", str(NOTES_AUDIT)),
            *("--users", "60", "--services", "postgres,redis"),
            *("--report", str(tmp_path)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=REPOSITORY,
        env=clean_environment(),
    )
    history = tmp_path / "history.jsonl"
    deadline = time.monotonic() + 30
    # Looked up before: the whole run lasts half a second, and a look takes a part of it.
    started: list[psutil.Process] = []
    while not (history.exists() and history.stat().st_size > 0):
        assert time.monotonic() < deadline
        started = psutil.Process(process.pid).children(recursive=True)
        time.sleep(0.01)  # noqa: TID251  # waits for another process's file

    process.send_signal(number)
    output, _ = process.communicate(timeout=30)

    assert process.returncode == 130, output
    assert "interrupted" in output
    assert "Traceback" not in output
    assert json.loads((tmp_path / "audit.json").read_text())["verdict"] == "unknown"
    _, alive = psutil.wait_procs(started, timeout=10)
    assert started
    assert [process for process in alive if process.status() != "zombie"] == []
