"""What the reference service promises on two cores with 100 users, measured.

Real workers over real Postgres and Redis; clients in this process, on the same cores, so
times are what users see with both. ``kill`` and ``stop`` are done to one of two workers
while each user has a socket and a run under way on either: what is counted as lost is a
run that has not ended, or an event that a device missed or saw twice.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Sequence,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from app.cache import connect as connect_redis
from app.llm import ChatMessage, LocalModel, Reply, ToolSpec
from app.main import Parts, create_app
from app.realtime import EventLog
from test_framework.services import Host, HostPlan, Services, hosting, running_services

THINK_S = 3.0
# Less than the five seconds after which the service hangs up on an idle connection.
_LIMITS = httpx.Limits(keepalive_expiry=2.0)
_ENDS = {"run.completed", "run.failed", "run.cancelled"}


class _SlowModel(LocalModel):
    """Thinks for a while, so that a run is under way when something happens."""

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> Reply:
        await asyncio.sleep(THINK_S)
        return await super().complete(messages, tools=tools)


def create_slow_app() -> FastAPI:
    """Return the service with a model that takes its time."""

    def replace(parts: Parts) -> Parts:
        return dataclasses.replace(parts, model=_SlowModel())

    return create_app(replace=replace)


@dataclass
class Device:
    """A client that watches its user's events, and comes back when it is cut off."""

    url: str
    token: str
    user_id: str
    cursor: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    gaps: int = 0
    endings: list[tuple[int, str]] = field(default_factory=list)
    ended_at: list[float] = field(default_factory=list)
    ready_at: list[float] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    retry_after_s: float = 0.0

    async def watch(self) -> None:
        """Read events for ever, over as many connections as it takes."""
        while True:
            with contextlib.suppress(OSError, InvalidHandshake, TimeoutError):
                async with self.socket() as connection:
                    try:
                        await self.read(connection)
                    except ConnectionClosed as closed:
                        got = closed.rcvd
                        self.endings.append((got.code, got.reason) if got else (0, ""))
                        self.ended_at.append(time.perf_counter())
                        self.news.set()
            await asyncio.sleep(self.retry_after_s or 0.2)

    def socket(self) -> connect:
        """Return a connection from where this device is, to enter."""
        return connect(
            self.url.replace("http", "ws", 1) + f"/ws?after={self.cursor}",
            additional_headers={"authorization": f"Bearer {self.token}"},
            compression=None,
            open_timeout=30,
            proxy=None,
        )

    async def read(self, connection: ClientConnection) -> None:
        """Take what comes."""
        async for text in connection:
            frame = json.loads(text)
            if frame["type"] == "ready":
                self.retry_after_s = frame["retry_after_s"]
                self.ready_at.append(time.perf_counter())
            elif frame["type"] == "gap":
                self.gaps += 1
            else:
                self.cursor = frame["seq"]
                self.events.append({**frame, "came_at": time.perf_counter()})
            self.news.set()

    async def until(self, is_there: Callable[[], bool], within_s: float) -> bool:
        """Return whether something has come about in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not is_there():
                    self.news.clear()
                    await self.news.wait()
        return is_there()

    def end_of(self, run_id: str) -> str | None:
        """Return how a run ended, None while it has not."""
        ends = [e["type"] for e in self.events if e["run_id"] == run_id]
        return next((kind for kind in ends if kind in _ENDS), None)

    def mistakes(self) -> int:
        """Count the events that were missed, or seen twice."""
        numbers = [event["seq"] for event in self.events]
        return self.gaps + len(numbers) - len(set(numbers))


@dataclass
class User:
    """A user with a thread and two devices."""

    http: httpx.AsyncClient
    user_id: str
    token: str
    thread: str
    devices: tuple[Device, Device]

    async def start_run(self) -> str:
        """Start a run and return its id."""
        answer = await self.http.post(
            f"/threads/{self.thread}/runs", json={"goal": "what is new"}
        )
        answer.raise_for_status()
        return str(answer.json()["run_id"])


@contextlib.asynccontextmanager
async def crowd(url: str, count: int) -> AsyncIterator[list[User]]:
    """Register users, and have both devices of each watch."""
    async with contextlib.AsyncExitStack() as stack:

        async def enter() -> User:
            http = await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=url, timeout=60, trust_env=False, limits=_LIMITS
                )
            )
            who = {"username": f"user-{uuid4().hex}", "password": "correct horse"}
            (await http.post("/auth/register", json=who)).raise_for_status()
            pair = (await http.post("/auth/login", json=who)).json()
            token, user_id = pair["access_token"], pair["user_id"]
            http.headers["authorization"] = f"Bearer {token}"
            thread = (await http.post("/threads", json={"title": "t"})).json()
            devices = (Device(url, token, user_id), Device(url, token, user_id))
            return User(http, user_id, token, thread["thread_id"], devices)

        users = await asyncio.gather(*(enter() for _ in range(count)))
        watching = [
            asyncio.create_task(device.watch()) for u in users for device in u.devices
        ]
        try:
            for user in users:
                for device in user.devices:
                    await device.until(lambda d=device: bool(d.ready_at), 60)
            yield users
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process, MB."""
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def cpu_s(pids: Sequence[int]) -> float:
    """Return the CPU time that processes have used, seconds."""
    used = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(each.user + each.system for each in used)


