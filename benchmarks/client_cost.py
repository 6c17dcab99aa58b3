"""What does a request cost the client? Ours against httpx, aiohttp and Locust.

All contenders ask one tiny server in a process of its own, side by side in one run:
a JSON answer of about 600 bytes with ten headers, over kept-alive connections of 20
users, an Authorization header in each request. Ours also number the operation, scan
the answer for canaries and write the history to disk; the others do none of that.
The best of several interleaved rounds counts, in CPU time of the client's process:
on a busy machine that is the figure that can be repeated.

aiohttp and Locust are installed into a virtual environment that is removed again;
where that fails they are left out, and the table says so.

    python benchmarks/client_cost.py [--requests 2000] [--rounds 3]
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

USERS = 20
SEED = 7
PATH = "/notes/mine"
TOKEN = "Bearer " + "t" * 160
ROOT = Path(__file__).resolve().parent.parent
OTHERS = {"aiohttp": "aiohttp", "Locust FastHttpUser": "locust"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one round took.

    Attributes:
        cpu_us: CPU time of the client per request.
        wall_us: Wall time per request, with all users at work.
    """

    cpu_us: float
    wall_us: float


# The server


class _Answering(asyncio.Protocol):
    """Answers every request with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *whole, self._seen = (self._seen + data).split(b"\r\n\r\n")
        if whole:
            self._transport.write(self._answer * len(whole))


async def _serve(secret: str) -> None:
    body = json.dumps({"title": secret, "text": "lorem ipsum " * 45}).encode()
    head = [
        "HTTP/1.1 200 OK",
        "date: Tue, 24 Nov 2026 12:00:00 GMT",
        "server: tiny",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "cache-control: private",
        "x-request-id: 2f1c9a4e-3d1b-4a53-9b0e-0a8c2f6f7c11",
        "x-content-type-options: nosniff",
        "x-frame-options: DENY",
        "vary: authorization",
        "strict-transport-security: max-age=31536000",
    ]
    answer = "\r\n".join(head).encode() + b"\r\n\r\n" + body
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Answering(answer), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Ends with the parent, also when that one is killed.
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def _server(secret: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", secret],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    port = process.stdout.readline().strip() if process.stdout else ""
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.communicate()


# The contenders


async def _measured(each: Callable[[int], Awaitable[None]], requests: int) -> Cost:
    """Let every user ask in turn, all users at once, after a warming round."""

    async def one(user: int, times: int) -> None:
        for _ in range(times):
            await each(user)

    await asyncio.gather(*(one(user, 5) for user in range(USERS)))
    times = requests // USERS
    cpu_ns, wall_ns = time.process_time_ns(), time.perf_counter_ns()
    await asyncio.gather(*(one(user, times) for user in range(USERS)))
    count = times * USERS * 1000
    return Cost(
        (time.process_time_ns() - cpu_ns) / count,
        (time.perf_counter_ns() - wall_ns) / count,
    )


async def _httpx(url: str, requests: int) -> Cost:
    import httpx  # noqa: PLC0415  # not there in the other environment

    clients = [
        httpx.AsyncClient(base_url=url, headers={"authorization": TOKEN})
        for _ in range(USERS)
    ]

    async def each(user: int) -> None:
        (await clients[user].get(PATH)).json()

    try:
        return await _measured(each, requests)
    finally:
        for client in clients:
            await client.aclose()


async def _aiohttp(url: str, requests: int) -> Cost:
    import aiohttp  # noqa: PLC0415  # not there in our environment

    clients = [
        aiohttp.ClientSession(url, headers={"authorization": TOKEN})
        for _ in range(USERS)
    ]

    async def each(user: int) -> None:
        async with clients[user].get(PATH) as answer:
            await answer.json()

    try:
        return await _measured(each, requests)
    finally:
        for client in clients:
            await client.close()


async def _ours(url: str, requests: int, *, is_raw: bool) -> Cost:
    import httpx  # noqa: PLC0415  # not there in the other environment

    from test_framework.clients.http import (  # noqa: PLC0415  # likewise
        Caller,
        RecordingTransport,
        send_again,
    )
    from test_framework.clients.recorder import Recorder  # noqa: PLC0415  # likewise
    from test_framework.clients.routes import (  # noqa: PLC0415  # likewise
        Address,
        DirectRoute,
    )
    from test_framework.core import (  # noqa: PLC0415  # likewise
        History,
        MonotonicClock,
    )

    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder, "history.jsonl"))
        recorder = Recorder(history, seed=SEED, clock=MonotonicClock(), is_tagging=True)
        address = Address.of(urlsplit(url), None)
        callers = [Caller(user, DirectRoute(address)) for user in range(USERS)]
        clients = [
            httpx.AsyncClient(
                base_url=url,
                headers={"authorization": TOKEN},
                transport=RecordingTransport(recorder, caller),
            )
            for caller in callers
        ]

        async def through_httpx(user: int) -> None:
            (await clients[user].get(PATH)).json()

        async def raw(user: int) -> None:
            known = callers[0].reads[f"GET {PATH}"]
            await send_again(recorder, callers[user], known)

        await through_httpx(0)
        cost = await _measured(raw if is_raw else through_httpx, requests)
        for client, caller in zip(clients, callers, strict=True):
            await client.aclose()
            caller.route.close()
        history.close()
    return cost


def _locust(url: str, requests: int) -> Cost:
    import gevent.event  # noqa: PLC0415  # not there in our environment
    from locust import FastHttpUser, task  # noqa: PLC0415  # likewise
    from locust.env import Environment  # noqa: PLC0415  # likewise

    marks: list[tuple[int, int]] = []
    done = gevent.event.Event()

    class Reader(FastHttpUser):
        host = url
        asked = 0

        @task
        def read(self) -> None:
            self.client.get(PATH, headers={"authorization": TOKEN}).json()
            Reader.asked += 1
            # Users that never wait let nobody else run: they must end it themselves.
            if Reader.asked in {5 * USERS, 5 * USERS + requests}:
                marks.append((time.process_time_ns(), time.perf_counter_ns()))
            if Reader.asked >= 5 * USERS + requests:
                done.set()
                gevent.sleep(3600)

    Environment(user_classes=[Reader]).create_local_runner().start(USERS, USERS)
    done.wait()
    (cpu_ns, wall_ns), (cpu_end_ns, wall_end_ns) = marks
    count = requests * 1000
    return Cost((cpu_end_ns - cpu_ns) / count, (wall_end_ns - wall_ns) / count)


def _measure(name: str, url: str, requests: int) -> Cost:
    if name == "Locust FastHttpUser":
        return _locust(url, requests)
    contenders: dict[str, Callable[[], Awaitable[Cost]]] = {
        "httpx": lambda: _httpx(url, requests),
        "aiohttp": lambda: _aiohttp(url, requests),
        "ours, user.http": lambda: _ours(url, requests, is_raw=False),
        "ours, raw": lambda: _ours(url, requests, is_raw=True),
    }

    async def run() -> Cost:
        return await contenders[name]()

    return asyncio.run(run())


def _in_process(python: str, name: str, url: str, requests: int) -> Cost:
    """Measure one contender in a fresh process."""
    answer = subprocess.run(
        [
            python,
            __file__,
            "--measure",
            name,
            "--url",
            url,
            "--requests",
            str(requests),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    ).stdout
    return Cost(*json.loads(answer.splitlines()[-1]))


def _install_others(folder: str) -> tuple[str, str]:
    """Return the interpreter that has the others, and why it has not."""
    venv.create(folder, with_pip=True)
    python = str(Path(folder, "bin", "python"))
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *OTHERS.values()],
        capture_output=True,
        text=True,
        check=False,
    )
    return python, (done.stderr.strip().splitlines() or [""])[-1] * bool(
        done.returncode
    )


def main() -> None:
    """Measure and print the table."""
    from test_framework.canary import Mint  # noqa: PLC0415  # not in the other one

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    costs: dict[str, list[Cost]] = {}
    with tempfile.TemporaryDirectory() as folder, _server(Mint(SEED).mint(0, 0)) as url:
        python, problem = _install_others(folder)
        names = ["httpx", "ours, user.http", "ours, raw"]
        names += [] if problem else list(OTHERS)
        for _ in range(options.rounds):
            for name in names:
                interpreter = python if name in OTHERS else sys.executable
                cost = _in_process(interpreter, name, url, options.requests)
                costs.setdefault(name, []).append(cost)
    best = {
        name: min(several, key=lambda c: c.cpu_us) for name, several in costs.items()
    }
    print("| client | CPU per request | of httpx | wall per request |")
    print("| --- | ---: | ---: | ---: |")
    for name, cost in best.items():
        share = cost.cpu_us / best["httpx"].cpu_us
        print(
            f"| {name} | {cost.cpu_us:.0f} us | {share:.2f} | {cost.wall_us:.0f} us |"
        )
    if problem:
        print(
            f"\naiohttp and Locust could not be installed and are left out: {problem}"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(_serve(sys.argv[2]))
    elif sys.argv[1:2] == ["--measure"]:
        found = _measure(sys.argv[2], sys.argv[4], int(sys.argv[6]))
        print(json.dumps([found.cpu_us, found.wall_us]), flush=True)
        # Locust's users would hold the process for ever.
        os._exit(0)
    else:
        main()
