"""The planner: a few sentences in any dress, and nothing is guessed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.control import Change, PhrasePlanner, PlanError


@pytest.mark.parametrize(
    ("goal", "change"),
    [
        ("run 3 workers in web", Change("web", 3, is_relative=False)),
        ("Please keep ten nodes of web.", Change("web", 10, is_relative=False)),
        ("want a replica for A1", Change("A1", 1, is_relative=False)),
        ("scale web-2 to 7", Change("web-2", 7, is_relative=False)),
        ("scale web to two workers!", Change("web", 2, is_relative=False)),
        ("ADD 2 MORE NODES TO web", Change("web", 2, is_relative=True)),
        ("  add\tan  worker to web ", Change("web", 1, is_relative=True)),
        ("remove five nodes from web", Change("web", -5, is_relative=True)),
        ("stop web", Change("web", 0, is_relative=False)),
    ],
)
async def test_sentence_is_understood(goal: str, change: Change) -> None:
    """Case, spaces and politeness do not matter; names are kept as they are."""
    assert await PhrasePlanner().plan(goal) == change


@pytest.mark.parametrize(
    "goal",
    [
        "",
        "web",
        "run workers in web",
        "run 3 workers",
        "run 3 workers in web and stop api",
        "stop web; add 2 nodes to api",
        "run -3 workers in web",
        "run 3.5 workers in web",
        "run 1234567 workers in web",
        "stop we_b",
        "stop -web",
        "stop " + "x" * 64,
        "stop web\nstop api",
        "run \u0663 workers in web",
        "stop \u212a",
    ],
)
async def test_anything_else_is_refused(goal: str) -> None:
    """What is not one of the sentences, as a whole, is told what can be said."""
    with pytest.raises(PlanError, match=r"Say `run 3 workers in NAME`"):
        await PhrasePlanner().plan(goal)


WORDS = st.sampled_from(
    [
        "run",
        "add",
        "remove",
        "stop",
        "scale",
        "keep",
        "please",
        "a",
        "two",
        "3",
        "007",
        "worker",
        "nodes",
        "more",
        "in",
        "to",
        "from",
        "web",
        "web-1",
        "é",
        ".",
        "!",
        "-",
    ]
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.lists(WORDS, max_size=8).map(" ".join) | st.text(max_size=60))
async def test_whatever_is_said_has_an_answer(goal: str) -> None:
    """Any text is a change within bounds or a PlanError, and nothing else."""
    try:
        change = await PhrasePlanner().plan(goal)
    except PlanError:
        return
    assert change.node_set.isascii()
    assert 1 <= len(change.node_set) <= 63
    assert abs(change.replicas) < 10**6


def test_relative_change_counts_from_what_is_wanted() -> None:
    """More and less count from what is wanted, a number stands for itself."""
    assert Change("web", -2, is_relative=True).from_now(5) == 3
    assert Change("web", 2, is_relative=False).from_now(5) == 2