@contextlib.contextmanager
def service(services: Services, target: str, *, workers: int) -> Iterator[Host]:
    """Host the service as the image runs it."""
    env = {
        "DATABASE_URL": str(services.database_url),
        "REDIS_URL": str(services.redis_url),
        "PASSWORD_MEMORY_KIB": "1024",
        "LOG_LEVEL": "WARNING",
    }
    plan = HostPlan(
        target,
        workers=workers,
        env=env,
        secrets=("SIGNING_KEYS",),
        uvicorn={
            "reset_contextvars": True,
            "ws": "app.api.wire:BoundedWebSocket",
            "ws_max_size": 65_536,
            "timeout_graceful_shutdown": 5,
        },
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        hosting(plan, work_dir=Path(folder)) as host,
    ):
        yield host


Rows = list[tuple[str, str, str]]
_Plan = tuple[str, int, Callable[[Host], Coroutine[Any, Any, Rows]]]


async def measure_runs(host: Host, users: int, rounds: int) -> Rows:
    """Let all users run at once, again and again, and watch the end of each run."""
    took_s: list[float] = []
    failed = 0
    peak_mb = 0.0
    async with crowd(host.url, users) as members:

        async def one(user: User) -> None:
            nonlocal failed
            started = time.perf_counter()
            try:
                run_id = await user.start_run()
            except httpx.HTTPError:
                failed += 1
                return
            device = user.devices[0]
            if not await device.until(lambda: device.end_of(run_id) is not None, 60):
                failed += 1
            failed += device.end_of(run_id) != "run.completed"
            took_s.append(time.perf_counter() - started)

        began_s = cpu_s(host.pids)
        for _ in range(rounds):
            await asyncio.gather(*(one(user) for user in members))
            peak_mb = max(peak_mb, *(rss_mb(pid) for pid in host.pids))
        run_ms = (cpu_s(host.pids) - began_s) * 1e3 / (rounds * users)
        mistakes = sum(d.mistakes() for user in members for d in user.devices)
    return [
        ("CPU of the workers for a run and its two devices", f"{run_ms:.0f} ms", ""),
        (
            "P95 of an agent run, all at once",
            f"{percentile(took_s, 0.95):.2f} s",
            "< 2 s",
        ),
        (
            "median of an agent run, all at once",
            f"{statistics.median(took_s):.2f} s",
            "",
        ),
        (f"failed of {len(took_s)} runs", str(failed), "0"),
        ("events missed or repeated, two devices each", str(mistakes), "0"),
        ("memory of a worker under load", f"{peak_mb:.0f} MB", "< 300 MB"),
    ]


