"""DeepAgentState: importable, deprecated, and bound to one user."""

import pytest

from app.agents.deep_agent_state import DeepAgentState
from app.context import ContextError
from tests.unit.app.parts import context_of


def state(user_id: str = "ada", **fields: object) -> DeepAgentState:
    """Return a state of a user, with its warning swallowed."""
    with pytest.warns(DeprecationWarning, match="migration only"):
        return DeepAgentState(context_of(user_id).child(run_id="run-1"), **fields)  # type: ignore[arg-type]  # fields of the test's choice


def test_state_reads_ids_from_context() -> None:
    """The ids are the context's, also under the names old code uses."""
    subject = state()

    assert (subject.user_id, subject.run_id) == ("ada", "run-1")
    assert subject.chat_thread_id is subject.thread_id is None


@pytest.mark.parametrize(
    "name", ["user_id", "thread_id", "chat_thread_id", "run_id", "context", "_context"]
)
def test_state_cannot_change_hands(name: str) -> None:
    """Neither the context nor an id of it can be set."""
    subject = state()

    with pytest.raises(ContextError, match="comes from its context"):
        setattr(subject, name, "bob")

    assert subject.user_id == "ada"


def test_state_needs_a_context() -> None:
    """A state without a context, as old code made it, is refused with the cure."""
    with (
        pytest.warns(DeprecationWarning, match="migration only"),
        pytest.raises(ContextError, match="from_agent_execution_context"),
    ):
        DeepAgentState({"user_id": "ada"})


def test_two_states_share_no_object() -> None:
    """Objects passed to two states, and default ones, are separate in each."""
    shared: dict[str, object] = {"notes": ["common"]}
    first, second = state("ada", metadata=shared), state("bob", metadata=shared)

    first.metadata["secret"] = "ada's"
    notes = first.metadata["notes"]
    assert isinstance(notes, list)
    notes.append("ada's")
    first.messages.append("ada's")

    assert second.metadata == {"notes": ["common"]}
    assert second.messages == []
    assert shared == {"notes": ["common"]}


def test_copy_shares_no_object() -> None:
    """A copy is the same user's and shares no list with the original."""
    original = state(messages=[["x"]])
    with pytest.warns(DeprecationWarning, match="migration only"):
        copy = original.copy_with_updates(step_count=3)

    copy.messages.append("y")

    assert original.messages == [["x"]]
    assert (copy.step_count, copy.context) == (3, original.context)


def test_merging_two_users_is_refused() -> None:
    """States of two users never mix; states of one user do."""
    ada = state(results={"a": 1})

    with pytest.raises(ContextError, match="never mix"):
        ada.merge_from(state("bob", results={"b": 2}))
    with pytest.warns(DeprecationWarning, match="migration only"):
        merged = ada.merge_from(state("ada", results={"c": 3}))

    assert merged.results == {"a": 1, "c": 3}
    assert ada.results == {"a": 1}
