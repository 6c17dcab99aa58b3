"""The whole service with the model server behind it: runs, searches, and an outage."""

import asyncio
import contextlib
import json

import pytest
from pydantic import SecretStr

from app.settings import Settings
from tests.integration.app.service import Member, running
from tests.integration.llm.conftest import CHAT, KEY, RunningServer

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def _with_model(settings: Settings, server: RunningServer) -> Settings:
    return settings.model_copy(
        update={
            "model_url": f"{server.url}/v1",
            "model_key": SecretStr(KEY),
            "model_token_url": f"{server.url}/v1/token",
            "embedding_model": "e",
            # However slow the machine is, nobody waits in vain.
            "database_pool_timeout_s": 120.0,
        }
    )


async def _run(member: Member, goal: str) -> dict[str, str]:
    """Run an agent to its end and return the run."""
    thread = await member.new("/threads", title="t")
    run = await member.new(f"/threads/{thread}/runs", goal=goal)
    events = (await member.http.get(f"/runs/{run}/events")).text.splitlines()
    assert json.loads(events[-1])["type"].startswith("run.")
    found: dict[str, str] = (await member.http.get(f"/runs/{run}")).json()
    return found


async def _work(member: Member, number: int) -> None:
    """Write about soup and let an agent search the passages; judge what it says."""
    secret = f"CANARY{number:03}"
    await member.new("/documents", title="recipe", body=f"soup with {secret}")
    run = await _run(member, "Search passages about soup")
    hits = (await member.http.get("/documents/passages", params={"q": "soup"})).json()

    assert run["status"] == "completed", run
    for said in (run["result"], json.dumps(hits)):
        assert secret in said
        assert said.count("CANARY") == said.count(secret)


async def _serve_users(
    settings: Settings, server: RunningServer, *, users: int
) -> dict[str, int]:
    """Let users work at one time, and return what the model server served."""
    await server.misbehave()
    async with (
        contextlib.AsyncExitStack() as stack,
        running(_with_model(settings, server)) as service,
    ):
        members = [
            await stack.enter_async_context(service.member()) for _ in range(users)
        ]
        await asyncio.gather(*map(_work, members, range(users)))
        assert service.parts.model_guards.limits is not None
        assert service.parts.model_guards.limits.held == {}
    counts: dict[str, int] = (await server.counts())["served"]
    return counts


async def test_agents_think_with_the_model_server(
    settings: Settings, server: RunningServer
) -> None:
    """Users' agents are answered over HTTP, each about the own passages."""
    served = await _serve_users(settings, server, users=6)

    assert served["/v1/token"] == 1
    assert served[CHAT] == 18  # three turns each
    # A search before the passage has its embedding and one after it, most in batches.
    assert 1 <= served["/v1/embeddings"] <= 24


@pytest.mark.long
async def test_hundred_agents_think_with_the_model_server(
    settings: Settings, server: RunningServer
) -> None:
    """The same with a hundred users at one time."""
    served = await _serve_users(settings, server, users=100)

    assert served[CHAT] == 180


async def test_outage_of_the_model_fails_runs_only(
    settings: Settings, server: RunningServer
) -> None:
    """While the model is down runs fail with a sentence; searches find words."""
    await server.misbehave(status=500, paths=[CHAT, "/v1/embeddings"])
    async with running(_with_model(settings, server)) as service, service.member() as m:
        await m.new("/documents", title="recipe", body="soup")
        runs = [await _run(m, f"find soup {number}") for number in range(6)]
        found = await m.http.get("/documents/passages", params={"q": "soup"})
    calls = await server.served()

    assert {run["status"] for run in runs} == {"failed"}
    assert "HTTP 500" in runs[0]["error"]
    assert "left alone" in runs[-1]["error"]
    assert calls == 5  # then the breaker was open
    assert [hit["text"] for hit in found.json()] == ["soup"]


async def test_search_waits_for_the_model_without_a_connection(
    settings: Settings, server: RunningServer
) -> None:
    """With one connection to the database an agent's search still gets its turn."""
    one = _with_model(settings, server).model_copy(
        update={"database_pool_size": 1, "database_pool_timeout_s": 5.0}
    )
    async with running(one) as service, service.member() as member:
        await _work(member, 1)


async def test_used_up_budget_ends_a_run(
    settings: Settings, server: RunningServer
) -> None:
    """A run that could cost more than the user may spend fails, and says so."""
    poor = _with_model(settings, server).model_copy(update={"user_token_budget": 100})
    async with running(poor) as service, service.member() as member:
        run = await _run(member, "find soup")

    assert run["status"] == "failed"
    assert "100 are left of your budget" in run["error"]
    assert await server.served() == 0
