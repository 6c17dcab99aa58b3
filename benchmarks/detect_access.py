"""What tracking costs: a request of FastAPI, and its handler alone.

Run ``python -m benchmarks.detect_access``. The same module is imported twice, as it is
and with probes; rounds of both alternate in one process, and the least processor time
of each counts. asyncio's locks are patched in the rounds of the tracked one only.
``empty`` has probes that only hand on what they are given: the floor of any tracking in
Python.
"""

import argparse
import asyncio
import gc
import importlib
import json
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from types import ModuleType
from typing import Any

import httpx

from test_framework.detect.access import AccessTracker
from test_framework.detect.access.patches import Patches

MODULE = "benchmarks.access_service"
USERS = 20
ROUNDS = 15
REQUESTS = 200
Visit = Callable[[int], Awaitable[object]]


def load(*, tracker: AccessTracker | None) -> ModuleType:
    """Import the service anew."""
    sys.modules.pop(MODULE, None)
    if tracker is not None:
        tracker.start()
    return importlib.import_module(MODULE)


def empty(module: ModuleType) -> ModuleType:
    """Let the probes of a module do nothing but hand on what they are given."""
    for name in [name for name in vars(module) if name.startswith("_@")]:
        if name == "_@applied":
            setattr(
                module, name, lambda method, _, __, *arguments: (method, *arguments)
            )
        elif name == "_@second":
            setattr(module, name, lambda _, value: value)
        elif callable(vars(module)[name]) and name not in {"_@call", "_@cell"}:
            setattr(module, name, lambda value, *_: value)
    return module


def handler(module: ModuleType) -> Visit:
    """Return a visit of the handler alone."""
    service = module.Service()
    ask = module.Ask(text="what is new?", tags=["News", "today"])
    return lambda user: service.handle(f"user {user}", ask)


def request(module: ModuleType) -> Visit:
    """Return a visit by way of the web framework."""
    app = module.make_app(module.Service())
    tokens = [module.token_of(f"user {user}") for user in range(USERS)]
    body = json.dumps({"text": "what is new?", "tags": ["News", "today"]}).encode()

    async def visit(user: int) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/ask",
            "raw_path": b"/ask",
            "query_string": b"",
            "root_path": "",
            "headers": [
                (b"host", b"localhost"),
                (b"content-type", b"application/json"),
                (b"authorization", f"Bearer {tokens[user]}".encode()),
            ],
            "client": ("127.0.0.1", 50_000 + user),
            "server": ("127.0.0.1", 80),
        }

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and message["status"] != 200:
                raise AssertionError(message)

        await app(scope, receive, send)

    return visit


def client_request(module: ModuleType) -> Visit:
    """Return a visit by an httpx client in the same process, as the anchor had it."""
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(module.make_app(module.Service())),
        base_url="http://localhost",
    )
    tokens = [module.token_of(f"user {user}") for user in range(USERS)]

    async def visit(user: int) -> None:
        answer = await client.post(
            "/ask",
            json={"text": "what is new?", "tags": ["News", "today"]},
            headers={"authorization": f"Bearer {tokens[user]}"},
        )
        answer.raise_for_status()

    return visit


async def spend(visit: Visit, requests: int) -> float:
    """Return the processor seconds per request, ``USERS`` at a time."""

    async def one(user: int) -> None:
        # A task per request, as servers have it.
        for _ in range(requests // USERS):
            await asyncio.create_task(as_coroutine(visit(user)))

    start = time.process_time()
    await asyncio.gather(*(one(user) for user in range(USERS)))
    return (time.process_time() - start) / requests


async def as_coroutine(awaitable: Awaitable[object]) -> None:
    """Await anything."""
    await awaitable


def measure(
    visits: dict[str, Visit], rounds: int, patches: Patches
) -> dict[str, float]:
    """Return the least seconds per request of each, in alternating rounds."""
    least = dict.fromkeys(visits, float("inf"))
    patches.stop()
    with asyncio.Runner() as runner:
        # One loop for all: the service's locks belong to it.
        for _ in range(rounds):
            for name, visit in visits.items():
                gc.collect()
                if name == "tracked":
                    patches.start()
                least[name] = min(least[name], runner.run(spend(visit, REQUESTS)))
                patches.stop()
    return least


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    plain = load(tracker=None)
    tracker, bystander = AccessTracker([MODULE]), AccessTracker([MODULE])
    tracked = load(tracker=tracker)
    tracker._imports.stop()  # noqa: SLF001  # it goes on noting
    floor = empty(load(tracker=bystander))
    bystander.stop()
    print("| | plain | empty probes | tracked |")
    print("|---|---|---|---|")
    for name, make in (
        ("handler alone", handler),
        ("request, ASGI alone", request),
        ("request by an httpx client", client_request),
    ):
        visits = {"plain": make(plain), "empty": make(floor), "tracked": make(tracked)}
        noted = tracker.coverage().facts["accesses"]
        seconds = measure(visits, rounds, tracker._patches)  # noqa: SLF001  # see there
        noted = tracker.coverage().facts["accesses"] - noted
        base = seconds["plain"]
        print(
            f"| {name} | 1.00 ({base * 1e6:.0f} µs) | {seconds['empty'] / base:.2f} "
            f"| {seconds['tracked'] / base:.2f} |"
        )
        print(f"\n{noted / (rounds * REQUESTS):.0f} accesses noted per request\n")
    print(f"{len(tracker.alarms())} alarms")


if __name__ == "__main__":
    main()
