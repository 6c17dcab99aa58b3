"""How an observer sees that each fault strikes: one look before it, one during it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import asyncpg
import psutil
import redis.asyncio
import websockets

from tests.integration.faults.stage import LIMIT_S, Stage, Wire

Look = Callable[[], Awaitable[bool]]
"""Whether the disturbance is seen now."""

Proof = Callable[[Stage], Awaitable[Look]]
"""Looks before the strike, and returns how to look during it."""

SILENCE_S = 0.5
"""Answers of an undisturbed server take a thousandth of it."""


async def soon(claim: Look, *, limit_s: float = LIMIT_S) -> bool:
    """Whether something is so within some time."""
    deadline = time.monotonic() + limit_s
    while not await claim():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


async def hang_ups_are_counted(stage: Stage) -> Look:
    """The service sees clients leave at both of the points that it can see."""
    points = ("hung up within the body", "hung up before the answer")
    before = await stage.get("/seen")

    async def look() -> bool:
        seen = await stage.get("/seen")
        # Its own answer may be cut as well.
        return isinstance(seen, dict) and all(
            seen.get(point, 0) > before.get(point, 0) for point in points
        )

    return look


async def sockets_end_without_a_close(stage: Stage) -> Look:
    """Six WebSockets are gone for both sides, and nobody sent a close frame."""
    url = stage.service_proxy.url.replace("http", "ws") + "/socket"
    sockets = [await websockets.connect(url) for _ in range(6)]
    for socket in sockets:
        await socket.send("hello")
        assert await socket.recv() == "hello"

    async def ending(socket: websockets.ClientConnection) -> str:
        try:
            # One that was cut says so at once; a busy machine needs a while.
            async with asyncio.timeout(1):
                await socket.recv()
        except TimeoutError:
            return "open"
        except websockets.ConnectionClosedError as exc:
            return "closed" if exc.rcvd else "cut"
        finally:
            await socket.close()
        return "message"

    async def look() -> bool:
        endings = await asyncio.gather(*(ending(socket) for socket in sockets))
        return endings == ["cut"] * 6

    return look


async def process_is_gone(stage: Stage) -> Look:
    """Its worker does not run, and nobody listens on its port."""
    process = psutil.Process(stage.host.pids[0])

    async def look() -> bool:
        return not process.is_running() and not isinstance(await stage.get("/pid"), int)

    return look


async def process_is_stopped(stage: Stage) -> Look:
    """The kernel says that the worker is stopped."""
    process = psutil.Process(stage.host.pids[0])

    async def look() -> bool:
        return process.status() == psutil.STATUS_STOPPED

    return look


def clock_is_off(*, by_s: float) -> Proof:
    """The service's time and ours are apart."""

    async def prove(stage: Stage) -> Look:
        async def look() -> bool:
            told = datetime.fromtimestamp(await stage.get("/clock"), UTC)
            return abs((told - datetime.now(UTC)).total_seconds() - by_s) < LIMIT_S

        return look

    return prove


async def sessions_are_gone(stage: Stage) -> Look:
    """No session that the service had in Postgres is there any more."""
    ports = [seen.server_port for seen in stage.database_proxy.connections()]
    query = "SELECT count(*) FROM pg_stat_activity WHERE client_port = ANY ($1)"

    async def count() -> int:
        session = await asyncpg.connect(stage.database_url)
        try:
            return int(await session.fetchval(query, ports))
        finally:
            await session.close()

    assert await count() >= 1

    async def look() -> bool:
        return await count() == 0

    return look


def path_fails(path: str, *words: str) -> Proof:
    """The service answers with one of some errors."""

    async def prove(stage: Stage) -> Look:
        async def look() -> bool:
            told = str(await stage.get(path))
            return any(word in told for word in words)

        return look

    return prove


async def postgres_is_another(stage: Stage) -> Look:
    """Another process serves, which began later."""
    query = "SELECT pg_postmaster_start_time()::text"

    async def began() -> datetime:
        session = await asyncpg.connect(stage.database_url)
        try:
            return datetime.fromisoformat(await session.fetchval(query))
        finally:
            await session.close()

    before = await began()

    async def look() -> bool:
        return await began() > before

    return look


async def clients_are_gone(stage: Stage) -> Look:
    """No connection that the service had to Redis is there any more."""

    async def clients() -> set[str]:
        async with redis.asyncio.from_url(stage.redis_url) as client:
            return {seen["id"] for seen in await client.client_list()}

    await stage.get("/redis")
    async with redis.asyncio.from_url(stage.redis_url) as client:
        ports = {seen.server_port for seen in stage.redis_proxy.connections()}
        before = {
            seen["id"]
            for seen in await client.client_list()
            if int(seen["addr"].rpartition(":")[2]) in ports
        }
    assert before

    async def look() -> bool:
        return not before & await clients()

    return look


