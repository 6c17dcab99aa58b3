"""Retrieval over real Postgres: fifty users with documents about the same thing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.context import UserExecutionContext
from app.llm import Embedding, HashingEmbedder, ModelUnavailableError, retrieve
from app.settings import Settings
from app.storage import (
    Hit,
    Passages,
    SessionFactory,
    TextPassages,
    VectorPassages,
    create_document,
    delete_document,
    open_engine,
    open_passages,
    update_document,
)
from app.storage.migrate import migrate
from app.storage.tables import passages, users
from tests.integration.llm.llm_twins import FiltersAfterwards, KeepsByPosition
from tests.unit.app.parts import context_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]

USERS = 50
PIECES = 3
"""Passages of each user's document."""


@dataclass(frozen=True)
class Library:
    """Users with a document each.

    Attributes:
        engine: The pool of the service's role.
        sessions: Sessions of users.
        contexts: The users.
    """

    engine: AsyncEngine
    sessions: SessionFactory
    contexts: tuple[UserExecutionContext, ...]

    @contextlib.asynccontextmanager
    async def at_work(
        self, context: UserExecutionContext
    ) -> AsyncIterator[UserExecutionContext]:
        """Open a transaction of a user."""
        async with self.sessions.for_user(context.user_id) as session:
            yield context.child(session=session)

    async def find(
        self,
        context: UserExecutionContext,
        query: str,
        store: Passages,
        *,
        sessions: SessionFactory | None = None,
        embedder: HashingEmbedder | None = None,
    ) -> list[Hit]:
        """Return what a user finds."""
        return await retrieve(
            context,
            query,
            sessions=sessions or self.sessions,
            passages=store,
            embedder=embedder or HashingEmbedder(),
            limit=5,
        )


def _body(user_id: str) -> str:
    """Return a text of three passages about soup, each of which names its owner."""
    return f"soup of {user_id} and salt. " * 40


@contextlib.asynccontextmanager
async def _opened(settings: Settings, *, count: int) -> AsyncIterator[Library]:
    await migrate(settings.owner_database_url)
    engine = open_engine(settings.service_database_url, pool_size=8, pool_timeout_s=20)
    contexts = tuple(context_of(str(uuid4())) for _ in range(count))
    library = Library(engine, SessionFactory(engine), contexts)
    rows = [
        {"user_id": c.user_id, "username": c.user_id, "password_hash": "-"}
        for c in contexts
    ]
    async with library.sessions.for_auth() as session:
        await session.execute(insert(users).values(rows))

    async def write(context: UserExecutionContext) -> None:
        async with library.at_work(context) as working:
            await create_document(
                working,
                document_id=context.user_id,
                title="soup",
                body=_body(context.user_id),
            )

    await asyncio.gather(*map(write, contexts))
    yield library
    await engine.dispose()


@pytest_asyncio.fixture
async def crowd(settings: Settings) -> AsyncIterator[Library]:
    """Return fifty new users who have a document each."""
    async with _opened(settings, count=USERS) as library:
        yield library


@pytest_asyncio.fixture
async def library(settings: Settings) -> AsyncIterator[Library]:
    """Return two new users who have a document each."""
    async with _opened(settings, count=2) as library:
        yield library


async def _judge(
    library: Library, store: Passages, sessions: SessionFactory | None = None
) -> None:
    """Let all users search at once: each finds all of the own passages, and no others."""
    found = await asyncio.gather(
        *(
            library.find(context, "soup and salt", store, sessions=sessions)
            for context in library.contexts
        )
    )
    for context, hits in zip(library.contexts, found, strict=True):
        owners = {hit.document_id for hit in hits}
        assert owners <= {context.user_id}, "a passage of another user"
        assert all(context.user_id in hit.text for hit in hits)
        assert len(hits) == PIECES, f"{len(hits)} of {PIECES} own passages were found"


@pytest.mark.parametrize(
    "store", [VectorPassages(), TextPassages()], ids=["vectors", "words"]
)
async def test_users_find_own_passages(crowd: Library, store: Passages) -> None:
    """Fifty users who write about the same find what is theirs, all of it, and no more."""
    await _judge(crowd, store)


@pytest.mark.power
async def test_filter_after_the_query_is_caught(
    crowd: Library, settings: Settings
) -> None:
    """A query over all users whose result is filtered misses the user's own passages."""
    owner = create_async_engine(settings.owner_database_url, poolclass=NullPool)

    with pytest.raises(AssertionError, match="own passages were found"):
        await _judge(crowd, FiltersAfterwards(), SessionFactory(owner))


