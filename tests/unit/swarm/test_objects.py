"""What a workload does to objects is recorded: outcome, processes, no text."""

import asyncio

import pytest

from test_framework.clients.recorder import Recorder
from test_framework.core import CallRecord, History, MonotonicClock, UsageError
from test_framework.swarm.objects import Objects


@pytest.fixture
def recorder() -> Recorder:
    """Return the recorder of a run that keeps its history in memory."""
    return Recorder(History(), seed=1, clock=MonotonicClock(), is_tagging=False)


def _calls(recorder: Recorder) -> list[CallRecord]:
    return recorder.history.of(CallRecord)


async def test_values_are_kept_without_their_text(recorder: Recorder) -> None:
    """A canary is kept by its id, another text by a digest that tells equal ones."""
    objects = Objects(recorder, 3)
    secret = f"Dear {recorder.canary(3, 'note')}, the code is 1234"

    with objects.calling("list", "notes", "append", secret):
        pass
    with objects.calling("list", "notes", "read", None) as call:
        call.result = [secret, "no canary", "no canary", 7]

    append, read = _calls(recorder)
    assert (append.argument, append.process, append.outcome) == (
        "u3/0",
        "user-03",
        "ok",
    )
    assert isinstance(read.result, tuple)
    first, second, third, number = read.result
    assert (first, number) == ("u3/0", 7)
    assert second == third != first
    assert "1234" not in str(_calls(recorder))
    assert "no canary" not in str(_calls(recorder))


async def test_what_raises_has_an_unknown_outcome(recorder: Recorder) -> None:
    """After an exception nobody knows; who knows better says so."""
    objects = Objects(recorder, 0)

    with pytest.raises(TimeoutError), objects.calling("list", "x", "append", "a"):
        raise TimeoutError
    with objects.calling("list", "x", "append", "b") as call:
        call.refused()
    with objects.calling("list", "x", "append", "c") as call:
        call.lost()

    lost, refused, told = _calls(recorder)
    assert (lost.outcome, lost.completed_ns) == ("info", None)
    assert (refused.outcome, refused.completed_ns is None) == ("fail", False)
    assert (told.outcome, told.completed_ns) == ("info", None)


async def test_tasks_of_a_user_are_processes(recorder: Recorder) -> None:
    """Two tasks call at one time, so they are two processes; one task is one."""
    objects = Objects(recorder, 5)

    async def call_twice() -> None:
        for _ in range(2):
            with objects.calling("list", "x", "append", "a"):
                await asyncio.sleep(0)

    await asyncio.gather(call_twice(), call_twice())

    names = [call.process for call in _calls(recorder)]
    assert sorted(names) == ["user-05", "user-05", "user-05/1", "user-05/1"]


@pytest.mark.parametrize(
    ("model", "kind", "words"),
    [
        ("tree", "append", "known are list, register"),
        ("list", "pop", "append and read"),
    ],
)
async def test_unknown_object_is_a_usage_error(
    recorder: Recorder, model: str, kind: str, words: str
) -> None:
    """A kind of object that nobody judges, or a call that it has not, is refused."""
    with (
        pytest.raises(UsageError, match=words),
        Objects(recorder, 0).calling(model, "x", kind, "a"),
    ):
        pass


@pytest.mark.parametrize(
    ("model", "kind", "result", "words"),
    [
        ("list", "read", None, "Set call.result to the list of all values"),
        ("list", "read", "abc", "its result is str"),
        ("counter", "increment", None, "Set call.result to the number"),
        ("set", "contains", "no", "Set call.result to True or False"),
    ],
)
async def test_forgotten_answer_is_a_usage_error(
    recorder: Recorder, model: str, kind: str, result: str | None, words: str
) -> None:
    """An answer that was not handed on would be held against the service."""
    with (
        pytest.raises(UsageError, match=words),
        Objects(recorder, 0).calling(model, "x", kind, None) as call,
    ):
        call.result = result

    assert _calls(recorder)[0].outcome == "info"
