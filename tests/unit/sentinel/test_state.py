"""The state outlives the process, a crash, and what people do to files."""

import json
import os
from pathlib import Path

import pytest

from test_framework.core import UsageError
from test_framework.sentinel import (
    Alert,
    Memory,
    Notice,
    StateFolder,
    Symptom,
    Tier,
)
from test_framework.sentinel.state import MOST_ROUNDS, STATE_NAME
from tests.unit.sentinel.virtual import LEAK, a_round, unknown

TARGET = "http://notes"
SYMPTOM = Symptom(LEAK.rule, Tier.CRITICAL, "a leak", "seen", ("Let", "Then"), "mend")


def a_memory() -> Memory:
    """Return a memory in which every field says something."""
    memory = Memory(TARGET, last_valid_at=12.5)
    memory.remember(a_round(1, LEAK, p95_ms={"GET /notes": 12.5}, memory_bytes=1e6))
    memory.remember(unknown(2))
    memory.count("rounds valid")
    memory.alerts[LEAK.rule] = Alert(SYMPTOM, since=1.0, told_at=2.0, rounds=3)
    memory.outbox.append(
        Notice(
            id="1",
            event="firing",
            alert=LEAK.rule,
            tier=Tier.CRITICAL,
            title="a leak",
            claim="seen",
            evidence=("Let", "Then"),
            fix="mend",
            target=TARGET,
            since=1.0,
            at=2.0,
            rounds=3,
            round=2,
        )
    )
    return memory


def reopened(path: Path, target: str = TARGET) -> tuple[Memory, list[str]]:
    """Return what the next process finds, and what it says."""
    said: list[str] = []
    folder = StateFolder(path)
    try:
        return folder.load(target, say=said.append), said
    finally:
        folder.close()


def stored(path: Path, memory: Memory) -> Path:
    """Store a memory and return its file."""
    folder = StateFolder(path)
    folder.save(memory)
    folder.close()
    return path / STATE_NAME


def test_memory_comes_back_whole(tmp_path: Path) -> None:
    """What was stored is what the next process remembers."""
    stored(tmp_path, a_memory())

    assert reopened(tmp_path) == (a_memory(), [])


def test_first_start_remembers_nothing(tmp_path: Path) -> None:
    """A folder that does not exist is made, and holds an empty memory."""
    assert reopened(tmp_path / "new" / "state") == (Memory(TARGET), [])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "",
        lambda _: "[]",
        lambda _: "\x00\x01",
        lambda text: text.replace('"format":1', '"format":99'),
        lambda text: text.replace('"number":2', '"number":"2"'),
        lambda text: text.replace('"tier":"critical"', '"tier":"dreadful"'),
        lambda text: text.replace('"since":1.0,', "", 1),
        lambda text: text.replace('"clean":0', '"clean":0,"colour":1'),
    ],
    ids=[
        "cut",
        "empty",
        "list",
        "binary",
        "format",
        "type",
        "enum",
        "missing",
        "more",
    ],
)
def test_unreadable_state_is_kept_beside(tmp_path: Path, spoil: object) -> None:
    """A spoilt file is kept as it is, told in a sentence, and a fresh one is begun."""
    path = stored(tmp_path, a_memory())
    before = path.read_text()
    spoilt = spoil(before)  # type: ignore[operator]  # one of the lambdas above
    assert spoilt != before
    path.write_text(spoilt)

    memory, said = reopened(tmp_path)

    assert memory == Memory(TARGET)
    assert "kept as 'sentinel.json.unreadable-1'" in said[0]
    assert (tmp_path / "sentinel.json.unreadable-1").read_text() == spoilt


def test_second_unreadable_state_takes_another_name(tmp_path: Path) -> None:
    """The first spoilt file is not overwritten by the second."""
    for text in ("first", "second"):
        (tmp_path / STATE_NAME).write_text(text)
        reopened(tmp_path)

    kept = [tmp_path / f"sentinel.json.unreadable-{number}" for number in (1, 2)]
    assert [path.read_text() for path in kept] == ["first", "second"]


def test_lost_state_writes_over_no_history(tmp_path: Path) -> None:
    """Numbers go on after those that have a history, though the state is gone."""
    stored(tmp_path, Memory(TARGET)).unlink()
    for name in ("000007.jsonl", "000041.jsonl", "notes.jsonl"):
        (tmp_path / "rounds" / name).touch()

    assert reopened(tmp_path) == (Memory(TARGET, number=41), [])


def test_failed_save_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk fails in the middle, what was stored before is still whole."""
    stored(tmp_path, a_memory())
    folder = StateFolder(tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            folder.save(Memory(TARGET, number=99))
    folder.close()

    assert reopened(tmp_path) == (a_memory(), [])


def test_two_sentinels_do_not_share_a_folder(tmp_path: Path) -> None:
    """A second sentinel on one folder is refused while the first lives."""
    folder = StateFolder(tmp_path)

    with pytest.raises(UsageError, match="Another sentinel uses"):
        StateFolder(tmp_path)

    folder.close()
    StateFolder(tmp_path).close()


def test_state_of_another_service_is_refused(tmp_path: Path) -> None:
    """Alerts of one service are not carried over to another."""
    stored(tmp_path, a_memory())

    with pytest.raises(UsageError, match="is of 'http://notes' and not of 'http://b'"):
        reopened(tmp_path, "http://b")


def test_unwritable_folder_is_a_sentence(tmp_path: Path) -> None:
    """A folder that cannot be made is refused at the start, with the option to mend."""
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match=r"cannot be written: .*--state"):
        StateFolder(tmp_path / "file" / "state")


def test_old_rounds_are_forgotten(tmp_path: Path) -> None:
    """The state does not grow for ever, and latencies are not kept."""
    memory = Memory(TARGET)
    for number in range(1, MOST_ROUNDS + 11):
        memory.remember(a_round(number, latencies_s={"GET /notes": (0.1,) * 10}))

    body = json.loads(stored(tmp_path, memory).read_text())

    assert len(body["rounds"]) == MOST_ROUNDS
    assert body["number"] == MOST_ROUNDS + 10
    assert body["rounds"][-1]["latencies_s"] == {}
