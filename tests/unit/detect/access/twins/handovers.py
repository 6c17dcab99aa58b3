"""Things that are made once, or passed from one task to another."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from tests.unit.detect.access.twins.pair import Pair


@dataclass
class Client:
    """Made when it is first needed."""

    pool: object | None = None
    token: str = ""
    expired: bool = True
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: dict[str, "asyncio.Task[str]"] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)


async def make_pool(client: Client, _: int) -> None:
    if client.pool is None:
        await asyncio.sleep(0)
        client.pool = object()


async def make_pool_once(client: Client, _: int) -> None:
    if client.pool is None:
        async with client.lock:
            if client.pool is None:
                await asyncio.sleep(0)
                client.pool = object()
    assert client.pool


async def refresh(client: Client, user: int) -> None:
    if client.expired:
        token = await asyncio.sleep(0, f"token {user}")
        client.token, client.expired = token, False


async def refresh_under_lock(client: Client, user: int) -> None:
    async with client.lock:
        if client.expired:
            client.token = await asyncio.sleep(0, f"token {user}")
            client.expired = False


async def fetch(client: Client, user: int) -> None:
    page = client.pages.get("index")
    if page is None:
        page = await asyncio.sleep(0, f"<html>{user}")
        client.pages["index"] = page


async def fetch_once(client: Client, _: int) -> None:
    if "index" not in client.running:
        client.running["index"] = asyncio.ensure_future(asyncio.sleep(0, "<html>"))
    await client.running["index"]


@dataclass
class Job:
    """What a request waits for."""

    status: str = "new"
    done: asyncio.Event = field(default_factory=asyncio.Event)
    result: "asyncio.Future[int]" = field(default_factory=asyncio.Future)


@dataclass
class Desk:
    """A queue with a clerk."""

    jobs: "asyncio.Queue[Job]" = field(default_factory=asyncio.Queue)
    latest: Job = field(default_factory=Job)


async def work_on(job: Job) -> None:
    await asyncio.sleep(0)
    job.status = "done"
    job.done.set()


async def work_on_future(job: Job) -> None:
    await asyncio.sleep(0)
    job.status = "done"
    job.result.set_result(1)


async def leave_and_look(desk: Desk, user: int) -> None:
    desk.latest.status = f"queued {user}"
    worker = asyncio.ensure_future(work_on(desk.latest))
    for _ in range(3):
        await asyncio.sleep(0)
    assert desk.latest.status
    await worker


async def leave_and_wait(_: Desk, user: int) -> None:
    job = Job()
    job.status = f"queued {user}"
    worker = asyncio.ensure_future(work_on(job))
    await job.done.wait()
    assert job.status == "done"
    await worker


async def leave_and_await_future(_: Desk, user: int) -> None:
    job = Job()
    job.status = f"queued {user}"
    worker = asyncio.ensure_future(work_on_future(job))
    await job.result
    assert job.status == "done"
    await worker


async def leave_and_wait_for_event(_: Desk, user: int) -> None:
    job = Job()
    job.status = f"queued {user}"
    worker = asyncio.ensure_future(work_on(job))
    await asyncio.wait_for(job.done.wait(), 5)
    assert job.status == "done"
    await worker


async def leave_and_wait_for_future(_: Desk, user: int) -> None:
    job = Job()
    job.status = f"queued {user}"
    worker = asyncio.ensure_future(work_on_future(job))
    await asyncio.wait_for(asyncio.shield(job.result), 5)
    assert job.status == "done"
    await worker


async def leave_and_await_task(_: Desk, user: int) -> None:
    job = Job()
    job.status = f"queued {user}"
    await asyncio.ensure_future(work_on(job))
    assert job.status == "done"


async def give_through_queue(desk: Desk, user: int) -> None:
    mine = Job()
    mine.status = f"from {user}"
    await desk.jobs.put(mine)
    await asyncio.sleep(0)
    theirs = await desk.jobs.get()
    theirs.status = f"taken by {user}"
    await asyncio.sleep(0)
    assert theirs.status == f"taken by {user}"


@dataclass
class Registry:
    """Engines by user; an idle one may be dropped."""

    engines: dict[str, object] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


async def publish_and_trust(registry: Registry, _: int) -> None:
    registry.engines["one"] = object()
    await asyncio.sleep(0)
    assert registry.engines["one"]


async def publish_and_check(registry: Registry, _: int) -> None:
    made = object()
    registry.engines["one"] = made
    await asyncio.sleep(0)
    if registry.engines.get("one") is not made:
        return
    del registry.engines["one"]


async def merge_config(registry: Registry, user: int) -> None:
    config = dict(registry.config)
    config[f"of {user}"] = await asyncio.sleep(0, user)
    registry.config = config


async def merge_config_at_once(registry: Registry, user: int) -> None:
    value = await asyncio.sleep(0, user)
    registry.config = {**registry.config, f"of {user}": value}
    registry.config |= {"all": user}


LOST, CLOBBERED = "shared-update-lost", "shared-write-clobbered"
PAIRS = {
    "lazy pool": Pair(Client, make_pool, make_pool_once, LOST),
    "token refresh": Pair(Client, refresh, refresh_under_lock, LOST),
    "cache stampede": Pair(Client, fetch, fetch_once, LOST),
    "job without event": Pair(Desk, leave_and_look, leave_and_wait, CLOBBERED),
    "job without future": Pair(Desk, leave_and_look, leave_and_await_future, CLOBBERED),
    "job without event in time": Pair(
        Desk, leave_and_look, leave_and_wait_for_event, CLOBBERED
    ),
    "job without future in time": Pair(
        Desk, leave_and_look, leave_and_wait_for_future, CLOBBERED
    ),
    "job without awaiting": Pair(Desk, leave_and_look, leave_and_await_task, CLOBBERED),
    "job through a queue": Pair(Desk, leave_and_look, give_through_queue, CLOBBERED),
    "published and trusted": Pair(
        Registry, publish_and_trust, publish_and_check, CLOBBERED
    ),
    "copied and replaced": Pair(Registry, merge_config, merge_config_at_once, LOST),
}
