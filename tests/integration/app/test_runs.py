"""Agent runs: real work on own data, one end, and stoppable from any worker."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Sequence

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.api import Parts
from app.llm import ChatMessage, LocalModel, Reply, ToolSpec
from app.settings import Settings
from app.storage import SessionFactory
from tests.integration.app.service import Member, Service, next_frames, running, serving

pytestmark = [pytest.mark.integration, pytest.mark.slow]
KINDS = [
    "run.started",
    "agent.thinking",
    *["tool.executing", "tool.completed"] * 2,
    "agent.thinking",
    "tool.executing",
    "tool.completed",
    "agent.thinking",
    "run.completed",
]


class SlowModel(LocalModel):
    """A model that thinks until the test lets it go on."""

    def __init__(self) -> None:
        """Think from the start."""
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> Reply:
        """Answer like the local model, once allowed."""
        self.asked.set()
        await self.gate.wait()
        return await super().complete(messages, tools=tools)

    def put_into(self, parts: Parts) -> Parts:
        """Replace the model of a service."""
        return dataclasses.replace(parts, model=self)


async def _events(member: Member, run_id: str) -> list[dict[str, object]]:
    answer = await member.http.get(f"/runs/{run_id}/events")
    return [json.loads(line) for line in answer.text.splitlines()]


async def _status(member: Member, run_id: str) -> tuple[str, str | None]:
    run = (await member.http.get(f"/runs/{run_id}")).json()
    return run["status"], run["error"]


async def test_run_works_on_own_data(settings: Settings) -> None:
    """A run finds the user's document, notes it in the thread and answers with it."""
    async with running(settings) as service, service.member() as ada:
        thread = await ada.new("/threads", title="t")
        await ada.new("/documents", title="recipe", body="CANARYBODY and salt")
        await ada.new(f"/threads/{thread}/messages", content="CANARYMESSAGE")
        run_id = await ada.new(f"/threads/{thread}/runs", goal="Find CANARYBODY")

        events = await _events(ada, run_id)
        run = (await ada.http.get(f"/runs/{run_id}")).json()
        messages = (await ada.http.get(f"/threads/{thread}/messages")).json()

    assert [event["type"] for event in events] == KINDS
    assert {event["run_id"] for event in events} == {run_id}
    assert "CANARYBODY and salt" in run["result"]
    assert "CANARYMESSAGE" in run["result"]
    assert [m["role"] for m in messages] == ["user", "agent"]
    assert "CANARYBODY and salt" in messages[1]["content"]


async def test_concurrent_runs_stay_apart(settings: Settings) -> None:
    """Fifty users run at once; each result holds the own words and no other's."""
    async with running(settings) as service:

        async def one(number: int) -> tuple[str, list[object]]:
            async with service.member() as member:
                thread = await member.new("/threads", title="t")
                word = f"CANARY{number:03}"
                await member.new("/documents", title="d", body=f"{word} {word}x")
                run = await member.new(f"/threads/{thread}/runs", goal=f"Find {word}")
                events = await _events(member, run)
                result = (await member.http.get(f"/runs/{run}")).json()["result"]
                return str(result), [event["type"] for event in events]

        results = await asyncio.gather(*(one(number) for number in range(50)))

    for number, (result, kinds) in enumerate(results):
        assert kinds == KINDS
        assert f"CANARY{number:03}x" in result
        assert result.count("CANARY") == result.count(f"CANARY{number:03}")


async def test_first_runs_need_one_connection_each(settings: Settings) -> None:
    """As many first runs as the pool has connections do not wait for one another.

    Making a user's engine takes a connection; a request that held one meanwhile would
    wait for a second until the pool's time limit, and so would all others.
    """
    two = settings.model_copy(
        update={"database_pool_size": 2, "database_pool_timeout_s": 2.0}
    )
    async with running(two) as service, contextlib.AsyncExitStack() as stack:
        members = [await stack.enter_async_context(service.member()) for _ in range(8)]
        threads = [await member.new("/threads", title="t") for member in members]

        answers = await asyncio.gather(
            *(
                member.http.post(f"/threads/{thread}/runs", json={"goal": "g"})
                for member, thread in zip(members, threads, strict=True)
            )
        )

    assert [answer.status_code for answer in answers] == [202] * 8


