"""The traffic shapes: ways to send the users' requests that make defects show.

Each shape is one coroutine that drives the users and returns what it has to say
for itself. Shapes that need something the service does not have (a stream, a
cacheable answer) say so; the judge later demands that users received their *own*
canaries in every shape, or the shape does not count.

Source: 38 released isolation bugs measured with two to a hundred users. Eighteen
need only concurrent users, fourteen need one of the shapes below, four block
innocents and leak nothing.
"""

import asyncio
import json
import unicodedata
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from test_framework.clients.caching import CachingRoute
from test_framework.clients.http import (
    Call,
    Caller,
    encode_request,
    renumbered,
    send_again,
)
from test_framework.clients.routes import (
    Route,
    SharedRoute,
    WireRequest,
)
from test_framework.clients.wire import WireError
from test_framework.core import (
    ShapeRecord,
    TargetError,
)
from test_framework.swarm.borrowing import Holder, borrow
from test_framework.swarm.hooks import HOOK_LIMIT_S, exit_refused, run_hook
from test_framework.swarm.scene import Scene
from test_framework.swarm.user import User

UPSTREAM_CONNECTIONS = 8
FEW_USERS = 40
BIG_BODY_BYTES = 300_000
BURST_ENDPOINTS = 6
BURST_ROUNDS = 1
DISCONNECT_ROUNDS = 3
BYSTANDER_READS = 5
PROVOKED_READS = 1
PROVOKED_WRITES = 1


@dataclass(slots=True)
class Outcome:
    """What a shape says for itself.

    Attributes:
        users: Who took part.
        reason: Why it could not be exercised; empty when it was.
        facts: Counts that only the driver knows.
    """

    users: Sequence[User]
    reason: str = ""
    facts: dict[str, int] = field(default_factory=dict)


Shape = Callable[[Scene], Awaitable[Outcome]]


async def run_shape(scene: Scene, name: str) -> None:
    """Run one shape and record it.

    Raises:
        TargetError: The service died or stopped accepting connections.
    """
    scene.recorder.shape = name
    started_ns = scene.clock.now_ns()
    try:
        outcome = await _SHAPES[name](scene)
    finally:
        scene.history.flush()
    scene.history.add(
        ShapeRecord(
            shape=name,
            users=tuple(user.index for user in outcome.users),
            started_ns=started_ns,
            ended_ns=scene.clock.now_ns(),
            applicable=not outcome.reason,
            reason=outcome.reason,
            facts=outcome.facts,
        )
    )
    await scene.require_reachable()


async def _own_connections(scene: Scene) -> Outcome:
    """Every user on own connections: half of all known bugs show here."""
    await run_hook(scene, scene.users, scene.plan.workload)
    return Outcome(scene.users)


async def _read_bursts(scene: Scene) -> Outcome:
    """All users read their own things at one instant, released by last bytes."""
    endpoints = _common(user.caller.reads for user in scene.users)
    if not endpoints:
        return Outcome(scene.users, "no GET returned a user's own canary")
    for _ in range(BURST_ROUNDS):
        for endpoint in endpoints[:BURST_ENDPOINTS]:
            await _burst(scene, endpoint)
    return Outcome(scene.users, facts={"endpoints": len(endpoints[:BURST_ENDPOINTS])})


async def _burst(scene: Scene, endpoint: str) -> None:
    readers = [user for user in scene.users if endpoint in user.caller.reads]
    # Warmed first: a handshake in the burst would part it.
    await asyncio.gather(*(user.direct.warm() for user in readers))
    burst = scene.burst(endpoint, len(readers))
    await asyncio.gather(
        *(
            send_again(
                scene.recorder,
                user.caller,
                user.caller.reads[endpoint],
                gate=burst,
            )
            for user in readers
        )
    )


