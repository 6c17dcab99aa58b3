"""Schedules as text and token: what is written is what is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_framework.core import UsageError
from test_framework.explore import (
    Backwards,
    Cancel,
    Disconnect,
    Expire,
    Fidelity,
    Raise,
    Schedule,
    Segment,
)

_names = st.from_regex(r"\A[a-z]{1,5}(\[\d\])?(/[a-zA-Z ]{1,8}\[\d\])?\Z")
_counts = st.integers(1, 1000)
_faults = st.one_of(
    st.builds(Cancel, _names, _counts, st.booleans()),
    st.builds(Expire, _names, _counts),
    st.builds(Disconnect, _names, _counts),
    st.just(Backwards()),
    st.builds(Raise, _names, _counts, st.sampled_from(["OSError", "a.b:Error"])),
)
_schedules = st.builds(
    Schedule,
    st.sampled_from(Fidelity),
    st.lists(st.builds(Segment, _names, _counts), max_size=8).map(tuple),
    st.lists(_faults, max_size=3).map(tuple),
    st.sampled_from(["sim", "gate"]),
    st.sampled_from(["", "tests/test_quota.py::test_quota"]),
    st.one_of(st.none(), _counts),
)


@given(_schedules)
def test_schedule_survives_text_and_token(schedule: Schedule) -> None:
    """Text and token of any schedule read back as the same schedule."""
    assert Schedule.parse(schedule.text()) == schedule
    assert Schedule.parse(schedule.token()) == schedule


def test_schedule_text_can_be_read_and_changed() -> None:
    """The text is lines of names and counts; comments and blank lines are left out."""
    text = "fidelity = await\n\n# the victim\ncancel in user[3] at 2\nuser[0] 2  # up\n"

    schedule = Schedule.parse(text)

    assert schedule.faults == (Cancel("user[3]", 2),)
    assert schedule.segments == (Segment("user[0]", 2),)
    assert schedule.text() == "fidelity = await\ncancel in user[3] at 2\nuser[0] 2\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x1.eNorTk7", "not a complete token"),
        ("x1.!!!", "not a complete token"),
        ("user[0] two\n", "Line 1 of the schedule is 'user\\[0\\] two'"),
        ("fidelity = slow\n", "expected one of fifo, await, any"),
        ("fidelity = await\nuser[0]\n", "Line 2"),
        ("sets = sideways\n", "Line 1 .* nor a fault"),
        ("cancl in user[3] at 2\n", "Line 1 .* nor a fault"),
        ("cancel user[3] at 2\n", "Line 1 .* nor a fault"),
        ("cancel in user[3] 2\n", "Line 1 .* nor a fault"),
        ("raise OSError in user[3] 2\n", "Line 1 .* nor a fault"),
    ],
)
def test_broken_schedule_gets_a_sentence(text: str, words: str) -> None:
    """What cannot be read is named, with what was expected."""
    with pytest.raises(UsageError, match=words):
        Schedule.parse(text)


def test_task_may_be_named_by_any_words() -> None:
    """What a program calls its waits is no fault, whatever prepositions it has."""
    text = "fidelity = await\nuser[0]/wait in line[0] 3\nlook at 2\nsit in 1\n"

    assert Schedule.parse(text).text() == text