def redis_is_another(*, keeps: bool) -> Proof:
    """Another process serves, with what the one before held or without it."""

    async def prove(stage: Stage) -> Look:
        async with redis.asyncio.from_url(stage.redis_url) as client:
            await client.set("held", "yes")
            before = (await client.info("server"))["run_id"]

        async def look() -> bool:
            async with redis.asyncio.from_url(stage.redis_url) as client:
                run_id = (await client.info("server"))["run_id"]
                held = await client.get("held") == b"yes"
            return run_id != before and held == keeps

        return look

    return prove


def answer_takes(*, at_least_s: float, payload: int) -> Proof:
    """No echo of several through the proxy is quick.

    On a busy machine one or the other is slow by itself.
    """

    async def is_slow(wire: Wire) -> bool:
        started = time.monotonic()
        wire.send(f"ECHO {'x' * payload}")
        head = f"${payload}\r\n"
        told = await wire.hear(len(head) + payload + 2)
        return told.startswith(head) and time.monotonic() - started >= at_least_s

    async def prove(stage: Stage) -> Look:
        wire = await _greeted(stage)

        async def look() -> bool:
            slow = True
            for _ in range(3):
                slow = slow and await is_slow(wire)
            wire.close()
            return slow

        return look

    return prove


async def connection_is_reset(stage: Stage) -> Look:
    """An idle connection ends with a reset."""
    wire = await _greeted(stage)

    async def look() -> bool:
        told = await wire.hear(1, limit_s=SILENCE_S)
        wire.close()
        return told == "reset"

    return look


async def peer_is_gone(stage: Stage) -> Look:
    """An open connection hears nothing, a new one is served, and Redis lost the old."""
    wire = await _greeted(stage)
    wire.send("CLIENT ID")
    name = (await wire.hear(1)) + (await wire.reader.readline()).decode().strip()

    async def is_forgotten() -> bool:
        async with redis.asyncio.from_url(stage.redis_url) as client:
            return name not in {f":{seen['id']}" for seen in await client.client_list()}

    async def look() -> bool:
        wire.send("PING")
        told = await wire.hear(1, limit_s=SILENCE_S)
        new = await _greeted(stage)
        new.close()
        wire.close()
        return told == "silence" and await soon(is_forgotten)

    return look


async def nobody_answers(stage: Stage) -> Look:
    """Open connections and new ones hear nothing, and none is refused."""
    wire = await _greeted(stage)

    async def look() -> bool:
        wire.send("PING")
        new = await stage.redis()
        told = [await w.hear(1, limit_s=SILENCE_S) for w in (wire, new)]
        wire.close()
        new.close()
        return told == ["silence", "silence"]

    return look


async def one_way_is_silent(stage: Stage) -> Look:
    """No answer comes, whichever way was lost."""
    wire = await _greeted(stage)

    async def look() -> bool:
        wire.send("PING")
        told = await wire.hear(1, limit_s=SILENCE_S)
        wire.close()
        return told == "silence"

    return look


async def _greeted(stage: Stage) -> Wire:
    wire = await stage.redis()
    assert await wire.hear(5) == "+OK\r\n"
    return wire


PROOFS: Mapping[str, Proof] = {
    "cancelled-requests": hang_ups_are_counted,
    "dropped-sockets": sockets_end_without_a_close,
    "kill-worker": process_is_gone,
    "stop-worker": process_is_stopped,
    "clock-jump": clock_is_off(by_s=7200),
    "clock-jump-back": clock_is_off(by_s=-7200),
    "terminate-backends": sessions_are_gone,
    "full-pool": path_fails("/database", "TimeoutError"),
    "full-postgres": path_fails("/database", "TooManyConnections"),
    "full-disk": path_fails("/fill", "could not extend file"),
    "restart-postgres": postgres_is_another,
    "redis-client-kill": clients_are_gone,
    "redis-pause": path_fails("/redis", "TimeoutError"),
    "restart-redis": redis_is_another(keeps=True),
    "lose-redis": redis_is_another(keeps=False),
    "slow-network": answer_takes(at_least_s=0.1, payload=1),
    "narrow-network": answer_takes(at_least_s=0.2, payload=5000),
    "reset-connections": connection_is_reset,
    "half-open": peer_is_gone,
    "partition": nobody_answers,
    "partition-one-way": one_way_is_silent,
}
"""How each fault is seen, by its name."""