async def _shared_connections(scene: Scene) -> Outcome:
    """All users through a reverse proxy with few upstream connections.

    Between their requests travel anonymous ones, health probes, pipelined ones and
    bodies of 300 kB (which make servers pause and resume reading).
    """
    route = SharedRoute(
        scene.address, size=UPSTREAM_CONNECTIONS, rng=scene.rng("shared")
    )
    visitor = Caller(-1, route)
    # Half of the users fill eight connections as well as all of them do.
    users = scene.users if len(scene.users) < FEW_USERS else scene.users[::2]
    with _travelling(users, route):
        done = asyncio.Event()
        strangers = asyncio.create_task(_strangers(scene, visitor, done))
        try:
            await run_hook(scene, users, scene.plan.workload)
            await _big_bodies(scene, users)
            await _visit_all(scene, users, visitor)
        finally:
            done.set()
            await strangers
    route.close()
    return Outcome(
        users,
        facts={"pipelined": route.pipelined, "requests": route.requests},
    )


async def _strangers(scene: Scene, visitor: Caller, done: asyncio.Event) -> None:
    """Ask anonymously for what users asked for, and probe, until ``done``."""
    rng = scene.rng("strangers")
    while not done.is_set():
        wanted: list[WireRequest] = []
        if scene.plan.health is not None:
            wanted.append(plain_get(scene, scene.plan.health))
        reader = rng.choice(scene.users)
        if reader.caller.reads:
            request = rng.choice(sorted(reader.caller.reads.items()))[1]
            wanted.append(anonymous(scene, request))
        for request in wanted:
            await send_again(scene.recorder, visitor, request)
        await asyncio.sleep(0.02)


async def _visit_all(scene: Scene, users: Sequence[User], visitor: Caller) -> None:
    """Ask for each thing users read, anonymously and as them, all at once.

    One stranger alone would be given the warmest connection every time, and miss
    what users left behind on the others; some strangers travel right behind a user.
    """
    readers: dict[str, list[User]] = {}
    for user in users:
        for endpoint in user.caller.reads:
            readers.setdefault(endpoint, []).append(user)
    for endpoint, several in sorted(readers.items()):
        requests = [
            (user.caller, user.caller.reads[endpoint])
            for user in several[:UPSTREAM_CONNECTIONS]
        ]
        stranger = anonymous(scene, requests[0][1])
        requests += [(visitor, stranger)] * UPSTREAM_CONNECTIONS
        await asyncio.gather(
            *(send_again(scene.recorder, *request) for request in requests)
        )


async def _big_bodies(scene: Scene, users: Sequence[User]) -> None:
    """Each fifth user repeats an own write with 300 kB of padding, then reads."""

    async def one(user: User) -> None:
        for endpoint in sorted(user.caller.writes)[:1]:
            padded = _padded(user.caller.writes[endpoint])
            # A service may cut a body that it finds too large.
            await send_again(scene.recorder, user.caller, padded, disturbed=True)
        for endpoint in sorted(user.caller.reads)[:1]:
            await send_again(scene.recorder, user.caller, user.caller.reads[endpoint])

    await asyncio.gather(*(one(user) for user in users[::5]))


def _padded(request: WireRequest) -> WireRequest:
    body = json.loads(request.body)
    body["_padding"] = "x" * BIG_BODY_BYTES
    return with_body(request, json.dumps(body).encode())


