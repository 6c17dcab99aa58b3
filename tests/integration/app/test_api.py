"""The HTTP interface: own things only, read-your-writes, and problem documents."""

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.api import Parts
from app.cache import UserKeyspace
from app.settings import Settings
from app.storage import SessionFactory, find_thread
from app.storage.migrate import migrate
from tests.integration.app.service import Service, running, serving

pytestmark = [pytest.mark.integration, pytest.mark.slow]


async def test_foreign_and_absent_things_look_alike(settings: Settings) -> None:
    """Every path to another user's thing answers 404, as for a thing nobody has."""
    async with (
        running(settings) as service,
        service.member() as ada,
        service.member() as bob,
    ):
        thread = await ada.new("/threads", title="ADASECRET")
        document = await ada.new("/documents", title="d", body="ADASECRET")
        run = await ada.new(f"/threads/{thread}/runs", goal="ADASECRET")
        await ada.http.get(f"/runs/{run}/events")
        title, note = {"title": "x"}, {"content": "x"}
        attempts = [
            ("GET", f"/threads/{thread}", None),
            ("PATCH", f"/threads/{thread}", title),
            ("DELETE", f"/threads/{thread}", None),
            ("GET", f"/threads/{thread}/messages", None),
            ("POST", f"/threads/{thread}/messages", note),
            ("POST", f"/threads/{thread}/runs", {"goal": "x"}),
            ("GET", f"/documents/{document}", None),
            ("GET", f"/documents/{document}/content", None),
            ("PUT", f"/documents/{document}", {**title, "body": "x"}),
            ("DELETE", f"/documents/{document}", None),
            ("GET", f"/runs/{run}", None),
            ("GET", f"/runs/{run}/events", None),
            ("POST", f"/runs/{run}/cancel", None),
        ]
        for method, path, body in attempts:
            theirs = await bob.http.request(method, path, json=body)
            absent = str(uuid4())
            nobodys = path
            for known in (thread, document, run):
                nobodys = nobodys.replace(known, absent)
            none = await bob.http.request(method, nobodys, json=body)

            assert theirs.status_code == none.status_code == 404, (method, path)
            assert theirs.json()["detail"] == none.json()["detail"]
            assert theirs.headers["content-type"] == "application/problem+json"
        assert (await bob.http.get("/documents/search?q=ADASECRET")).json() == []
        for path in ("/threads", "/documents", "/runs"):
            assert (await bob.http.get(path)).json() == []
        assert (await ada.http.get(f"/documents/{document}")).json()["title"] == "d"


async def test_write_is_seen_by_next_read(settings: Settings) -> None:
    """A created, changed or deleted document shows in the cached list at once."""
    async with (
        running(settings) as first,
        running(settings) as second,
        first.member() as ada,
    ):
        auth = {"authorization": f"Bearer {ada.access_token}"}
        async with second.http(**auth) as other:

            async def titles() -> list[list[str]]:
                lists = [await h.get("/documents") for h in (ada.http, other)]
                return [[d["title"] for d in found.json()] for found in lists]

            assert await titles() == [[], []]
            document = await ada.new("/documents", title="one", body="b")
            assert await titles() == [["one"], ["one"]]
            body = {"title": "two", "body": "b"}
            await other.put(f"/documents/{document}", json=body)
            assert await titles() == [["two"], ["two"]]
            await ada.http.delete(f"/documents/{document}")
            assert await titles() == [[], []]


async def test_answer_waits_for_commit(settings: Settings) -> None:
    """However long a commit takes, the answer comes after it."""

    class SlowCommits(SessionFactory):
        @contextlib.asynccontextmanager
        async def for_user(self, user_id: str) -> AsyncIterator[AsyncSession]:
            async with super().for_user(user_id) as session:
                yield session
                await asyncio.sleep(0.2)

    def replace(parts: Parts) -> Parts:
        return dataclasses.replace(parts, sessions=SlowCommits(parts.engine))

    # Behind a real server: the test transport waits for the whole request anyway.
    async with (
        running(settings) as other,
        serving(settings, replace=replace) as service,
        service.member() as ada,
    ):
        thread = await ada.new("/threads", title="t")

        async with other.context(ada.user_id) as context:
            assert await find_thread(context, thread) is not None


async def test_version_is_raised_after_commit(settings: Settings) -> None:
    """When the cached lists are made unreachable the write can be read already."""
    visible: list[int] = []

    @dataclasses.dataclass(frozen=True, slots=True)
    class Witness(UserKeyspace):
        """Looks into the database when the version is raised."""

        sessions: SessionFactory = dataclasses.field(kw_only=True)

        async def incr(self, name: str, *, ttl_s: int) -> int:
            async with self.sessions.for_user(self.user_id) as session:
                count = text("SELECT count(*) FROM documents")
                visible.append(await session.scalar(count) or 0)
            return await UserKeyspace.incr(self, name, ttl_s=ttl_s)

    def replace(parts: Parts) -> Parts:
        make = functools.partial(Witness, sessions=parts.sessions)
        return dataclasses.replace(parts, keyspaces=make)

    async with running(settings, replace=replace) as service, service.member() as ada:
        document = await ada.new("/documents", title="d", body="b")
        await ada.http.delete(f"/documents/{document}")

    assert visible == [1, 0]