async def test_store_is_chosen_by_what_the_server_has(library: Library) -> None:
    """This Postgres has pgvector, so embeddings are kept."""
    assert isinstance(await open_passages(library.engine), VectorPassages)


async def test_statement_without_condition_sees_own_passages(library: Library) -> None:
    """The database itself keeps passages apart, whatever a query forgets."""
    ada = library.contexts[0]
    async with library.at_work(ada) as working:
        owners = await working.database.scalars(select(passages.c.user_id))
        assert set(owners) == {ada.user_id}


@pytest.mark.parametrize(
    "store", [VectorPassages(), TextPassages()], ids=["vectors", "words"]
)
async def test_passages_follow_their_document(
    library: Library, store: Passages
) -> None:
    """What a document no longer says is not found, nor what was deleted."""
    ada = library.contexts[0]
    assert await library.find(ada, "soup", store)

    async with library.at_work(ada) as working:
        await update_document(
            working, ada.user_id, title="cars", body="brakes of old cars"
        )
    assert await library.find(ada, "soup salt", store) == []
    (hit,) = await library.find(ada, "brakes", store)
    assert (hit.title, hit.position, hit.text) == ("cars", 0, "brakes of old cars")

    async with library.at_work(ada) as working:
        await delete_document(working, ada.user_id)
    assert await library.find(ada, "brakes", store) == []


async def test_passages_are_found_by_nearness(library: Library) -> None:
    """The passage with more of the question's words comes first, and noise finds none."""
    ada = library.contexts[0]
    async with library.at_work(ada) as working:
        # Its words are drawn at random, and could be near to anything.
        await delete_document(working, ada.user_id)
        for number, body in enumerate(
            ["tyres of cars", "brakes and tyres of cars", "tea with milk"]
        ):
            await create_document(
                working, document_id=str(uuid4()), title=str(number), body=body
            )

    hits = await library.find(ada, "brakes tyres", VectorPassages())

    assert [hit.title for hit in hits] == ["1", "0"]
    assert await library.find(ada, "!? -- &|", VectorPassages()) == []
    assert await library.find(ada, "astronomy", VectorPassages()) == []


class _DownEmbedder(HashingEmbedder):
    """Does not answer."""

    async def embed(self, texts: Sequence[str]) -> list[Embedding]:
        raise ModelUnavailableError(str(len(texts)))


async def test_words_are_found_without_the_model(library: Library) -> None:
    """A model that is down costs the nearness, and no search."""
    ada = library.contexts[0]

    hits = await library.find(ada, "soup", VectorPassages(), embedder=_DownEmbedder())

    assert len(hits) == PIECES


class _ReplacingEmbedder(HashingEmbedder):
    """Takes so long that the document is replaced meanwhile."""

    def __init__(self, library: Library) -> None:
        self._library = library

    async def embed(self, texts: Sequence[str]) -> list[Embedding]:
        points = await super().embed(texts)
        ada = self._library.contexts[0]
        async with self._library.at_work(ada) as working:
            await update_document(
                working, ada.user_id, title="t", body="brakes of cars"
            )
        return points


async def _embed_while_replaced(library: Library, store: VectorPassages) -> int:
    """Return how many passages have an embedding that was made of an older text."""
    ada = library.contexts[0]
    await library.find(ada, "soup", store, embedder=_ReplacingEmbedder(library))
    async with library.at_work(ada) as working:
        stale = await working.database.scalar(
            text("SELECT count(*) FROM passages WHERE embedded_by IS NOT NULL")
        )
    return int(stale or 0)


async def test_embedding_of_replaced_text_is_not_kept(library: Library) -> None:
    """A document that is replaced while it is embedded waits for its own embedding."""
    assert await _embed_while_replaced(library, VectorPassages()) == 0
    (hit,) = await library.find(library.contexts[0], "brakes", VectorPassages())
    assert hit.text == "brakes of cars"


@pytest.mark.power
async def test_embedding_kept_by_position_is_caught(library: Library) -> None:
    """Kept by position, a new text is found by what the old one was about."""
    assert await _embed_while_replaced(library, KeepsByPosition()) > 0


async def test_cancelled_searches_leave_nothing(library: Library) -> None:
    """Searches cancelled at any of their awaits leave no connection in use."""
    ada = library.contexts[0]
    for turns in range(0, 60, 4):
        task = asyncio.create_task(library.find(ada, "soup", VectorPassages()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert library.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # every queue pool has it
    assert len(await library.find(ada, "soup", VectorPassages())) == PIECES
