"""The execution context: frozen, of one user, and without ambient state."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.context import ContextError, UserExecutionContext
from tests.unit.app.parts import (
    MemoryEmitter,
    MemoryKeyspace,
    MemoryTrail,
    context_of,
)


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(UserExecutionContext)]
)
def test_context_field_cannot_change(name: str) -> None:
    """No field of a context can be set after it was built."""
    context = context_of("ada")

    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(context, name, None)


def test_context_takes_no_extra_attribute() -> None:
    """Nothing can be hung onto a context on the side."""
    with pytest.raises((AttributeError, TypeError)):
        object.__setattr__(context_of("ada"), "note", "x")


@pytest.mark.parametrize("part", ["keyspace", "emitter", "audit"])
def test_context_refuses_part_of_another_user(part: str) -> None:
    """A context whose parts belong to two users cannot be built."""
    parts: dict[str, Any] = {
        "keyspace": MemoryKeyspace("bob"),
        "emitter": MemoryEmitter("bob"),
        "audit": MemoryTrail("bob"),
    }

    with pytest.raises(ContextError, match=f"The {part} belongs to user 'bob'"):
        dataclasses.replace(context_of("ada"), **{part: parts[part]})


def test_context_refuses_parent_of_another_user() -> None:
    """A context cannot become the child of another user's context."""
    with pytest.raises(ContextError, match="The parent belongs to user 'bob'"):
        dataclasses.replace(context_of("ada"), parent=context_of("bob"))


def test_context_refuses_nobody() -> None:
    """A context without a user cannot be built."""
    with pytest.raises(ContextError, match="user_id is empty"):
        context_of("")


def test_context_equals_only_itself() -> None:
    """Two requests of one user are two contexts, whatever they carry."""
    first, second = context_of("ada"), context_of("ada")

    assert first != second
    assert len({first, second}) == 2


def test_child_inherits_and_names_parent() -> None:
    """A child is the same user's and keeps what it is not told anew."""
    parent = context_of("ada").child(thread_id="t-1")

    child = parent.child(run_id="run-1")

    assert (child.user_id, child.thread_id, child.run_id) == ("ada", "t-1", "run-1")
    assert child.parent is parent
    assert parent.run_id is None


async def test_child_audits_through_own_session() -> None:
    """A child's audit trail writes through the child's session, not the parent's."""
    parent = context_of("ada")
    async with AsyncSession() as session:
        child = parent.child(session=session)

        assert child.database is session
        assert isinstance(child.audit, MemoryTrail)
        assert child.audit.session is session
    assert isinstance(parent.audit, MemoryTrail)
    assert parent.audit.session is None


async def test_detached_context_keeps_no_session() -> None:
    """A detached context holds neither the session nor the parent that holds it."""
    async with AsyncSession() as session:
        request = context_of("ada").child(session=session, run_id="run-1")

        detached = request.detached()

    assert (detached.session, detached.parent) == (None, None)
    assert isinstance(detached.audit, MemoryTrail)
    assert detached.audit.session is None
    assert detached.run_id == "run-1"


def test_context_without_session_says_so() -> None:
    """Touching the database between transactions names the cure."""
    with pytest.raises(ContextError, match=r"SessionFactory\.for_user"):
        _ = context_of("ada").database


@pytest.mark.parametrize(
    "legacy",
    [
        {"user_id": "ada", "run_id": "run-1", "shared_cache": {"bob": "secret"}},
        SimpleNamespace(user_id="ada", run_id="run-1", shared_cache={"bob": "secret"}),
    ],
)
def test_legacy_context_gives_only_ids(legacy: object) -> None:
    """Of an old mutable context the ids are taken over and nothing else."""
    context = UserExecutionContext.from_agent_execution_context(
        legacy,
        keyspace=MemoryKeyspace("ada"),
        emitter=MemoryEmitter("ada"),
        audit=MemoryTrail("ada"),
    )

    assert (context.user_id, context.run_id) == ("ada", "run-1")
    assert context.request_id == "run-1"
    assert not hasattr(context, "shared_cache")


def test_legacy_context_without_user_is_refused() -> None:
    """Work that belongs to nobody does not become a context."""
    with pytest.raises(ContextError, match="names no user_id"):
        UserExecutionContext.from_agent_execution_context(
            {"run_id": "run-1"},
            keyspace=MemoryKeyspace("ada"),
            emitter=MemoryEmitter("ada"),
            audit=MemoryTrail("ada"),
        )


def test_legacy_context_of_another_user_is_refused() -> None:
    """An old context of one user cannot take another user's parts."""
    with pytest.raises(ContextError, match="belongs to user 'ada'"):
        UserExecutionContext.from_agent_execution_context(
            {"user_id": "bob"},
            keyspace=MemoryKeyspace("ada"),
            emitter=MemoryEmitter("ada"),
            audit=MemoryTrail("ada"),
        )