async def test_list_is_right_amid_writes(settings: Settings) -> None:
    """Whoever has a 201 in hand finds the document listed, with others reading."""
    async with running(settings) as service, service.member() as ada:

        async def write(number: int) -> None:
            document = await ada.new("/documents", title=f"{number}", body="b")
            listed = (await ada.http.get("/documents")).json()
            assert document in {d["document_id"] for d in listed}

        async def read() -> None:
            for _ in range(10):
                await ada.http.get("/documents")

        await asyncio.gather(*map(write, range(20)), *(read() for _ in range(10)))


async def _keys(service: Service) -> set[bytes]:
    keys = await service.parts.redis.keys("*")
    return {key for key in keys if isinstance(key, bytes)}


async def test_every_redis_key_is_owned_and_expires(settings: Settings) -> None:
    """All keys a user's work leaves in Redis carry the user's prefix and a TTL."""
    async with running(settings) as service, service.member() as ada:
        before = await _keys(service)
        thread = await ada.new("/threads", title="t")
        await ada.new("/documents", title="d", body="b")
        await ada.http.get("/documents")
        run = await ada.new(f"/threads/{thread}/runs", goal="g")
        await ada.http.get(f"/runs/{run}/events")

        new = await _keys(service) - before
        lifetimes = [await service.parts.redis.ttl(key) for key in new]

    assert len(new) >= 4
    assert all(key.startswith(f"u:{ada.user_id}:".encode()) for key in new)
    assert min(lifetimes) > 0


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere/HUNTER2", None, 404),
        ("DELETE", "/me", None, 405),
        ("POST", "/threads", b'{"title": 7, "HUNTER2": "HUNTER2"}', 422),
        ("POST", "/threads", b'{"title": "HUNTER2', 422),
        ("POST", "/threads", b'{"title": "HUNTER2\\u0000"}', 422),
        ("POST", "/threads", b'{"title": "HUNTER2\\ud800"}', 422),
        ("GET", "/threads/HUNTER2", None, 422),
        ("GET", "/documents/search?q=%00", None, 422),
        ("GET", "/threads?limit=0", None, 422),
        ("POST", "/auth/refresh", b'{"refresh_token": "HUNTER2"}', 401),
        ("POST", "/auth/login", b'{"username":"HUNTER2","password":"HUNTER2!"}', 401),
    ],
)
async def test_error_is_a_problem_document(
    settings: Settings, method: str, path: str, body: bytes | None, status: int
) -> None:
    """Every error is a problem document without values of the request's body."""
    async with running(settings) as service, service.member() as ada:
        headers = {"content-type": "application/json"}
        answer = await ada.http.request(method, path, content=body, headers=headers)

    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "private, no-store"
    assert problem["instance"] == path.partition("?")[0]
    assert '"HUNTER2' not in answer.text.replace(problem["instance"], "")


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", "Basic eDp4"])
async def test_stranger_gets_nothing(settings: Settings, authorization: str) -> None:
    """Without a valid token every user path answers 401 with a challenge."""
    async with (
        running(settings) as service,
        service.http(authorization=authorization) as http,
    ):
        for path in ("/me", "/threads", "/documents", "/runs", "/documents/search"):
            answer = await http.get(path, params={"q": "x"})
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_names_that_look_alike_are_two_users(settings: Settings) -> None:
    """User names are compared exactly: case, accents and separators count."""
    async with running(settings) as service, service.http() as http:
        base = uuid4().hex
        names = [
            f"{base}{end}" for end in ("a", "A", "á", "a\u0301", "a:", "a/", "\u0430")
        ]
        ids = set()
        for name in names:
            body = {"username": name, "password": f"password of {name}"}
            assert (await http.post("/auth/register", json=body)).status_code == 201
        for name in names:
            body = {"username": name, "password": f"password of {name}"}
            ids.add((await http.post("/auth/login", json=body)).json()["user_id"])

    assert len(ids) == len(names)


async def test_actions_are_in_audit_trail(settings: Settings) -> None:
    """What a user did is written down under the user and the request."""
    async with running(settings) as service, service.member() as ada:
        ada.http.headers["x-request-id"] = "req-7"
        thread = await ada.new("/threads", title="t")
        async with service.context(ada.user_id) as context:
            entries = await context.database.execute(
                text("SELECT request_id, action, subject FROM audit_log")
            )
            found = [tuple(entry) for entry in entries]

    assert ("req-7", "thread.created", thread) in found
    assert "session.started" in {action for _, action, _ in found}


async def test_instances_may_start_together(settings: Settings) -> None:
    """Migrations run by several starting workers at once do not disturb each other."""
    await asyncio.gather(*(migrate(settings.owner_database_url) for _ in range(4)))

    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(running(settings))
        async with service.http() as http:
            assert (await http.get("/health/ready")).status_code == 200


async def test_instance_leaves_nothing(settings: Settings) -> None:
    """A stopped service leaves no task and no connection."""
    before = asyncio.all_tasks()
    async with running(settings) as service, service.member() as ada:
        thread = await ada.new("/threads", title="t")
        await ada.new(f"/threads/{thread}/runs", goal="g")
        parts = service.parts

    assert asyncio.all_tasks() == before
    assert parts.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # every queue pool has it
    assert len(parts.engines) == 0
