"""Histories of dbcop come in from bincode and from JSON alike."""

import json
import struct
from collections.abc import Iterable

import pytest

from test_framework.check.formats.dbcop import read_dbcop, read_dbcop_json
from test_framework.check.transactions import Status
from test_framework.core import UsageError

Event = tuple[bool, int, int, bool]
Sessions = list[list[tuple[list[Event], bool]]]

HISTORY: Sessions = [
    [
        ([(True, 1, 10, True), (False, 2, 0, True)], True),
        ([(True, 1, 11, True)], False),
    ],
    [([(False, 1, 10, True), (False, 1, 99, False)], True)],
]


def bincode(sessions: Sessions) -> bytes:
    """Return a history as dbcop's first version serialises it."""

    def number(*values: int) -> bytes:
        return struct.pack(f"<{len(values)}Q", *values)

    def event(one: Event) -> bytes:
        return struct.pack("<?QQ?", *one)

    def parts(rows: Iterable[bytes], count: int) -> bytes:
        return number(count) + b"".join(rows)

    texts = b"".join(parts([text], len(text)) for text in (b"about", b"then", b"now"))
    data = [
        parts(
            [
                parts(map(event, events), len(events)) + bytes([is_ok])
                for events, is_ok in session
            ],
            len(session),
        )
        for session in sessions
    ]
    return number(0, 2, 2, 3, 5) + texts + parts(data, len(data))


def as_json(sessions: Sessions) -> bytes:
    """Return the same as JSON."""
    fields = ("write", "variable", "value", "success")
    data = [
        [
            {
                "events": [dict(zip(fields, one, strict=True)) for one in events],
                "success": is_ok,
            }
            for events, is_ok in session
        ]
        for session in sessions
    ]
    return json.dumps({"params": {"id": 0}, "data": data}).encode()


@pytest.mark.parametrize("form", ["bincode", "json"])
def test_dbcop_history_comes_in_whole(form: str) -> None:
    """Failed events vanish, failed transactions stay as such, unwritten 0 is none."""
    log = (
        read_dbcop(bincode(HISTORY))
        if form == "bincode"
        else read_dbcop_json(as_json(HISTORY))
    )

    read = [log.read(number) for number in range(len(log))]
    assert [(one.session, one.status, one.operations) for one in read] == [
        (0, Status.OK, (("w", 1, 10), ("r", 2, None))),
        (0, Status.FAIL, (("w", 1, 11),)),
        (1, Status.OK, (("r", 1, 10),)),
    ]


def test_dbcop_file_cut_anywhere_is_refused() -> None:
    """No prefix of a history reads as one, and none ends in a traceback."""
    whole = bincode(HISTORY)

    for size in range(len(whole)):
        with pytest.raises(UsageError, match="ends at byte"):
            read_dbcop(whole[:size])


def test_dbcop_file_with_more_behind_is_refused() -> None:
    """Bytes after the last session mean that something else was read."""
    with pytest.raises(UsageError, match="goes on after its last session"):
        read_dbcop(bincode(HISTORY) + b"\0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "no JSON"),
        (b'{"data": 3}', "int in place of a list"),
        (b'{"data": [[{"success": true}]]}', "transaction 0 of session 0"),
        (b'[[{"events": [{"write": true, "variable": "x", "value": 1}]}]]', "'x'"),
        (b'[[{"events": [{"write": true, "variable": -1, "value": 1}]}]]', "session 0"),
        (b"[[[]]]", "transaction 0 of session 0"),
    ],
)
def test_dbcop_json_of_another_shape_is_refused(text: bytes, said: str) -> None:
    """What does not fit is named."""
    with pytest.raises(UsageError) as caught:
        read_dbcop_json(text)

    assert said in str(caught.value)


def test_dbcop_without_operations_is_refused() -> None:
    """An empty history proves nothing."""
    with pytest.raises(UsageError, match="holds no operation"):
        read_dbcop(bincode([]))
