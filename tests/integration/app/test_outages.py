"""Runs outlive an outage of what they write to, and their ends come once.

The outage is real: a proxy before the server cuts what is open and refuses what comes.
"""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from pydantic import SecretStr

from app.agents import EngineRegistry
from app.cache import connect
from app.realtime import EventLog
from app.settings import Settings
from test_framework.faults import Link, Proxy, proxying
from tests.integration.app.service import running
from tests.integration.app.test_runs import SlowModel

pytestmark = [pytest.mark.integration, pytest.mark.slow]

OUTAGE_S = 0.6
LIMIT_S = 30.0


def _through(settings: Settings, field: str, proxy: Proxy) -> Settings:
    return settings.model_copy(update={field: SecretStr(proxy.url)})


async def _run_through_an_outage(
    settings: Settings, proxy: Proxy
) -> tuple[str, Counter[str]]:
    """Start a run, take its server away, let it go on; return what became of it."""
    model = SlowModel()
    async with (
        running(settings, replace=model.put_into) as service,
        service.member() as ada,
        asyncio.timeout(LIMIT_S),
    ):
        thread = await ada.new("/threads", title="t")
        run = await ada.new(f"/threads/{thread}/runs", goal="Find salt")
        await model.asked.wait()
        proxy.refuse()
        proxy.reset()
        model.gate.set()
        await asyncio.sleep(OUTAGE_S)
        proxy.accept()
        await _until_idle(service.parts.engines, ada.user_id)
        status = (await ada.http.get(f"/runs/{run}")).json()["status"]
        lines = (await ada.http.get(f"/runs/{run}/events")).text.splitlines()
    return status, Counter(json.loads(line)["type"] for line in lines)


async def _until_idle(engines: EngineRegistry, user_id: str) -> None:
    """Wait until no run of a user is worked on."""
    engine = engines._engines[user_id].result()
    while not engine.is_idle:  # noqa: ASYNC110  # it tells nobody
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("field", ["redis_url", "database_url"])
async def test_end_of_a_run_is_told_once_after_an_outage(
    settings: Settings, field: str
) -> None:
    """Whatever a run came to while a server was away, its user learns of it, once."""
    url: SecretStr = getattr(settings, field)
    with proxying(url.get_secret_value()) as proxy:
        through = _through(settings, field, proxy)

        status, kinds = await _run_through_an_outage(through, proxy)

    assert status in {"completed", "failed"}
    assert (kinds["run.started"], kinds[f"run.{status}"]) == (1, 1)


@pytest.mark.power
@pytest.mark.parametrize("field", ["redis_url", "database_url"])
async def test_run_without_patience_is_never_told_to_have_ended(
    settings: Settings, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin tries once: its user waits for an end that does not come."""

    async def once(do: Callable[[], Awaitable[object]], **_: object) -> object:
        return await do()

    monkeypatch.setattr("app.agents.engine.patiently", once)
    url: SecretStr = getattr(settings, field)
    with proxying(url.get_secret_value()) as proxy:
        through = _through(settings, field, proxy)
        model = SlowModel()
        async with (
            running(through, replace=model.put_into) as service,
            service.member() as ada,
            asyncio.timeout(LIMIT_S),
        ):
            thread = await ada.new("/threads", title="t")
            run = await ada.new(f"/threads/{thread}/runs", goal="Find salt")
            await model.asked.wait()
            proxy.refuse()
            proxy.reset()
            model.gate.set()
            await _until_idle(service.parts.engines, ada.user_id)
            proxy.accept()
            kinds = [
                event.kind
                for event in await service.parts.events.read(ada.user_id, after=0)
                if event.run_id == run
            ]

    assert not {"run.completed", "run.failed"} & set(kinds)


async def test_event_whose_answer_was_lost_is_kept_once(redis_url: str) -> None:
    """The client repeats a script whose answer it did not get; the log has it once."""
    user = str(uuid.uuid4())
    with proxying(redis_url) as proxy:
        redis = connect(proxy.url, connections=2)
        log = EventLog(redis)
        try:
            await log.append(user, "first", run_id="r", thread_id="t", data={})
            # The script arrives, and its answer ends in a reset.
            proxy.set(down=Link(cut_after_bytes=(0, 0)))
            appending = asyncio.create_task(
                log.append(user, "second", run_id="r", thread_id="t", data={})
            )
            await _second_is_kept(redis_url, user)
            proxy.clear()
            async with asyncio.timeout(LIMIT_S):
                number = await appending
            kinds = [event.kind for event in await log.read(user, after=0)]
        finally:
            await redis.aclose()

    assert number == 2
    assert kinds == ["first", "second"]


@pytest.mark.power
async def test_event_without_its_id_is_kept_twice(redis_url: str) -> None:
    """The twin makes an id for each attempt: what is sent again comes again."""
    user = str(uuid.uuid4())
    redis = connect(redis_url, connections=2)
    log = EventLog(redis)
    try:
        for event_id in ("a", "b", "b"):
            await log.append(
                user, "x", run_id="r", thread_id="t", data={}, event_id=event_id
            )
        events = await log.read(user, after=0)
    finally:
        await redis.aclose()

    assert [event.seq for event in events] == [1, 2]


async def _second_is_kept(redis_url: str, user: str) -> None:
    direct = connect(redis_url, connections=1)
    try:
        async with asyncio.timeout(LIMIT_S):
            while await EventLog(direct).end(user) < 2:  # noqa: ASYNC110  # in a server
                await asyncio.sleep(0.01)
    finally:
        await direct.aclose()
