"""Folders of guardians that start at one time: none takes another's for a leftover."""

import fcntl
import os
from pathlib import Path

import pytest

from test_framework.services import guardian

pytestmark = pytest.mark.integration


def test_folder_is_swept_by_nobody_while_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep between its making and its lock, when it has no lock yet, spares it."""
    monkeypatch.setattr(guardian, "MEMORY_FOLDER", tmp_path)
    lock = fcntl.flock

    def sweep_first(file: int, how: int) -> None:
        if how == fcntl.LOCK_EX:
            guardian.sweep(tmp_path)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", sweep_first)

    base = guardian.make_base()

    assert base.is_dir()
    assert base.name.startswith(guardian.PREFIX)
    assert [entry.name for entry in os.scandir(tmp_path)] == [base.name]


def test_folder_without_a_guardian_is_swept(tmp_path: Path) -> None:
    """Its lock is free, so whoever held it is gone."""
    left = tmp_path / f"{guardian.PREFIX}left"
    left.mkdir()
    (left / "lock").touch()

    guardian.sweep(tmp_path)

    assert not left.exists()