async def _caching_proxy(scene: Scene) -> Outcome:
    """Users and strangers through a shared cache that keeps what it is allowed to."""
    # A cache that leaks does so for the first few users; more cost time only.
    users = scene.users[: max(4, len(scene.users) // 8)]
    cache = CachingRoute(
        SharedRoute(
            scene.address,
            size=UPSTREAM_CONNECTIONS,
            rng=scene.rng("cache"),
            pipelining=0,
        )
    )
    visitor = Caller(-1, cache)

    async def read_all(user: User) -> None:
        for _, request in sorted(user.caller.reads.items()):
            await send_again(scene.recorder, user.caller, request)
            await send_again(scene.recorder, visitor, anonymous(scene, request))

    with _travelling(users, cache):
        await run_hook(scene, users, scene.plan.workload)
        for _ in range(2):
            await asyncio.gather(*(read_all(user) for user in users))
    cache.close()
    return Outcome(users, facts={"cache_hits": cache.hits, "stored": cache.stores})


async def _error_paths(scene: Scene) -> Outcome:
    """Every user provokes refusals: canaries in the request, and what is another's."""
    # Chosen before anything is sent: what is learned meanwhile comes in any order.
    borrowed = _borrowed(scene)

    async def provoke(user: User) -> None:
        reads = _turn(user.caller.reads, user.index, PROVOKED_READS)
        for endpoint, request in reads:
            for wrong in (user.canary("wrong-id"), str(uuid.UUID(int=user.index))):
                target = wrong_target(endpoint, request.target, wrong)
                await send_again(
                    scene.recorder, user.caller, with_target(request, target)
                )
        for _, request in _turn(user.caller.writes, user.index, PROVOKED_WRITES):
            body = json.dumps({"isolation": [user.canary("wrong-body")]}).encode()
            await send_again(scene.recorder, user.caller, with_body(request, body))
        for owner, request in borrowed[user.index]:
            # Its own caller: what is another's is not remembered as the user's own.
            caller = Caller(user.index, user.direct, borrowed_from=owner)
            await send_again(scene.recorder, caller, request, disturbed=True)
        for _, request in reads:
            await send_again(scene.recorder, user.caller, request)

    if not any(user.caller.reads or user.caller.writes for user in scene.users):
        return Outcome(scene.users, "the workload read and wrote nothing of its own")
    await asyncio.gather(*(provoke(user) for user in scene.users))
    if scene.plan.errors is not None:
        await run_hook(scene, scene.users, scene.plan.errors)
    return Outcome(
        scene.users, facts={"borrowed": sum(len(some) for some in borrowed.values())}
    )


def _borrowed(scene: Scene) -> dict[int, list[tuple[int, WireRequest]]]:
    """Return what each user asks for with own credentials, as another did before."""
    holders = [
        Holder(
            user.index,
            user.caller.reads,
            identities=frozenset(user.identities),
            secrets=frozenset({user.password}),
        )
        for user in scene.users
    ]
    return {
        asker.user: [
            (owner, with_target(own, target))
            for owner, own, target in borrow(
                asker,
                holders,
                public=scene.plan.public,
                holds_canary=lambda target: bool(scene.recorder.ids(target.encode())),
                rng=scene.rng("borrow", asker.user),
            )
        ]
        for asker in holders
    }


def _turn(
    requests: dict[str, WireRequest], start: int, count: int
) -> list[tuple[str, WireRequest]]:
    """Return ``count`` requests from place ``start`` on: together users cover all."""
    ordered = sorted(requests.items())
    first = start % len(ordered) if ordered else 0
    return (ordered[first:] + ordered[:first])[:count]


def colliding_names(stem: str) -> list[str]:
    """Return names that careless comparison takes for one another.

    By case, Unicode normalisation, separators, padding and pattern characters. The
    stem makes them unique to the run.
    """
    composed = unicodedata.normalize("NFC", f"{stem}-jos\u00e9")
    return [
        f"{stem}-ada",
        f"{stem}-ADA",
        composed,
        unicodedata.normalize("NFD", composed),
        f"{stem}-a:b",
        f"{stem}-a_b",
        f"{stem}-a%b",
        f"{stem}-a",
        f"{stem}-a:",
        f"{stem}-\u00df",
        f"{stem}-ss",
        f"{stem}-*",
    ]


async def _colliding_identifiers(scene: Scene) -> Outcome:
    """Users whose names are alike, with equal request ids on shared connections."""
    if len(scene.users) < 2:
        return Outcome(scene.users, "one user alone collides with nobody")
    cohort: list[User] = []
    for name in colliding_names(f"iso{scene.run_id}"):
        user = scene.add_extra(name)
        user.http.headers["x-request-id"] = "isolation-audit-equal"
        user.http.headers["idempotency-key"] = "isolation-audit-equal"
        cohort.append(user)
    accepted: list[User] = []

    async def enter(user: User) -> None:
        try:
            async with asyncio.timeout(HOOK_LIMIT_S):
                await scene.plan.login(user)
        except SystemExit as exc:
            raise exit_refused(scene.plan.login) from exc
        except Exception:  # noqa: BLE001  # a service may refuse odd names in any way
            return
        user.has_entered = True
        accepted.append(user)

    await asyncio.gather(*(enter(user) for user in cohort))
    accepted.sort(key=lambda user: user.index)
    for user in cohort:
        scene.record_user(user, "colliding")
    if len(accepted) >= 2:  # a collision takes two
        route = SharedRoute(scene.address, size=2, rng=scene.rng("collide"))
        with _travelling(accepted, route):
            await run_hook(scene, accepted, scene.plan.workload)
        route.close()
        for user in accepted:
            user.caller.route = user.direct
        await asyncio.gather(*(_read_own(scene, user) for user in accepted))
    facts = {"accepted": len(accepted), "offered": len(cohort)}
    if len(accepted) < 2:  # a collision takes two
        return Outcome(accepted, "the service accepted fewer than two", facts)
    return Outcome(accepted, facts=facts)


async def _read_own(scene: Scene, user: User) -> None:
    for _, request in sorted(user.caller.reads.items()):
        await send_again(scene.recorder, user.caller, request)


async def _streaming(scene: Scene) -> Outcome:
    """All users hold streaming answers open at once: more than pools have slots."""
    readers = [user for user in scene.users if user.caller.streams]
    if not readers and scene.plan.stream is None:
        return Outcome(readers, "no endpoint answered in chunks")

    async def read_slowly(user: User) -> None:
        for _, request in sorted(user.caller.streams.items())[:2]:
            index = scene.recorder.number()
            call = Call(
                scene.recorder,
                user.caller,
                renumbered(scene.recorder, request, index),
                index,
            )
            try:
                exchange = await call.start()
                async with asyncio.timeout(10):
                    async for _ in exchange.pieces():
                        await asyncio.sleep(0.02)
            except (TimeoutError, WireError, TargetError) as exc:
                if not isinstance(exc, TargetError):
                    call.finish(exc)
            else:
                call.finish()

    await asyncio.gather(*(read_slowly(user) for user in readers))
    if scene.plan.stream is not None:
        await run_hook(scene, scene.users, scene.plan.stream)
    return Outcome(readers or scene.users)


async def _disconnects(scene: Scene) -> Outcome:
    """Half of the users walk away in mid-request; the others must not notice."""
    disturbers, bystanders = scene.users[::2], scene.users[1::2]
    if not bystanders:
        return Outcome(scene.users, "one user has no bystander")
    if not any(user.caller.reads for user in bystanders):
        return Outcome(scene.users, "no GET returned a user's own canary")
    route = SharedRoute(
        scene.address, size=UPSTREAM_CONNECTIONS, rng=scene.rng("cut"), pipelining=0
    )
    cut = 0

    async def disturb(user: User) -> None:
        nonlocal cut
        rng = scene.rng("disturb", user.index)
        requests = [
            request
            for source in (
                user.caller.streams,
                user.caller.reads,
                user.caller.writes,
            )
            for _, request in sorted(source.items())
        ]
        for _ in range(DISCONNECT_ROUNDS if requests else 0):
            await _walk_away(scene, user, rng.choice(requests), rng.random())
            cut += 1

    async def go_on(user: User) -> None:
        for _ in range(2):
            for _, request in _turn(user.caller.reads, user.index, BYSTANDER_READS):
                await send_again(scene.recorder, user.caller, request)

    with _travelling(scene.users[: len(scene.users) // 2], route):
        await asyncio.gather(
            *(disturb(user) for user in disturbers),
            *(go_on(user) for user in bystanders),
        )
    route.close()
    # Who was cut comes back, and must find the service and its own things whole.
    for user in scene.users:
        user.direct.close()
    await asyncio.gather(*(_read_own(scene, user) for user in scene.users[:20]))
    return Outcome(scene.users, facts={"cut": cut, "bystanders": len(bystanders)})


async def _walk_away(
    scene: Scene, user: User, request: WireRequest, choice: float
) -> None:
    """Send a request and cut the connection at once, after ticks, or in the answer."""
    index = scene.recorder.number()
    call = Call(
        scene.recorder,
        user.caller,
        renumbered(scene.recorder, request, index),
        index,
        disturbed=True,
    )
    try:
        exchange = await call.start()
    except (TargetError, WireError):
        return
    # Cuts counted in loop ticks hit what cuts counted in milliseconds miss, and the
    # other way round on a busy machine: half of each.
    if choice < 0.5:  # a fair coin
        for _ in range(int(choice * 20)):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep((choice - 0.5) * 0.06)
    exchange.abort()
    call.finish(asyncio.CancelledError())


class _travelling:  # noqa: N801  # reads as a statement: with _travelling(users, route)
    """Send the users' requests over ``route`` inside the block."""

    def __init__(self, users: Iterable[User], route: Route) -> None:
        self._users = list(users)
        self._route = route

    def __enter__(self) -> None:
        for user in self._users:
            user.caller.route = self._route

    def __exit__(self, *_: object) -> None:
        for user in self._users:
            user.caller.route = user.direct


def _common(sources: Iterable[dict[str, WireRequest]]) -> list[str]:
    counts: dict[str, int] = {}
    for source in sources:
        for endpoint in source:
            counts[endpoint] = counts.get(endpoint, 0) + 1
    return sorted(
        (endpoint for endpoint, count in counts.items() if count > 1),
        key=lambda endpoint: (-counts[endpoint], endpoint),
    )


def plain_get(scene: Scene, path: str) -> WireRequest:
    """Return a GET without identity."""
    return encode_request(
        scene.recorder,
        index=0,
        method="GET",
        target=scene.address.prefix + path,
        headers=[(b"host", f"{scene.address.host}:{scene.address.port}".encode())],
        body=b"",
        hold=False,
    )


def anonymous(scene: Scene, request: WireRequest) -> WireRequest:
    """Return the request as a stranger would send it: without credentials."""
    return _rebuilt(
        scene,
        request,
        headers=[
            pair
            for pair in request.headers
            if pair[0] not in {"authorization", "cookie", "x-api-key"}
        ],
    )


def _rebuilt(
    scene: Scene, request: WireRequest, *, headers: list[tuple[str, str]]
) -> WireRequest:
    return encode_request(
        scene.recorder,
        index=0,
        method=request.method,
        target=request.target,
        headers=[(name.encode(), value.encode("latin-1")) for name, value in headers],
        body=request.body,
        hold=False,
    )


def with_target(request: WireRequest, target: str) -> WireRequest:
    """Return the request for another path."""
    line = f"{request.method} {target} HTTP/1.1\r\n".encode("latin-1")
    rest = request.head.partition(b"\r\n")[2]
    return WireRequest(
        request.method, target, line + rest, request.body, request.headers
    )


def with_body(request: WireRequest, body: bytes) -> WireRequest:
    """Return the request with another body and its length corrected."""
    lines = [
        line
        for line in request.head.split(b"\r\n")
        if not line.lower().startswith(b"content-length:")
    ]
    lines.insert(1, b"content-length: %d" % len(body))
    return WireRequest(
        request.method,
        request.target,
        b"\r\n".join(lines),
        body,
        request.headers,
    )


def wrong_target(endpoint: str, target: str, segment: str) -> str:
    """Return the target with its last identifier replaced, or with one appended.

    Args:
        endpoint: Method and template, ``GET /notes/{id}/text``.
        target: A target of that endpoint; its query is dropped.
        segment: The identifier that is none.
    """
    path = target.partition("?")[0].rstrip("/").split("/")
    template = endpoint.partition(" ")[2].rstrip("/").split("/")
    wrong = quote(segment, safe="")
    for back in range(1, min(len(path), len(template)) + 1):
        if template[-back].startswith("{"):
            path[-back] = wrong
            return "/".join(path)
    return "/".join([*path, wrong])


_SHAPES: dict[str, Shape] = {
    "own-connections": _own_connections,
    "read-bursts": _read_bursts,
    "shared-connections": _shared_connections,
    "caching-proxy": _caching_proxy,
    "error-paths": _error_paths,
    "colliding-identifiers": _colliding_identifiers,
    "streaming": _streaming,
    "disconnects": _disconnects,
}
