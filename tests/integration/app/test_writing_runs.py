"""What agents write reaches their users while it is written: own text only, in order."""

import asyncio
import contextlib
import json

import pytest

from app.settings import Settings
from tests.integration.app.service import Member, running
from tests.integration.app.writing_twins import read_into_one_buffer

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
USERS = 50
FEW = 10


async def _watch_a_run(member: Member, number: int) -> None:
    """Let an agent work, and judge what was told of its answers on the way."""
    secret = f"CANARY{number:03}"
    thread = await member.new("/threads", title="t")
    await member.new("/documents", title="recipe", body=f"soup with {secret}")
    run = await member.new(f"/threads/{thread}/runs", goal=f"find soup {secret}")
    lines = (await member.http.get(f"/runs/{run}/events")).text.splitlines()
    events = [json.loads(line) for line in lines if line]

    turn, written = 0, ""
    for event in events:
        text = json.dumps(event)
        assert text.count("CANARY") == text.count(secret), f"{number} was told {text}"
        if event["type"] == "agent.thinking":
            turn, written = event["data"]["turn"], ""
        if event["type"] == "agent.writing":
            assert event["data"]["turn"] == turn
            written += event["data"]["text"]
    assert events[-1]["type"] == "run.completed", events[-1]
    assert secret in written, f"{number} was told {written!r}"
    assert events[-1]["data"]["result"] == written


async def _watch_all(settings: Settings, *, users: int) -> None:
    async with contextlib.AsyncExitStack() as stack, running(settings) as service:
        members = [
            await stack.enter_async_context(service.member()) for _ in range(users)
        ]
        await asyncio.gather(*map(_watch_a_run, members, range(users)))


async def test_fifty_users_watch_own_answers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With each piece told at once, the parts of a turn are its answer, and nobody's else."""
    monkeypatch.setattr("app.agents.writing.TELL_EVERY_S", 0.0)

    await _watch_all(settings, users=USERS)


@pytest.mark.power
async def test_shared_buffer_is_caught(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that gather their pieces in one place tell users of others' answers."""
    monkeypatch.setattr("app.agents.engine.read_telling", read_into_one_buffer)

    with pytest.raises(AssertionError, match="was told"):
        await _watch_all(settings, users=FEW)
