"""Cached lists of documents under every order: no list outlives the rows it was made of.

The endpoints are the service's own; rows are SQLite in memory, the cache a dictionary
whose answers come when the scheduler says.
"""

import json
from collections.abc import Awaitable
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Self, cast
from uuid import UUID

import pytest
from fastapi import Response

from app.api.documents import get_documents, post_document
from app.api.schemas import NewDocument
from app.context import UserExecutionContext
from test_framework.explore import Report, Scenario, explore, external
from tests.unit.app.exploring import USERS_ALONE, assert_found, left
from tests.unit.app.fakes.sessions import MemorySessions
from tests.unit.app.parts import MemoryKeyspace, context_of

if TYPE_CHECKING:
    from app.api.parts import Parts

_ADA = "00000000-0000-4000-8000-000000000001"


class _SlowKeyspace(MemoryKeyspace):
    """Answers when the world outside says, having done what it was told."""

    async def get(self, name: str) -> bytes | None:
        value = await super().get(name)
        await external("GET")
        return value

    async def set(self, name: str, value: bytes, *, ttl_s: int) -> None:
        await super().set(name, value, ttl_s=ttl_s)
        await external("SET")

    async def incr(self, name: str, *, ttl_s: int) -> int:
        count = await super().incr(name, ttl_s=ttl_s)
        await external("INCR")
        return count


class _Shelf:
    """Ada's documents and their cached list."""

    def __init__(self, sessions: MemorySessions) -> None:
        sessions.forget()
        self._sessions = sessions
        self._keyspace = _SlowKeyspace(_ADA)

    async def __aenter__(self) -> Self:
        await self.list()  # so that there is an old list
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:
            listed = await self.list()
            kept = self._sessions.titles(_ADA)
            assert listed == kept, f"the list shows {listed}, kept are {kept}"

    async def list(self) -> set[str]:
        """Return the titles that the list shows."""
        answer = await get_documents(self._context(), self._parts(0), 100)
        return {document["title"] for document in json.loads(bytes(answer.body))}

    async def post(self, number: int) -> None:
        """Keep a document, in a request with a session of its own."""
        async with self._sessions.for_user(_ADA) as session:
            await post_document(
                NewDocument(title=f"document {number}", body="b"),
                self._context().child(session=session),
                self._parts(number),
                Response(),
            )

    def _context(self) -> UserExecutionContext:
        return replace(context_of(_ADA), keyspace=self._keyspace)

    def _parts(self, number: int) -> "Parts":
        parts = SimpleNamespace(
            sessions=self._sessions,
            new_id=lambda: UUID(f"22222222-0000-4000-8000-00000000000{number}"),
        )
        return cast("Parts", parts)


def _explored(*, is_left_twice: bool = False) -> Report:
    """Let one request post a document, which may be cancelled, and another one list."""

    async def post_or_list(shelf: _Shelf, number: int) -> None:
        if number:
            await shelf.list()
        elif is_left_twice:
            await left(shelf.post(number), times=2)
        else:
            await shelf.post(number)

    sessions = MemorySessions()
    report = explore(
        Scenario(lambda: _Shelf(sessions), post_or_list),
        fidelity="await",
        cancel="" if is_left_twice else USERS_ALONE,
        schedules=200,
        budget="90s",
        seed=1,
    )
    sessions.close()
    return report


@pytest.mark.slow
@pytest.mark.parametrize("is_left_twice", [False, True], ids=["once", "twice"])
def test_list_shows_what_is_kept(is_left_twice: bool) -> None:  # noqa: FBT001  # pytest passes it by name
    """Whenever the writer is cancelled, once or twice, the next list is a true one."""
    report = _explored(is_left_twice=is_left_twice)

    assert report.witness is None, report.text()


async def _directly(work: Awaitable[None]) -> None:
    """Await the work in the task that may be cancelled."""
    await work


@pytest.mark.power
def test_disturbed_writer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled between its commit and the new version, it leaves the old list."""
    monkeypatch.setattr("app.api.documents.to_its_end", _directly)

    assert_found(_explored(), "assertion", "the list shows")
