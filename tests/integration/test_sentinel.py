"""The sentinel against a real service: rounds, alerts, restarts, signals, secrets."""

import asyncio
import dataclasses
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from test_framework.cli import cli
from test_framework.core import UsageError, Verdict
from test_framework.sentinel import (
    Accounts,
    LiveAuditor,
    Round,
    ServiceGauges,
    StateFolder,
    SystemTime,
)
from test_framework.sentinel.gauges import sums_of
from test_framework.services import HostPlan, hosting
from test_framework.swarm import Plan, Target, User
from tests.targets import notes_audit

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[2]
AUDIT = REPOSITORY / "tests" / "targets" / "notes_audit.py"
FOREIGN = "foreign-canary-in-response"


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """The notes service; it leaks as long as ``leak`` exists."""

    url: str
    leak: Path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The notes service as one real process."""
    folder = tmp_path_factory.mktemp("notes")
    plan = HostPlan(
        "tests.targets.notes:create_app",
        workers=1,
        app_dir=REPOSITORY,
        env={"NOTES_LEAK_WHILE": str(folder / "leak")},
    )
    with hosting(plan, work_dir=folder) as host:
        yield Service(host.url, folder / "leak")


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """A small HTTP server: what it was sent, and where it is."""

    url: str
    got: list[dict[str, Any]]


@contextmanager
def serving(*answers: int, text: str = "") -> Iterator[Page]:
    """Serve a page; POSTs are kept and answered as told, and then with 204."""
    waiting = list(answers)
    got: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, text.encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = waiting.pop(0) if waiting else 204
            if status < 300:
                got.append(json.loads(body))
            self._answer(status, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Page(f"http://127.0.0.1:{server.server_address[1]}/s3cret", got)
        finally:
            server.shutdown()
            thread.join()


def command(target: str, state: Path, *options: str) -> list[str]:
    """Return the command that watches a target, as fast as it may."""
    return [
        *(sys.executable, "-m", "test_framework.cli", "watch"),
        *("--target", target, "--workload", str(AUDIT), "--state", str(state)),
        *("--interval", "1s", "--rate", "500", "--resolve-after", "1", *options),
    ]


def environment() -> dict[str, str]:
    """Return the environment without what points elsewhere."""
    dropped = re.compile(r"DATABASE_URL|REDIS_URL|ISOLATION_.*|.*_PROXY", re.IGNORECASE)
    return {name: v for name, v in os.environ.items() if not dropped.fullmatch(name)}


def watch(target: str, state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Watch to the end and return how it ended."""
    return subprocess.run(
        command(target, state, *options),
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_leak_is_told_and_resolved_over_a_restart(
    service: Service, tmp_path: Path
) -> None:
    """A leak fires once though the webhook fails at first; the next process resolves it."""
    service.leak.touch()
    with serving(503) as hook:
        first = watch(service.url, tmp_path, "--rounds", "2", "--webhook", hook.url)
        fired = [(m["event"], m["tier"], m["alert"]) for m in hook.got]
        service.leak.unlink()
        second = watch(service.url, tmp_path, "--rounds", "1", "--webhook", hook.url)

    assert first.returncode == 1, first.stdout + first.stderr
    assert fired == [("firing", "critical", FOREIGN)]
    assert second.returncode == 0, second.stdout + second.stderr
    assert [message["event"] for message in hook.got] == ["firing", "resolved"]
    assert hook.got[1]["rounds"] == 2
    kept = sorted(path.name for path in (tmp_path / "rounds").iterdir())
    assert kept == ["000001.jsonl", "000002.jsonl"]
    assert hook.got[0]["history"] == "000001.jsonl"
    told = (tmp_path / "sentinel.json").read_text() + first.stdout + first.stderr
    assert "s3cret" not in told


def test_signal_ends_the_pause_and_keeps_the_state(
    service: Service, tmp_path: Path
) -> None:
    """Told to stop between rounds the watch ends at once, with 0 and a whole state."""
    options = ("--interval", "600s", "--metrics-port", "0")
    with subprocess.Popen(
        command(service.url, tmp_path, *options),
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        page = process.stdout.readline().split()[-1].rstrip(".")
        said = process.stdout.readline()
        with urllib.request.urlopen(page, timeout=5) as answer:  # noqa: S310  # our own
            values = sums_of(answer.read().decode())
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        code = process.wait(timeout=20)

    assert "round 1: " in said
    assert code == 0
    assert values["isolation_sentinel_up"] == 1
    assert values["isolation_sentinel_rounds_total"] == 1
    assert values["isolation_sentinel_request_duration_seconds_count"] > 10
    state = json.loads((tmp_path / "sentinel.json").read_text())
    assert state["number"] == 1


def test_signal_ends_a_round_that_is_under_way(
    service: Service, tmp_path: Path
) -> None:
    """Told to stop in mid-round the watch ends soon; the round counts for nothing."""
    with subprocess.Popen(
        command(service.url, tmp_path, "--rate", "0.1"),
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.PIPE,
    ) as process:
        history = tmp_path / "rounds" / "000001.jsonl"
        while not (history.exists() and history.stat().st_size > 0):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=20)

    assert code == 0
    assert not history.exists()
    state = json.loads((tmp_path / "sentinel.json").read_text())
    assert state["rounds"] == []


def test_unreachable_service_is_one_sentence(tmp_path: Path) -> None:
    """A service that was never up ends the watch with 4, and says what to do."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        target = f"http://127.0.0.1:{nobody.getsockname()[1]}"

        ended = watch(target, tmp_path)

    assert ended.returncode == 4
    assert "pass --wait to keep trying" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_taken_port_is_one_sentence(tmp_path: Path) -> None:
    """A metrics port that somebody has ends the watch before its first round."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        words = command("http://127.0.0.1:1", tmp_path, "--metrics-port", port)
        ended = CliRunner().invoke(cli, words[3:])

    assert isinstance(ended.exception, UsageError)
    assert f"cannot be served on 127.0.0.1:{port}" in str(ended.exception)


@contextmanager
def auditing(
    target: str, folder: Path, plan: Plan, gauges: ServiceGauges | None = None
) -> Iterator[LiveAuditor]:
    """Yield an auditor that is as fast as it may."""
    state = StateFolder(folder)
    yield LiveAuditor(
        Target(target, target, is_shared=True),
        plan,
        folder=state,
        gauges=gauges or ServiceGauges(None),
        accounts=Accounts(b"key"),
        rate_per_s=500,
        repeat=lambda seed, users: f"seed {seed} users {users}",
        time=SystemTime(),
    )
    state.close()


def a_plan(**values: Any) -> Plan:  # noqa: ANN401  # fields of Plan
    """Return the plan of the notes service, in the shapes that disturb nobody."""
    facts: dict[str, Any] = {
        "workload": notes_audit.workload,
        "login": notes_audit.login,
        "users": 4,
        "shapes": ("own-connections", "read-bursts"),
    }
    return Plan(**(facts | values))


async def test_round_says_what_it_exercised(service: Service, tmp_path: Path) -> None:
    """A valid round tells users, overlap, latencies and gauges, and keeps no history."""
    page = "process_resident_memory_bytes 1e8\npool_in_use 3\nin_flight 2\n"
    with serving(text=page) as metrics:
        gauges = ServiceGauges(metrics.url, pool="pool_in_use", load="in_flight")
        with auditing(service.url, tmp_path, a_plan(), gauges) as auditor:
            one = await auditor.hold(1, 4)

    assert (one.verdict, one.is_conclusive, one.reason) == (Verdict.VALID, True, "")
    assert (one.pairs_met, one.pairs) == (6, 6)
    assert set(one.p95_ms) == {"POST /login", "POST /notes", "GET /notes"}
    assert len(one.latencies_s["POST /login"]) == 4
    assert (one.memory_bytes, one.pool_use, one.load) == (1e8, 3.0, 2.0)
    assert list((tmp_path / "rounds").iterdir()) == []


async def test_lost_metrics_page_spoils_no_round(
    service: Service, tmp_path: Path
) -> None:
    """A page that nobody serves, that is none, or lacks a gauge is told, once."""
    said: list[str] = []
    rounds = []
    with serving(text="<html>") as odd, serving(text="pool 3\n") as short:
        for url in ("http://127.0.0.1:1/metrics", odd.url, short.url):
            gauges = ServiceGauges(url, pool="pool", say=said.append)
            with auditing(service.url, tmp_path, a_plan(), gauges) as auditor:
                rounds += [await auditor.hold(number, 4) for number in (1, 2)]

    assert [one.verdict for one in rounds] == [Verdict.VALID] * 6
    assert [one.memory_bytes for one in rounds] == [None] * 6
    assert [one.pool_use for one in rounds] == [None] * 4 + [3.0] * 2
    assert said == [
        "The metrics of the service cannot be read (ConnectError).",
        "The metrics of the service cannot be read (ValueError).",
        "The metrics of the service have no process_resident_memory_bytes.",
    ]


async def test_accounts_and_what_they_made_are_cared_for(
    service: Service, tmp_path: Path
) -> None:
    """Users come back with name and password, and find what they had made cleaned up."""
    seen: list[tuple[str, str]] = []
    found: list[object] = []
    deleted: list[object] = []

    async def login(user: User) -> None:
        seen.append((user.name, user.password))
        await notes_audit.login(user)
        found.append((await user.http.get("/notes")).json())

    async def cleanup(user: User) -> None:
        deleted.append((await user.http.request("DELETE", "/notes")).json())

    plan = a_plan(login=login, cleanup=cleanup, reuses_accounts=True, users=2)
    with auditing(service.url, tmp_path, plan) as auditor:
        rounds = [await auditor.hold(number, 2) for number in (1, 2)]

    assert [one.verdict for one in rounds] == [Verdict.VALID] * 2
    assert sorted(seen[:2]) == sorted(seen[2:])
    assert len(set(seen)) == 2
    assert found == [[]] * 4
    assert deleted == [1] * 4


async def test_secrets_do_not_leave_a_round(service: Service, tmp_path: Path) -> None:
    """What a careless workload says of passwords and tokens is hidden in the round."""
    secrets: list[str] = []

    async def workload(user: User) -> None:
        await notes_audit.workload(user)
        token = user.http.headers["authorization"].removeprefix("Bearer ")
        secrets.extend((user.password, token))
        user.expect(claim=False, message=f"{user.password} {token} was wrong")

    with auditing(service.url, tmp_path, a_plan(workload=workload)) as auditor:
        one = await auditor.hold(1, 4)

    told = json.dumps(dataclasses.asdict(one))
    assert one.verdict is Verdict.INVALID
    assert "[hidden] [hidden] was wrong" in told
    assert not [secret for secret in secrets if secret in told]


async def test_hook_that_breaks_later_is_an_unknown_round(
    service: Service, tmp_path: Path
) -> None:
    """A wrong hook ends a watch that begins; one that worked before does not."""

    async def broken(_: User) -> None:
        message = "token"
        raise KeyError(message)

    rounds: list[Round] = []
    with auditing(service.url, tmp_path, a_plan()) as auditor:
        rounds.append(await auditor.hold(1, 4))
        auditor._plan = a_plan(login=broken)
        rounds.append(await auditor.hold(2, 4))
    with (
        auditing(service.url, tmp_path, a_plan(login=broken)) as auditor,
        pytest.raises(UsageError, match="login hook failed"),
    ):
        await auditor.hold(3, 4)

    assert [one.result for one in rounds] == ["valid", "unknown"]
    assert "login hook failed" in rounds[1].reason


async def test_round_that_hangs_is_broken_off(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round beyond its limit is unknown and says so; it does not silence the watch."""
    monkeypatch.setattr("test_framework.sentinel.auditing.ROUND_LIMIT_S", 0.2)

    async def hang(_: User) -> None:
        await asyncio.Event().wait()

    with auditing(service.url, tmp_path, a_plan(workload=hang)) as auditor:
        one = await auditor.hold(1, 4)

    assert one.result == "unknown"
    assert "took longer than" in one.reason
    assert not one.is_conclusive