async def measure_idle(host: Host, count: int) -> Rows:
    """Open sockets that nothing is sent to, and see what they cost."""
    (pid,) = host.pids
    async with crowd(host.url, 50) as members, contextlib.AsyncExitStack() as stack:
        before_mb, process = rss_mb(pid), psutil.Process(pid)
        started = time.perf_counter()
        gate = asyncio.Semaphore(50)

        async def open_one(number: int) -> None:
            user = members[number % len(members)]
            async with gate:
                connection = await stack.enter_async_context(user.devices[0].socket())
                await connection.recv()

        await asyncio.gather(*(open_one(number) for number in range(count)))
        opened_s = time.perf_counter() - started
        each_kb = (rss_mb(pid) - before_mb) * 1e3 / count
        await asyncio.sleep(3)  # subscriptions are confirmed, and logins asked again
        cpu = process.cpu_times()
        await asyncio.sleep(10)
        then = process.cpu_times()
        busy = (then.user + then.system - cpu.user - cpu.system) / 10
        files, memory_mb = process.num_fds(), rss_mb(pid)
    return [
        (f"{count} sockets opened", f"{count / opened_s:.0f} /s", ""),
        ("memory of an idle socket", f"{each_kb:.0f} kB", ""),
        (f"memory of a worker with {count} sockets", f"{memory_mb:.0f} MB", "< 300 MB"),
        (f"files of a worker with {count} sockets", str(files), ""),
        (f"CPU of a worker with {count} idle sockets", f"{busy:.1%}", ""),
    ]