async def test_no_connection_is_held_while_thinking(settings: Settings) -> None:
    """Models of more users than the pool has connections think at one time."""
    model = SlowModel()
    two = settings.model_copy(update={"database_pool_size": 2})
    async with running(two, replace=model.put_into) as service:

        async def start() -> tuple[Member, str]:
            async with service.member() as member:
                thread = await member.new("/threads", title="t")
                return member, await member.new(f"/threads/{thread}/runs", goal="g")

        started = await asyncio.gather(*(start() for _ in range(6)))
        async with service.member() as ada:
            statuses = (await ada.http.get("/me")).status_code

    assert len(started) == 6
    assert statuses == 200


async def _cancel(start: Service, cancel: Service, model: SlowModel) -> None:
    async with start.member() as ada, start.socket(ada) as connection:
        await next_frames(connection, until="ready")
        thread = await ada.new("/threads", title="t")
        run_id = await ada.new(f"/threads/{thread}/runs", goal="g")
        await model.asked.wait()
        async with cancel.http(authorization=f"Bearer {ada.access_token}") as other:
            answer = await other.post(f"/runs/{run_id}/cancel")
        assert answer.status_code == 202
        assert answer.json()["cancel_requested"]

        frames = await next_frames(connection, until="run.cancelled")

        kinds = [frame["type"] for frame in frames]
        assert kinds == ["run.started", "agent.thinking", "run.cancelled"]
        assert await _status(ada, run_id) == ("cancelled", None)


async def test_run_is_cancelled_by_its_worker(settings: Settings) -> None:
    """Cancelling ends a run while its model thinks."""
    model = SlowModel()
    async with serving(settings, replace=model.put_into) as service:
        await _cancel(service, service, model)


async def test_run_is_cancelled_from_another_worker(settings: Settings) -> None:
    """The worker that takes the cancellation need not be the one that runs."""
    model = SlowModel()
    async with (
        serving(settings, replace=model.put_into) as first,
        serving(settings) as second,
    ):
        await _cancel(first, second, model)


async def test_lost_cancel_message_is_found_in_row(settings: Settings) -> None:
    """When the message is lost the run stops at its next step, by the row."""
    model = SlowModel()
    async with (
        running(settings, replace=model.put_into) as service,
        service.member() as ada,
    ):
        thread = await ada.new("/threads", title="t")
        run_id = await ada.new(f"/threads/{thread}/runs", goal="g")
        await model.asked.wait()
        async with service.context(ada.user_id) as context:
            await context.database.execute(
                text("UPDATE runs SET cancel_requested = true")
            )
        model.gate.set()

        events = await _events(ada, run_id)

        assert events[-1]["type"] == "run.cancelled"


async def test_finished_run_stays_finished(settings: Settings) -> None:
    """Cancelling a run that has ended changes nothing."""
    async with running(settings) as service, service.member() as ada:
        thread = await ada.new("/threads", title="t")
        run_id = await ada.new(f"/threads/{thread}/runs", goal="g")
        await _events(ada, run_id)

        answer = await ada.http.post(f"/runs/{run_id}/cancel")

        assert answer.json()["status"] == "completed"
        assert not answer.json()["cancel_requested"]


async def test_run_ends_once_however_it_is_raced(settings: Settings) -> None:
    """Cancellations sent while runs complete leave each run exactly one end."""
    async with running(settings) as service, service.member() as ada:
        thread = await ada.new("/threads", title="t")

        async def race(number: int) -> tuple[list[object], str]:
            run_id = await ada.new(f"/threads/{thread}/runs", goal="g")
            # Spread over the life of a run, which takes some 20 ms here.
            await asyncio.sleep(0.002 * number)
            await ada.http.post(f"/runs/{run_id}/cancel")
            kinds = [event["type"] for event in await _events(ada, run_id)]
            return kinds, (await _status(ada, run_id))[0]

        outcomes = await asyncio.gather(*(race(number) for number in range(20)))

    for kinds, status in outcomes:
        ends = [k for k in kinds if str(k).startswith("run.") and k != "run.started"]
        assert ends == [f"run.{status}"]


