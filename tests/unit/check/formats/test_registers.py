"""Files of black-box checkers are recognised by what they hold, and named when wrong."""

from pathlib import Path

import pytest

from test_framework.check.formats import read_history
from test_framework.check.transactions import TransactionLog
from test_framework.core import UsageError
from tests.unit.check.formats.test_cobra import FIRST, SECOND
from tests.unit.check.formats.test_dbcop import HISTORY, as_json, bincode

FILES = {
    "plume.txt": b"w(1,2,0,0)\nr(1,2,1,1)\n",
    "awdit.txt": b"w 1 2\n=====\nr 1 2\n",
    "one.bincode": bincode(HISTORY),
    "dbcop/history.bincode": bincode(HISTORY),
    "some.json": as_json(HISTORY),
    "cobra/T1.log": FIRST,
    "cobra/T2.log": SECOND,
}


@pytest.mark.parametrize("name", FILES)
def test_history_of_registers_is_recognised(tmp_path: Path, name: str) -> None:
    """Nobody has to say which tool wrote it; a folder is read as a whole."""
    for file, data in FILES.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(data)
    path = tmp_path / name

    log = read_history(path if path.parent == tmp_path else path.parent)

    assert isinstance(log, TransactionLog)
    assert len(log.sessions) == 2


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("plume.txt", b"w(1,2,0,0)\nw(1,2,0\n", "plume.txt' line 2 is 'w(1,2,0'"),
        ("awdit.txt", b"w 1 2\nw 1\n", "awdit.txt' line 2 is 'w 1'"),
        ("one.bincode", b"\0" * 20, "one.bincode' ends at byte 20"),
    ],
)
def test_broken_file_is_named(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    """The message holds the file and the line or byte."""
    (tmp_path / name).write_bytes(data)

    with pytest.raises(UsageError) as caught:
        read_history(tmp_path / name)

    assert said in str(caught.value)


def test_cobra_log_alone_is_refused(tmp_path: Path) -> None:
    """One session without the others would show reads of nobody's writes."""
    (tmp_path / "T1.log").write_bytes(FIRST)

    with pytest.raises(UsageError, match="no folder"):
        read_history(tmp_path / "T1.log", format_name="cobra")


@pytest.mark.parametrize("name", ["plume", "awdit", "dbcop", "dbcop-json"])
def test_missing_file_is_told(tmp_path: Path, name: str) -> None:
    """A path that leads nowhere is a sentence, whatever it should hold."""
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_history(tmp_path / "gone", format_name=name)
