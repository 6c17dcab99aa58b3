"""A history survives what happens to runs and to files."""

import json
from pathlib import Path

import pytest

from test_framework.core import (
    EndRecord,
    History,
    Operation,
    PolicyRecord,
    RunRecord,
    Seen,
    ShapeRecord,
    UsageError,
)
from test_framework.core.lines import encode

RUN = RunRecord(
    format=1,
    seed=7,
    users=2,
    target="t",
    workload="w",
    hosted=True,
    repeat="again",
    started_ns=5,
)
READ = Operation(
    index=1,
    user=0,
    channel="http",
    endpoint="GET /notes/{id}",
    path="/notes/7",
    shape="own-connections",
    invoked_ns=1,
    first_byte_ns=None,
    completed_ns=3,
    outcome="ok",
    status=200,
    planted=("u0/1",),
    seen=(Seen(0, "u0/1", "raw", "body", 12),),
)


def _written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "history.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_history_comes_back_as_it_was(tmp_path: Path) -> None:
    """A stored history holds the records that were added, of every shape of field."""
    path = tmp_path / "history.jsonl"
    history = History(path)
    for record in (
        RUN,
        READ,
        ShapeRecord("streaming", (0, 1), 1, 2, facts={"cut": 3}),
        PolicyRecord(("/health",), {"GET /notes": 1.5}),
        EndRecord(9, complete=False, reason="it was interrupted"),
    ):
        history.add(record)
    history.close()

    loaded = History.load(tmp_path)

    assert list(loaded.records()) == list(history.records())


def test_record_reaches_the_file_at_once(tmp_path: Path) -> None:
    """What was added can be read before anything is flushed or closed."""
    path = tmp_path / "history.jsonl"
    history = History(path)

    history.add(RUN)
    kept = path.read_bytes()
    history.close()

    assert json.loads(kept)["seed"] == 7


def test_cut_last_line_is_left_out(tmp_path: Path) -> None:
    """The half line of a killed run does not void what stands before it."""
    path = tmp_path / "history.jsonl"
    history = History(path)
    history.add(RUN)
    history.add(READ)
    history.close()
    path.write_bytes(path.read_bytes()[:-20])

    loaded = History.load(path)

    assert loaded.of(RunRecord) == [RUN]
    assert loaded.of(Operation) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[]", "it holds list and not an object"),
        ('{"type":"op"}', "'op' records need channel, completed_ns"),
        ('{"type":"dream"}', "its type 'dream' is not one of run, user"),
        ('{"type":["op"]}', "its type ['op'] is not one of"),
        ('{"type":"end","ended_ns":"9","complete":true}', "ended_ns='9'"),
        ('{"type":"end","ended_ns":9,"complete":1}', "complete=1"),
        ('{"type":"end","ended_ns":9,"complete":true,"mood":1}', "no field 'mood'"),
        ('{"type":"end","ended_ns":-9,"complete":true}', "ended_ns=-9 is below 0"),
        ('{"type"', "Expecting ':'"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    """A line that is no record is refused by its number and by what is wrong."""
    path = _written(tmp_path, line)

    with pytest.raises(UsageError) as caught:
        History.load(path)

    assert "line 1 is not a record" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"completed_ns": -1}, "completed_ns=-1 is below 0"),
        ({"completed_ns": 0}, "completed_ns=0 is before invoked_ns=1"),
        ({"status": 99999}, "status=99999 is none of http, which are 100 to 999"),
        ({"status": 1000}, "status=1000 is none of http"),
        ({"channel": "websocket", "status": 5000}, "status=5000 is none of websocket"),
        ({"received_bytes": -1}, "received_bytes=-1 is below 0"),
        ({"user": -2}, "user=-2 is below -1"),
        ({"user": "x"}, "user='x' is not a whole number"),
        ({"outcome": "good"}, 'outcome=\'good\' is not "ok" or "fail" or "info"'),
        ({"planted": [1]}, "planted=(1,) is not a list, each item a text"),
        ({"status": "200"}, "status='200' is not a whole number or null"),
    ],
)
def test_what_cannot_have_happened_is_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    """A run that no clock and no service can have shown proves nothing."""
    operation = json.loads(encode(READ)) | change
    path = _written(tmp_path, encode(RUN).rstrip(), json.dumps(operation))

    with pytest.raises(UsageError) as caught:
        History.load(path)

    assert "line 2 is not a record" in str(caught.value)
    assert words in str(caught.value)


def test_negative_users_are_refused(tmp_path: Path) -> None:
    """Nobody runs a swarm of less than nobody."""
    path = _written(tmp_path, json.dumps(json.loads(encode(RUN)) | {"users": -1}))

    with pytest.raises(UsageError, match=r"line 1 .* users=-1 is below 0"):
        History.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"user": -1},
        {"completed_ns": 1},
        {"channel": "websocket", "status": 4999},
        {"status": 999},
    ],
)
def test_the_odd_that_can_happen_is_read(
    tmp_path: Path, change: dict[str, object]
) -> None:
    """Visitors, answers within one tick, close codes and statuses of one's own."""
    operation = json.loads(encode(READ)) | change
    path = _written(tmp_path, encode(RUN).rstrip(), json.dumps(operation))

    assert len(History.load(path).of(Operation)) == 1


def test_other_format_is_named_before_its_fields(tmp_path: Path) -> None:
    """A history of a later format is refused as such, not for its new fields."""
    path = _written(tmp_path, '{"type":"run","format":2,"mood":"fine"}')

    with pytest.raises(UsageError, match="has history format 2; this release reads"):
        History.load(path)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\n"])
def test_other_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty file and a binary one are not taken for a history."""
    path = tmp_path / "history.jsonl"
    path.write_bytes(content)

    with pytest.raises(UsageError, match=r"Pass the history\.jsonl of a run"):
        History.load(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """A path that does not exist is answered with what to pass."""
    with pytest.raises(UsageError, match="Pass the history"):
        History.load(tmp_path / "nowhere")


def test_unwritable_file_is_refused(tmp_path: Path) -> None:
    """A folder that is not there is said when the run begins."""
    with pytest.raises(UsageError, match="Pass --report with a folder"):
        History(tmp_path / "nowhere" / "history.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_full_disk_is_said_once() -> None:
    """A full disk raises one sentence; the end of the run is then kept in memory."""
    history = History(Path("/dev/full"))

    with pytest.raises(UsageError, match="No space left on device"):
        history.add(RUN)
    history.add(EndRecord(9, complete=False))

    assert history.run == RUN
    assert len(history.of(EndRecord)) == 1
