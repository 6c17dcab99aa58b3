"""What can be known before a run is told before it, not after."""

import asyncio
from pathlib import Path

import pytest

from test_framework.clients.recorder import Recorder
from test_framework.config import Config
from test_framework.core import (
    History,
    MonotonicClock,
    Observation,
    SurfaceRecord,
    UsageError,
)
from test_framework.staging import staged
from test_framework.swarm import Target, load_plan
from test_framework.swarm.identities import Identities
from test_framework.swarm.sweep import sweep


def test_missing_log_of_a_running_service_is_told_first(tmp_path: Path) -> None:
    """It would be missed only when the run is over."""
    config = Config("http://127.0.0.1:9", logs=(tmp_path / "nix.log",))

    with (
        pytest.raises(UsageError, match=r"nix\.log' cannot be read: No such file"),
        staged(config, environ={}),
    ):
        pass


def test_folder_is_no_log(tmp_path: Path) -> None:
    """No service makes a file where a folder is."""
    config = Config("app:app", logs=(tmp_path,))

    with (
        pytest.raises(UsageError, match="cannot be read: Is a directory"),
        staged(config, environ={}),
    ):
        pass


def test_log_of_a_running_service_is_taken(tmp_path: Path) -> None:
    """A log that is there does not stop a run."""
    log = tmp_path / "service.log"
    log.touch()

    with staged(Config("http://127.0.0.1:9", logs=(log,)), environ={}) as target:
        assert target.log_paths == (log,)


def test_log_that_never_came_is_not_tested(tmp_path: Path) -> None:
    """A service that was to make its log and did not leaves a place unwatched."""
    history = History()
    recorder = Recorder(history, seed=1, clock=MonotonicClock(), is_tagging=False)
    log, missing = tmp_path / "service.log", tmp_path / "nix.log"
    log.write_text("nothing\n")
    audit = tmp_path / "audit.py"
    audit.write_text("async def workload(user): ...\n")
    target = Target("http://x", "http://x", log_paths=(log, missing))

    asyncio.run(sweep(target, recorder, Identities({}), load_plan(audit)))

    assert history.of(SurfaceRecord) == [
        SurfaceRecord(
            "log",
            "nix.log",
            "the log could not be read at the end: No such file or directory",
        )
    ]
    assert history.of(Observation) == []
