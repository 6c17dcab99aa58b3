"""The formats of black-box checkers, as the registry takes them: files and folders."""

from pathlib import Path
from typing import Final

from test_framework.check.formats.cobra import read_cobra
from test_framework.check.formats.dbcop import read_dbcop, read_dbcop_json
from test_framework.check.formats.plume import read_awdit, read_plume
from test_framework.check.formats.source import Format, by_head
from test_framework.check.transactions import TransactionLog
from test_framework.core import UsageError

_BINCODE: Final = "history.bincode"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        message = (
            f"The history {str(path)!r} cannot be read: {exc.strerror}. Pass the path "
            "of a history."
        )
        raise UsageError(message) from exc


def _plume(path: Path) -> TransactionLog:
    return read_plume(_bytes(path), source=repr(str(path)))


def _awdit(path: Path) -> TransactionLog:
    return read_awdit(_bytes(path), source=repr(str(path)))


def _dbcop(path: Path) -> TransactionLog:
    path = path / _BINCODE if path.is_dir() else path
    return read_dbcop(_bytes(path), source=repr(str(path)))


def _dbcop_json(path: Path) -> TransactionLog:
    return read_dbcop_json(_bytes(path), source=repr(str(path)))


def _cobra(path: Path) -> TransactionLog:
    if not path.is_dir():
        message = (
            f"{str(path)!r} is no folder. Pass the folder with the logs that Cobra's "
            "clients wrote, one for each."
        )
        raise UsageError(message)
    logs = sorted(path.glob("*.log"))
    return read_cobra({repr(str(log)): _bytes(log) for log in logs})


def _is_dbcop(path: Path, _: bytes) -> bool:
    return path.suffix == ".bincode" or (path / _BINCODE).is_file()


def _is_cobra(path: Path, _: bytes) -> bool:
    return path.is_dir() and any(path.glob("T*.log"))


REGISTER_FORMATS: Final = (
    Format(
        name="plume",
        about="register transactions of Plume or PolySI, r(key,value,session,txn) lines",
        recognises=by_head(r"\s*[rw]\(-?\d+,"),
        read=_plume,
    ),
    Format(
        name="awdit",
        about="register transactions of AWDIT's tests, parted by ----- and =====",
        recognises=by_head(r"[\s=-]*[rw] -?\d+ -?\d+\s"),
        read=_awdit,
    ),
    Format(
        name="dbcop",
        about="register transactions of dbcop, bincode version 1",
        recognises=_is_dbcop,
        read=_dbcop,
    ),
    Format(
        name="dbcop-json",
        about="the same in JSON",
        recognises=by_head(r'\s*\{\s*"(params|info|start|end|data)"\s*:'),
        read=_dbcop_json,
    ),
    Format(
        name="cobra",
        about="a folder of Cobra's logs, one T*.log for each session",
        recognises=_is_cobra,
        read=_cobra,
    ),
)
"""Each recognises only its own, so they come before formats that take any JSON."""
