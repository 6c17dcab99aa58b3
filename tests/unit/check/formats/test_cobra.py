"""Binary logs of Cobra come in as sessions of transactions."""

import struct

import pytest

from test_framework.check.formats.cobra import read_cobra
from test_framework.core import UsageError

NOBODY = 0xBEBEEBEE


def record(word: str, *body: int) -> bytes:
    """Return one record."""
    return word.encode() + struct.pack(f">{len(body)}q", *body)


FIRST = (
    record("S", 1)
    + record("R", NOBODY, NOBODY, -5, 0)
    + record("W", 70, -5, 3)
    + record("C", 1)
)
SECOND = record("S", 2) + record("R", 1, 70, -5, 3) + record("C", 2)


def test_cobra_logs_become_sessions() -> None:
    """The unique number of a write stands for its value; two numbers mean nobody."""
    log = read_cobra({"T1.log": FIRST, "T2.log": SECOND})

    assert [(log.read(i).session, log.read(i).operations) for i in range(2)] == [
        (0, (("r", -5, None), ("w", -5, 70))),
        (1, (("r", -5, 70),)),
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (FIRST[:-3], "T1.log ends at byte 73, in the middle of the commit"),
        (FIRST[:-9], "T1.log byte 67 ends within 1"),
        (b"Q" + FIRST, "T1.log byte 0 is b'Q'"),
        (record("W", 1, 2, 3), "holds a write outside of any transaction"),
        (record("S", 1) + record("C", 2), "holds a commit within 1"),
        (record("S", 1) + record("S", 2), "holds a start within 1"),
        (b"", "No operation"),
    ],
)
def test_cobra_log_that_is_broken_is_refused(data: bytes, said: str) -> None:
    """The message names the log, the byte and what stands there."""
    with pytest.raises(UsageError) as caught:
        read_cobra({"T1.log": data})

    assert said in str(caught.value)
