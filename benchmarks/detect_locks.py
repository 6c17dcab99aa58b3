"""Cost of the deadlock watcher: an acquire, a queue, a checkout, a request.

Run ``python -m benchmarks.detect_locks``. Each thing is done with the watch and without
it, in turns within one process, and the best of the rounds is taken, in CPU time: the
ratio is what to read, on a machine that others use as well.
"""

import argparse
import asyncio
import contextlib
import functools
import gc
import hashlib
import json
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    MutableMapping,
)
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, Header
from pydantic import BaseModel

from test_framework.detect.locks import DeadlockWatcher

ROUNDS = 15

Measure = Callable[..., float]
Work = Callable[[int], Awaitable[None]]


async def lock_pairs(count: int) -> None:
    """Acquire and release a lock that nobody else wants."""
    lock = asyncio.Lock()
    for _ in range(count):
        async with lock:
            pass


async def nested_pairs(count: int) -> None:
    """The same under another lock, whose order is known after the first time."""
    outer, lock = asyncio.Lock(), asyncio.Lock()
    async with outer:
        for _ in range(count):
            async with lock:
                pass


async def permit_pairs(count: int) -> None:
    """Acquire and release a permit."""
    permits = asyncio.Semaphore(3)
    for _ in range(count):
        async with permits:
            pass


async def contended(count: int) -> None:
    """Four tasks hand a lock around."""
    lock = asyncio.Lock()

    async def work() -> None:
        for _ in range(count // 4):
            async with lock:
                await asyncio.sleep(0)

    await asyncio.gather(*(work() for _ in range(4)))


async def queue_items(count: int) -> None:
    """Put an item into a queue and take it out."""
    queue: asyncio.Queue[int] = asyncio.Queue()
    for item in range(count):
        await queue.put(item)
        await queue.get()


@contextlib.contextmanager
def _watched(*, is_on: bool) -> Iterator[None]:
    gc.collect()
    watcher = DeadlockWatcher()
    if is_on:
        watcher.start()
    try:
        yield
    finally:
        watcher.stop()


def cost_us(work: Work, count: int, *, is_on: bool) -> float:
    """Return the CPU time of one turn, microseconds."""

    async def timed() -> float:
        started = time.process_time()
        await work(count)
        return time.process_time() - started

    with _watched(is_on=is_on):
        return asyncio.run(timed()) / count * 1e6


class Ask(BaseModel):
    """What a user asks for."""

    text: str
    tags: list[str] = []
    limit: int = 3


def service() -> FastAPI:
    """Return a service whose requests share a limit and a lock.

    All of it is asynchronous: threads would spend CPU time of their own.
    """
    app = FastAPI()
    limit, lock = asyncio.Semaphore(100), asyncio.Lock()
    notes: dict[str, list[str]] = {}

    async def user_of(authorization: Annotated[str, Header()]) -> str:
        token = authorization.removeprefix("Bearer ").encode()
        return hashlib.sha256(token).hexdigest()

    async def limited() -> AsyncIterator[None]:
        async with limit:
            yield

    @app.post("/ask", dependencies=[Depends(limited)])
    async def ask(question: Ask, user: Annotated[str, Depends(user_of)]) -> Ask:
        async with lock:
            kept = notes.setdefault(user, [])
            kept.append(question.text)
            del kept[: -question.limit]
        return question

    return app


def request_us(count: int, *, is_on: bool) -> float:
    """Return the CPU time of a request of FastAPI, microseconds, without a network."""
    body = json.dumps({"text": "what is new?", "tags": ["News", "today"]}).encode()
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
            (b"authorization", b"Bearer a token"),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise AssertionError(message)

    async def timed() -> float:
        app = service()
        await app(dict(scope), receive, send)
        started = time.process_time()
        for _ in range(count):
            # A task per request, as servers have it.
            await asyncio.create_task(app(dict(scope), receive, send))
        return time.process_time() - started

    with _watched(is_on=is_on):
        return asyncio.run(timed()) / count * 1e6


def client_request_us(count: int, *, is_on: bool) -> float:
    """Return the same with an httpx client in the same process, as the anchor had it."""

    async def timed() -> float:
        transport = httpx.ASGITransport(service())
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost"
        ) as client:

            async def post() -> None:
                answer = await client.post(
                    "/ask",
                    json={"text": "what is new?", "tags": ["News", "today"]},
                    headers={"authorization": "Bearer a token"},
                )
                answer.raise_for_status()

            await post()
            started = time.process_time()
            for _ in range(count):
                await asyncio.create_task(post())
            return time.process_time() - started

    with _watched(is_on=is_on):
        return asyncio.run(timed()) / count * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    works: list[tuple[str, Measure, str]] = [
        ("lock pair, uncontended", of(lock_pairs, 20_000), "+1.5 us"),
        ("lock pair under another lock", of(nested_pairs, 20_000), ""),
        ("semaphore pair, uncontended", of(permit_pairs, 20_000), ""),
        ("lock pair, four tasks contend", of(contended, 8_000), ""),
        ("queue item", of(queue_items, 20_000), ""),
        ("FastAPI request, ASGI alone", functools.partial(request_us, 200), ""),
        (
            "FastAPI request by an httpx client",
            functools.partial(client_request_us, 200),
            "x 1.02",
        ),
    ]
    print("| work | target | without | with | difference | ratio |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, measure, target in works:
        pairs = [(measure(is_on=False), measure(is_on=True)) for _ in range(rounds)]
        plain = min(pair[0] for pair in pairs)
        watched = min(pair[1] for pair in pairs)
        print(
            f"| {name} | {target} | {plain:.2f} us | {watched:.2f} us | "
            f"+{watched - plain:.2f} us | {watched / plain:.3f} |"
        )


def of(work: Work, count: int) -> Measure:
    """Return the measurement of one work."""
    return functools.partial(cost_us, work, count)


if __name__ == "__main__":
    main()