async def measure_slow(host: Host, redis_url: str, clients: int) -> Rows:
    """Open sockets that never read, send megabytes to each, and see what it costs."""
    (pid,) = host.pids
    events = 100
    async with (
        crowd(host.url, clients // 5) as members,
        connect_redis(redis_url, connections=10) as redis,
        contextlib.AsyncExitStack() as stack,
    ):
        for user in members:
            for _ in range(5):
                connection = await stack.enter_async_context(user.devices[0].socket())
                await connection.recv()
                connection.transport.pause_reading()
        process, log = psutil.Process(pid), EventLog(redis)
        before_mb, most_mb = rss_mb(pid), 0.0
        port = int(host.url.rpartition(":")[2])

        def connected() -> int:
            found = process.net_connections("tcp")
            return sum(
                each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED
                for each in found
            )

        everybody = connected()

        async def feed() -> None:
            for _ in range(events):
                for user in members:
                    data = {"x": "x" * 60_000}
                    await log.append(
                        user.user_id, "x", run_id="r", thread_id="t", data=data
                    )

        feeding = asyncio.create_task(feed())
        began = time.perf_counter()
        while time.perf_counter() - began < 60:
            most_mb = max(most_mb, rss_mb(pid))
            if feeding.done() and connected() <= everybody - clients:
                break
            await asyncio.sleep(0.1)
        await feeding
        left = max(0, connected() - (everybody - clients))
        for user in members:
            await redis.delete(f"u:{user.user_id}:events")
    each_kb = (most_mb - before_mb) * 1e3 / clients
    return [
        (
            f"memory for each of {clients} clients that never read",
            f"{each_kb:.0f} kB",
            "",
        ),
        ("... of whom are left after at most 60 s", str(left), "0"),
    ]


async def _under_way(
    host: Host, users: int, end: Callable[[], Awaitable[None]]
) -> Rows:
    """End a worker while everybody's run is under way, and see who recovers."""
    async with crowd(host.url, users) as members:
        runs = await asyncio.gather(*(user.start_run() for user in members))
        await asyncio.sleep(THINK_S / 2)
        began = time.perf_counter()
        await end()
        ended_s = time.perf_counter() - began
        lost, back_s = 0, []
        for user, run_id in zip(members, runs, strict=True):
            for device in user.devices:
                has_ended = await device.until(
                    lambda d=device, r=run_id: d.end_of(r) is not None, 40
                )
                lost += not has_ended
                lost += device.mistakes()
                if device.ended_at:
                    back_s.append(device.ready_at[-1] - device.ended_at[-1])
        statuses = [
            (await user.http.get(f"/runs/{run_id}")).json()["status"]
            for user, run_id in zip(members, runs, strict=True)
        ]
        codes = {ending for u in members for d in u.devices for ending in d.endings}
        failed_at = [
            event["came_at"]
            for user in members
            for device in user.devices
            for event in device.events
            if event["type"] == "run.failed"
        ]
    return [
        ("process ended", f"{ended_s:.1f} s", "< 10 s"),
        (
            "devices back on another worker, last",
            f"{max(back_s, default=0):.1f} s",
            "< 10 s",
        ),
        (
            f"{len(failed_at) // 2} interrupted runs ended and told after",
            f"{max(failed_at, default=began) - began:.1f} s",
            "< 10 s",
        ),
        ("runs still running", str(statuses.count("running")), "0"),
        ("ends and events lost or repeated", str(lost), "0"),
        (
            "how sockets ended",
            ", ".join(f"{c} {r}".strip() for c, r in sorted(codes)),
            "",
        ),
    ]


async def _await_end(pid: int) -> None:
    def wait() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            deadline = time.monotonic() + 30
            while (
                process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline
            ):
                time.sleep(0.02)  # noqa: TID251  # a thread, and a process gives no sign

    await asyncio.to_thread(wait)


async def measure_stop(host: Host, users: int) -> Rows:
    """Stop a worker as an operator does."""

    async def stop() -> None:
        os.kill(host.pids[0], signal.SIGTERM)
        await _await_end(host.pids[0])

    rows = await _under_way(host, users, stop)
    return [(f"SIGTERM: {name}", value, promise) for name, value, promise in rows]


async def measure_kill(host: Host, users: int) -> Rows:
    """Kill a worker as the kernel does."""
    rows = await _under_way(host, users, lambda: asyncio.to_thread(host.kill, 0))
    return [(f"SIGKILL: {name}", value, promise) for name, value, promise in rows]


async def measure_logout(host: Host, users: int) -> Rows:
    """Log everybody out, and see when the sockets on both workers close."""
    took_s: list[float] = []
    async with crowd(host.url, users) as members:

        async def one(user: User) -> None:
            (await user.http.post("/auth/logout")).raise_for_status()
            answered = time.perf_counter()
            for device in user.devices:
                await device.until(lambda d=device: bool(d.ended_at), 30)
                took_s.append(max(device.ended_at[0] - answered, 0.0))

        for user in members:
            await one(user)
    return [
        (
            "a logout closes the sockets of all workers, P95",
            f"{percentile(took_s, 0.95) * 1e3:.0f} ms",
            "< 1 s",
        ),
        (
            "a logout closes the sockets of all workers, last",
            f"{max(took_s) * 1e3:.0f} ms",
            "< 1 s",
        ),
    ]


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sockets", type=int, default=1_000)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    fast, slow = "app.main:create_app", "benchmarks.app_numbers:create_slow_app"
    print(f"| {options.users} users | measured | promised |\n|---|--:|--:|")
    with running_services() as services:
        plans: dict[str, _Plan] = {
            "runs": (fast, 2, lambda h: measure_runs(h, options.users, options.rounds)),
            "idle": (fast, 1, lambda h: measure_idle(h, options.sockets)),
            "slow": (
                fast,
                1,
                lambda h: measure_slow(h, str(services.redis_url), options.users),
            ),
            "logout": (fast, 2, lambda h: measure_logout(h, options.users)),
            "stop": (slow, 2, lambda h: measure_stop(h, options.users)),
            "kill": (slow, 2, lambda h: measure_kill(h, options.users)),
        }
        for name, (target, workers, measure) in plans.items():
            if options.only not in {"", name}:
                continue
            with service(services, target, workers=workers) as host:
                for row in asyncio.run(measure(host)):
                    print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
