"""Text histories of Plume, PolySI and AWDIT come in as they were meant."""

from collections.abc import Callable

import pytest

from test_framework.check.formats.plume import read_awdit, read_plume
from test_framework.check.transactions import Status, TransactionLog
from test_framework.core import UsageError

PLUME = b"""w(1,10,0,0)
r(2,0,1,7)
r(1,0,0,0)
w(1,11,1,7)
w(9,5,0,-1)
r(1,11,0,2)
"""


def test_plume_lines_become_transactions() -> None:
    """Sessions interleave in the file, 0 unwritten is none, -1 is an aborted write."""
    log = read_plume(PLUME)

    read = [log.read(number) for number in range(len(log))]
    assert [(one.session, one.status) for one in read] == [
        (0, Status.OK),
        (1, Status.OK),
        (0, Status.FAIL),
        (0, Status.OK),
    ]
    assert [one.operations for one in read] == [
        (("w", 1, 10), ("r", 1, None)),
        (("r", 2, None), ("w", 1, 11)),
        (("w", 9, 5),),
        (("r", 1, 11),),
    ]


def test_plume_zero_that_was_written_has_a_writer() -> None:
    """A history with an explicit first transaction means that one by 0."""
    log = read_plume(b"w(1,0,0,0)\nr(1,0,1,1)\nr(2,0,1,1)\n")

    assert log.read(1).operations == (("r", 1, 0), ("r", 2, None))


def test_plume_reads_alike_quickly_and_by_lines() -> None:
    """Blank lines and spaces at the ends change nothing."""
    quick = read_plume(PLUME)
    slow = read_plume(b"\n  " + PLUME.replace(b"\n", b"  \r\n\n"))

    assert [quick.read(i) for i in range(4)] == [slow.read(i) for i in range(4)]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"w(1,2,3)", "'w(1,2,3)'"),
        (b"x(1,2,3,4)", "'x(1,2,3,4)'"),
        (b"w(1,2,3,4", "'w(1,2,3,4'"),
        (b"r(a,2,3,4)", "'r(a,2,3,4)'"),
        (b"w(1,2,3,4)9", "'w(1,2,3,4)9'"),
        (b"1(1,2,3,4)rw", "'1(1,2,3,4)rw'"),
        (b"w(1,2,3,99999999999999999999)", "beyond 63 bits"),
        (b"\xff\xfe", "line 2"),
    ],
)
def test_plume_names_the_line_that_is_wrong(line: bytes, shown: str) -> None:
    """A malformed line is refused with its number, wherever numpy would stop."""
    with pytest.raises(UsageError, match="line 2") as caught:
        read_plume(b"w(1,2,3,4)\n" + line + b"\nr(1,2,3,4)\n")

    assert shown in str(caught.value)


def test_awdit_text_keeps_sessions_and_zeros() -> None:
    """A 0 is a value like any other; empty parts are nothing."""
    log = read_awdit(b"w 0 0\nw 1 1\n=====\n=====\nr 0 0\n-----\n-----\nr 1 1")

    assert [(log.read(i).session, log.read(i).operations) for i in range(3)] == [
        (0, (("w", 0, 0), ("w", 1, 1))),
        (2, (("r", 0, 0),)),
        (2, (("r", 1, 1),)),
    ]


@pytest.mark.parametrize("line", [b"w 1", b"x 1 2", b"r one 2", b"w 1 2 3", b"-=1"])
def test_awdit_names_the_line_that_is_wrong(line: bytes) -> None:
    """A malformed line is refused with its number."""
    with pytest.raises(UsageError, match="line 3"):
        read_awdit(b"w 0 0\n----\n" + line)


@pytest.mark.parametrize("read", [read_plume, read_awdit], ids=["plume", "awdit"])
def test_text_without_operations_is_refused(
    read: Callable[[bytes], TransactionLog],
) -> None:
    """An empty file proves nothing, so it is no history."""
    with pytest.raises(UsageError, match="holds no operation"):
        read(b"\n\n")