async def test_ending_run_cannot_be_cancelled(settings: Settings) -> None:
    """A cancellation that comes while the outcome is written does not lose it."""

    class HeldSessions(SessionFactory):
        """Holds the first transaction after ``hold`` until ``gate`` is set."""

        hold = False
        held = asyncio.Event()
        gate = asyncio.Event()

        @contextlib.asynccontextmanager
        async def for_user(self, user_id: str) -> AsyncIterator[AsyncSession]:
            is_held, HeldSessions.hold = HeldSessions.hold, False
            async with super().for_user(user_id) as session:
                yield session
                if is_held:
                    self.held.set()
                    await self.gate.wait()

    class LastWord(LocalModel):
        """Answers at once, so that the next transaction is the one that ends."""

        async def complete(
            self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
        ) -> Reply:
            HeldSessions.hold = True
            return await super().complete(messages, tools=tools[:0])

    def replace(parts: Parts) -> Parts:
        sessions = HeldSessions(parts.engine)
        return dataclasses.replace(parts, sessions=sessions, model=LastWord())

    async with running(settings, replace=replace) as service, service.member() as ada:
        thread = await ada.new("/threads", title="t")
        run_id = await ada.new(f"/threads/{thread}/runs", goal="g")
        await asyncio.wait_for(HeldSessions.held.wait(), 5)

        assert not service.parts.engines.cancel_run(run_id)
        HeldSessions.gate.set()
        events = await asyncio.wait_for(_events(ada, run_id), 10)

        assert events[-1]["type"] == "run.completed"
        assert await _status(ada, run_id) == ("completed", None)


async def test_shutdown_interrupts_runs(settings: Settings) -> None:
    """A worker that stops marks its runs failed and tells the user so."""
    model = SlowModel()
    async with running(settings) as other:
        async with (
            running(settings, replace=model.put_into) as service,
            service.member() as ada,
        ):
            thread = await ada.new("/threads", title="t")
            run_id = await ada.new(f"/threads/{thread}/runs", goal="g")
            await model.asked.wait()
        async with other.http(authorization=f"Bearer {ada.access_token}") as http:
            survivor = dataclasses.replace(ada, http=http)

            assert await _status(survivor, run_id) == ("failed", "interrupted")
            events = await _events(survivor, run_id)
            assert events[-1]["type"] == "run.failed"
            assert events[-1]["data"] == {"error": "interrupted"}


async def test_abandoned_run_is_swept(settings: Settings) -> None:
    """A run whose worker was killed fails when its user next starts one."""
    async with running(settings) as service, service.member() as ada:
        thread = await ada.new("/threads", title="t")
        orphan = "00000000-0000-4000-8000-" + ada.user_id[-12:]
        async with service.context(ada.user_id) as context:
            await context.database.execute(
                text(
                    "INSERT INTO runs (id, user_id, thread_id, request_id, goal,"
                    " status, events_after, deadline_at) VALUES (:id, :user, :thread,"
                    " 'r', 'g', 'running', 0, now() - interval '1 hour')"
                ),
                {"id": orphan, "user": ada.user_id, "thread": thread},
            )

        await ada.new(f"/threads/{thread}/runs", goal="g")

        assert await _status(ada, orphan) == ("failed", "abandoned")


async def test_run_times_out(settings: Settings) -> None:
    """A run whose model never answers fails at its deadline."""
    short = settings.model_copy(update={"run_timeout_s": 0.05})
    async with (
        running(short, replace=SlowModel().put_into) as service,
        service.member() as ada,
    ):
        thread = await ada.new("/threads", title="t")
        run_id = await ada.new(f"/threads/{thread}/runs", goal="g")
        await _events(ada, run_id)

        assert await _status(ada, run_id) == ("failed", "timeout")
