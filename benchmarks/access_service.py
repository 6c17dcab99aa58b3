"""A service in one module, for the cost of tracking what its requests share.

About as much happens per request as in a small agent service: a token is checked, a
limit is kept under a lock, a store with a cache is read and written, an agent takes
three steps and each emits an event.
"""

import asyncio
import base64
import hashlib
import hmac
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel

KEY = b"a key for the benchmark"


class Ask(BaseModel):
    """What a user asks for."""

    text: str
    tags: list[str] = []
    limit: int = 3


@dataclass
class Context:
    """One request: who asks, and what happened so far."""

    user: str
    run: int
    steps: int = 0
    state: str = "new"
    events: list[dict[str, Any]] = field(default_factory=list)


class Limiter:
    """So many requests per user; more wait."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used: dict[str, int] = {}
        self.total = 0
        self.lock = asyncio.Lock()

    async def enter(self, user: str) -> None:
        """Take a place."""
        async with self.lock:
            used = self.used.get(user, 0)
            if used >= self.most:
                raise HTTPException(429)
            await asyncio.sleep(0)
            self.used[user] = used + 1
            self.total += 1

    def leave(self, user: str) -> None:
        """Give it back."""
        self.used[user] -= 1
        if self.used[user] == 0:
            del self.used[user]


class Store:
    """Documents by user, in front of a slow place."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.cache: dict[str, Any] = {}
        self.hits = 0
        self.misses = 0

    async def read(self, user: str, name: str) -> Any:  # noqa: ANN401  # any document
        """Return a document."""
        key = f"{user}:{name}"
        if key in self.cache:
            self.hits += 1
            return self.cache[key]
        self.misses += 1
        await asyncio.sleep(0)
        found = self.rows.setdefault(user, {}).get(name)
        self.cache[key] = found
        return found

    async def write(self, user: str, name: str, value: Any) -> None:  # noqa: ANN401  # any document
        """Keep a document."""
        await asyncio.sleep(0)
        rows = self.rows.setdefault(user, {})
        rows[name] = value
        self.cache.pop(f"{user}:{name}", None)


class Emitter:
    """Sends events to the sockets of a user."""

    def __init__(self) -> None:
        self.sequence = 0
        self.logs: dict[str, deque[dict[str, Any]]] = {}

    async def emit(self, context: Context, kind: str, **data: Any) -> None:  # noqa: ANN401  # JSON
        """Number an event and put it into the log of its user."""
        self.sequence += 1
        event = {"n": self.sequence, "kind": kind, "run": context.run, "data": data}
        context.events.append(event)
        log = self.logs.get(context.user)
        if log is None:
            log = self.logs[context.user] = deque(maxlen=50)
        log.append(event)
        await asyncio.sleep(0)


class Agent:
    """Works on what a user asked for, in steps."""

    def __init__(self, store: Store, emitter: Emitter) -> None:
        self.store = store
        self.emitter = emitter
        self.active: dict[int, Context] = {}

    async def run(self, context: Context, ask: Ask) -> dict[str, Any]:
        """Take the steps, and keep what came of them."""
        self.active[context.run] = context
        context.state = "running"
        try:
            notes = []
            for number in range(ask.limit):
                context.steps += 1
                seen = await self.store.read(context.user, f"note {number}")
                note = {"number": number, "text": ask.text, "before": seen is not None}
                notes.append(note)
                await self.emitter.emit(context, "step", number=number)
                await self.store.write(context.user, f"note {number}", note)
            context.state = "done"
            return {
                "user": context.user,
                "state": context.state,
                "steps": context.steps,
                "notes": [note["number"] for note in notes],
                "events": [event["n"] for event in context.events],
                "tags": sorted({tag.lower() for tag in ask.tags}),
            }
        finally:
            del self.active[context.run]


class Service:
    """Everything that requests share."""

    def __init__(self) -> None:
        self.limiter = Limiter(100)
        self.store = Store()
        self.emitter = Emitter()
        self.agent = Agent(self.store, self.emitter)
        self.runs = 0

    async def handle(self, user: str, ask: Ask) -> dict[str, Any]:
        """Serve one request."""
        self.runs += 1
        context = Context(user, self.runs)
        await self.limiter.enter(user)
        try:
            return await self.agent.run(context, ask)
        finally:
            self.limiter.leave(user)


def token_of(user: str) -> str:
    """Return a signed token."""
    body = base64.urlsafe_b64encode(json.dumps({"sub": user}).encode())
    return f"{body.decode()}.{hmac.new(KEY, body, hashlib.sha256).hexdigest()}"


def user_of(authorization: Annotated[str, Header()]) -> str:
    """Return whose token it is."""
    body, _, signature = authorization.removeprefix("Bearer ").partition(".")
    expected = hmac.new(KEY, body.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, signature):
        raise HTTPException(401)
    claims: dict[str, str] = json.loads(base64.urlsafe_b64decode(body))
    return claims["sub"]


def make_app(service: Service) -> FastAPI:
    """Return the service behind its web framework."""
    app = FastAPI()

    @app.post("/ask")
    async def ask(user: Annotated[str, Depends(user_of)], body: Ask) -> dict[str, Any]:
        return await service.handle(user, body)

    return app
