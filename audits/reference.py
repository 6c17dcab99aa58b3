"""The audit of the reference service: how its users log in and what they do.

Everything a user writes holds a canary, and it reads back only its own things; the
framework checks the rest. ``user.expect`` states what only this service promises.
"""

import asyncio
import base64
import itertools
import json
from types import SimpleNamespace
from typing import Any

from test_framework.swarm import User

EVENT_SEQUENCE = "seq"
EVENT_RESUME = "after"
EVENT_GAP = "gap"
HEALTH = "/health/live"
RECOVERY_GATES_S = {"*": 10.0}
P95_GATES_S = {"POST /threads/{thread_id}/runs": 2.0, "*": 5.0}

_RUN_EVENTS = {"run.started", "agent.thinking", "tool.executing", "tool.completed"}
_ENDS = {"run.completed", "run.failed", "run.cancelled"}
# A run that is late misses a gate; lost is what has not come when that is long past.
_PATIENCE_S = 30.0


async def login(user: User) -> None:
    """Register and log in over the service's own endpoints."""
    credentials = {"username": user.name, "password": user.password}
    answer = await user.http.post("/auth/register", json=credentials)
    answer.raise_for_status()
    user.own(answer.json()["user_id"])
    await _enter(user)


async def _enter(user: User) -> dict[str, Any]:
    credentials = {"username": user.name, "password": user.password}
    answer = await user.http.post("/auth/login", json=credentials)
    answer.raise_for_status()
    tokens: dict[str, Any] = answer.json()
    user.http.headers["authorization"] = f"Bearer {tokens['access_token']}"
    return tokens


async def logout(user: User) -> None:
    """End the session."""
    await user.http.post("/auth/logout")


async def workload(user: User) -> None:
    """Write a thread, a document and a run; watch the run; read everything back."""
    thread = (
        await user.http.post("/threads", json={"title": user.canary("thread title")})
    ).json()
    thread_path = f"/threads/{thread['thread_id']}"
    message = user.canary("message")
    messages_path = f"{thread_path}/messages"
    with user.calling("list", messages_path, "append", message):
        answer = await user.http.post(messages_path, json={"content": message})
        answer.raise_for_status()
    note = user.canary("document")
    document = (
        await user.http.post(
            "/documents",
            json={"title": f"Notes {note}", "body": f"About {note}. " * 40},
        )
    ).json()
    document_path = f"/documents/{document['document_id']}"
    # Runs cost the service most; in later shapes every fourth user starts one.
    run = None
    if user.shape == "own-connections" or user.index % 4 == 0:
        run = await _watch_a_run(user, thread_path, note)
    if user.index % 4 == 0:
        await _change_things(user, thread_path, document_path)
    if user.index % 4 == 1 and user.shape == "own-connections":
        await _write_from_two_devices(user, thread["thread_id"])
    if user.index % 8 == 2 and user.shape == "own-connections":
        await _scale_and_maintain_from_two_devices(user)
    if user.index % 8 == 3 and user.shape == "own-connections":
        await _intend(user)

    await user.rendezvous("read back")
    threads = (await user.http.get("/threads")).text
    user.expect(thread["thread_id"] in threads, "GET /threads lacks my thread")
    await user.http.get(thread_path)
    await user.http.get("/me")
    messages = (await user.http.get(f"{thread_path}/messages")).text
    user.expect(message in messages, "my message is not in its thread")
    documents = (await user.http.get("/documents")).text
    user.expect(note in documents, "GET /documents does not hold my document")
    await user.http.get(document_path)
    body = (await user.http.get(f"{document_path}/content")).text
    user.expect(body.count(note) == 40, "my document came back incomplete")
    found = (await user.http.get("/documents/search", params={"q": note})).text
    user.expect(note in found, "the search does not find my document")
    if user.shape == "own-connections" and user.index % 8 == 1:
        await _find_passages(user, note)
        await _find_own_key(user)
    if run is not None:
        await _read_the_run(user, run, note)
    # Both end logins, and what a user sent under one is refused when it is sent again:
    # only users with even numbers, who are the ones to walk away among the disconnects.
    if user.shape == "own-connections" and user.index % 10 == 0:
        await _refresh_at_once(user)
    if user.shape == "own-connections" and user.index % 8 == 4:
        await _leave_everywhere(user)


async def _find_own_key(user: User) -> None:
    """Find the key of the own token among those that are published for everybody."""
    token = user.http.headers["authorization"].removeprefix("Bearer ")
    header = json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))
    published = (await user.http.get("/.well-known/jwks.json")).text
    user.expect(header["kid"] in published, "the key of my token is not published")


async def _find_passages(user: User, note: str) -> None:
    """Find what the document says, by a word of it and by what it is about."""
    for question in (note, f"what is there about {note}"):
        found = await user.http.get("/documents/passages", params={"q": question})
        user.expect(note in found.text, "my passages are not found")


async def _change_things(user: User, thread_path: str, document_path: str) -> None:
    """Change and delete: what was replaced must not come back."""
    renamed = user.canary("renamed thread")
    await user.http.patch(thread_path, json={"title": f"Renamed {renamed}"})
    shown = (await user.http.get(thread_path)).text
    user.expect(renamed in shown, "my thread did not keep its new title")
    old, new = user.canary("replaced document"), user.canary("new document")
    draft = (
        await user.http.post("/documents", json={"title": "Draft", "body": old})
    ).json()
    draft_path = f"/documents/{draft['document_id']}"
    user.expect(draft_path != document_path, "two documents were given one id")
    await user.http.put(draft_path, json={"title": "Draft", "body": new})
    shown = (await user.http.get(f"{draft_path}/content")).text
    user.expect(new in shown and old not in shown, "my document was not replaced")
    await user.http.delete(draft_path)
    answer = await user.http.get(draft_path)
    user.expect(answer.status_code == 404, "my deleted document is still there")
    spare = (
        await user.http.post("/threads", json={"title": user.canary("spare thread")})
    ).json()
    spare_path = f"/threads/{spare['thread_id']}"
    await user.http.delete(spare_path)
    answer = await user.http.get(spare_path)
    user.expect(answer.status_code == 404, "my deleted thread is still there")


async def _write_from_two_devices(user: User, thread_id: str) -> None:
    """Append to one thread and read it, twice at one time; the order is checked."""
    path = f"/threads/{thread_id}/messages"

    async def write_and_read() -> None:
        for _ in range(2):
            text = user.canary("message of a device")
            with user.calling("list", path, "append", text) as call:
                answer = await user.http.post(path, json={"content": text})
                if not answer.is_success:
                    call.refused() if answer.is_client_error else call.lost()
            with user.calling("list", path, "read") as call:
                answer = await user.http.get(path)
                if answer.is_success:
                    # What the agent says is appended by runs, and nobody's call.
                    call.result = [
                        one["content"] for one in answer.json() if one["role"] == "user"
                    ]
                else:
                    call.refused()

    await asyncio.gather(write_and_read(), write_and_read())


async def _scale_and_maintain_from_two_devices(user: User) -> None:
    """Scale one node set and lease it, twice at one time; numbers and holders are checked."""
    path = f"/node-sets/{user.canary('node set')}"
    # There is one to be leased, before anybody counts.
    answer = await user.http.post(f"{path}/scale", json={"by": 0})
    user.expect(answer.is_success, f"scaling was refused: {answer.status_code}")
    tokens: list[int] = []

    async def scale() -> None:
        with user.calling("counter", path, "increment", 1) as call:
            answer = await user.http.post(f"{path}/scale", json={"by": 1})
            if answer.is_success:
                call.result = answer.json()["replicas"]
            else:
                call.refused() if answer.is_client_error else call.lost()
        with user.calling("counter", path, "read") as call:
            answer = await user.http.get(path)
            if answer.is_success:
                call.result = answer.json()["replicas"]
            else:
                call.refused()

    async def maintain(device: str) -> None:
        with user.calling("mutex", f"{path}/lease", "acquire") as call:
            answer = await user.http.post(f"{path}/lease", json={"holder": device})
            if not answer.is_success:
                call.refused() if answer.is_client_error else call.lost()
                return
        token = answer.json()["lease_token"]
        tokens.append(token)
        await scale()
        with user.calling("mutex", f"{path}/lease", "release") as call:
            answer = await user.http.delete(f"{path}/lease", params={"token": token})
            if not answer.is_success:
                call.refused() if answer.is_client_error else call.lost()
        user.expect(answer.is_success, "my lease was not mine to release")

    async def work(device: str) -> None:
        for _ in range(2):
            await scale()
            await maintain(device)

    await asyncio.gather(work("laptop"), work("phone"))
    user.expect(len(set(tokens)) == len(tokens), f"tokens were given twice: {tokens}")


async def _intend(user: User) -> None:
    """Say what is wanted, and wait until it is so."""
    name = user.canary("node set of an intent")
    answer = await user.http.post(
        "/intents",
        json={"goal": f"Add 2 nodes to {name}"},
        headers={"idempotency-key": user.canary("idempotency key")},
    )
    intent = answer.raise_for_status().json()
    async with asyncio.timeout(20):
        while intent["phase"] == "pending":
            await asyncio.sleep(0.3)
            answer = await user.http.get(f"/intents/{intent['intent_id']}")
            intent = answer.raise_for_status().json()
        user.expect(intent["phase"] == "applied", f"refused: {intent['problem']}")
        ready = 0
        while ready < 2:
            answer = await user.http.get(f"/node-sets/{name}")
            ready = answer.raise_for_status().json()["ready_replicas"]
            await asyncio.sleep(0.3)
    nodes = (await user.http.get(f"/node-sets/{name}/nodes")).json()
    user.expect(nodes == [0, 1], f"of two nodes there are {nodes}")
    listed = (await user.http.get("/node-sets")).text
    user.expect(name in listed, "GET /node-sets lacks my node set")
    mine = (await user.http.get("/intents")).text
    user.expect(name in mine, "GET /intents lacks my intent")
    await user.http.delete(f"/intents/{intent['intent_id']}")
    answer = await user.http.get(f"/intents/{intent['intent_id']}")
    user.expect(answer.status_code == 404, "my deleted intent is still there")


async def _watch_a_run(user: User, thread_path: str, note: str) -> str:
    """Start a run and follow its events to the end, over two connections."""
    async with user.ws("/ws") as events:
        await events.receive()
        await user.rendezvous("start runs")
        # Either tool of the agent, each over the user's own things.
        what = "the passages of my documents" if user.index % 2 else "my documents"
        answer = await user.http.post(
            f"{thread_path}/runs", json={"goal": f"Search {what} for {note}"}
        )
        user.expect(answer.is_success, f"the run was refused: {answer.status_code}")
        run: str = answer.json()["run_id"]
        first = await events.until(
            lambda event: event["run_id"] == run, timeout_s=_PATIENCE_S
        )
    # The rest after a reconnect, from where the first connection stood.
    async with user.ws(f"/ws?after={first[-1]['seq']}") as events:
        await events.receive()
        rest = await events.until(
            lambda event: event["run_id"] == run and event["type"] in _ENDS,
            timeout_s=_PATIENCE_S,
        )
    mine = [event for event in [*first, *rest] if event["run_id"] == run]
    kinds = [event["type"] for event in mine]
    user.expect(
        kinds[0] == "run.started" and kinds[-1] == "run.completed",
        f"the run's events are not in order: {kinds}",
    )
    user.expect(set(kinds) >= _RUN_EVENTS, f"events of the run are missing: {kinds}")
    numbers = [event["seq"] for event in mine]
    user.expect(
        all(b == a + 1 for a, b in itertools.pairwise(numbers)),
        f"the run's events are not numbered one by one: {numbers}",
    )
    return run


async def _read_the_run(user: User, run: str, note: str) -> None:
    """Read a finished run in each way there is."""
    result = (await user.http.get(f"/runs/{run}")).text
    user.expect(note in result, "my run's result is not about my document")
    await user.http.get("/runs")
    late = await user.http.post(f"/runs/{run}/cancel")
    user.expect(note in late.text, "cancelling my run answered about another")
    lines = (await user.http.get(f"/runs/{run}/events")).text
    user.expect("run.completed" in lines, "my run's events end before the run does")


async def _refresh_at_once(user: User) -> None:
    """Spend one refresh token several times at one instant; once must work."""
    tokens = await _enter(user)
    await user.once(
        "POST", "/auth/refresh", json={"refresh_token": tokens["refresh_token"]}
    )
    # A token spent twice ends its session: go on with another.
    await _enter(user)


async def _leave_everywhere(user: User) -> None:
    """End all sessions in both ways, and ask for what members may not do."""
    await user.http.post("/auth/logout/everywhere")
    answer = await user.http.get("/me")
    user.expect(not answer.is_success, "my token outlived my session")
    await _enter(user)
    same = {"password": user.password, "new_password": user.password}
    await user.http.post("/auth/password", json=same)
    answer = await user.http.get("/documents")
    user.expect(not answer.is_success, "my token outlived my password")
    me = (await _enter(user))["user_id"]
    for method, path in (
        ("GET", "/admin/policy"),
        ("PUT", "/admin/policy"),
        ("GET", f"/admin/users/{me}/roles"),
        ("PUT", f"/admin/users/{me}/roles/admin"),
        ("DELETE", f"/admin/users/{me}/roles/auditor"),
        ("GET", "/audit/verification"),
        ("GET", "/audit/refusals"),
    ):
        nothing: dict[str, object] = {"roles": {}}
        answer = await user.http.request(method, path, json=nothing)
        user.expect(not answer.is_success, f"{method} {path} is open to members")


async def errors(user: User) -> None:
    """Provoke the refusals that only this service knows."""
    taken = {"username": user.name, "password": user.canary("wrong password")}
    answer = await user.http.post("/auth/register", json=taken)
    user.expect(answer.status_code == 409, "a taken name was registered again")
    answer = await user.http.post("/auth/login", json=taken)
    user.expect(answer.status_code == 401, "a wrong password was let in")
    answer = await user.http.get(f"/threads/{user.canary('thread id')}")
    user.expect(answer.status_code in {404, 422}, "a thread that is none was found")
    answer = await user.http.post("/threads", json={"title": ""})
    user.expect(answer.status_code == 422, "an empty title was accepted")
    answer = await user.http.get("/metrics")
    user.expect(answer.status_code in {401, 404}, "a user read the operators' metrics")
    answer = await user.http.get("/health/ready")
    user.expect(answer.status_code in {200, 503}, "readiness was not told")


async def under_faults(user: User) -> None:
    """Write, read back and follow a run, whatever happens to the service meanwhile."""
    work = _work_of(user)
    if work.thread is None:
        # All faults for a minute each outlast an access token.
        await _enter(user)
        title = {"title": user.canary("thread under faults")}
        answer = await user.http.post("/threads", json=title)
        work.thread = answer.raise_for_status().json()["thread_id"]
    await _append(user, work)
    await _keep_and_delete(user, work)
    if user.rng.random() < 1 / 3:
        await _run_and_follow(user, work)
    await _read_all(user, work)


async def probe(user: User) -> None:
    """Read, write, and be told of events."""
    (await user.http.get("/documents")).raise_for_status()
    thread = _work_of(user).thread
    if thread is not None:
        title = {"title": user.canary("title")}
        (await user.http.patch(f"/threads/{thread}", json=title)).raise_for_status()
    async with user.ws("/ws") as events:
        await events.receive()


async def after_faults(user: User) -> None:
    """Look for all that was acknowledged, and for the end of each run that ended."""
    work = _work_of(user)
    if work.thread is None:
        return
    await _read_all(user, work)
    ended = {run for run in work.runs if await _has_ended(user, run)}
    if ended - work.ended:
        await _follow(user, work, ended)


async def _has_ended(user: User, run: str) -> bool:
    """Wait for the end of a run; that of a killed process is ended by another."""
    for _ in range(40):
        answer = await user.http.get(f"/runs/{run}")
        user.expect(answer.is_success, f"my run is gone: {answer.status_code}")
        if answer.json()["status"] != "running":
            return True
        await asyncio.sleep(0.25)
    user.expect(False, "my run neither ends nor goes on")  # noqa: FBT003  # as claims are
    return False


def _work_of(user: User) -> SimpleNamespace:
    """Return what the user did around this fault: each one starts from nothing."""
    fault = user.shape.partition(": ")[2]
    work: SimpleNamespace | None = getattr(user.state, "work", None)
    if work is None or work.fault != fault:
        work = user.state.work = SimpleNamespace(
            fault=fault,
            thread=None,
            notes={},
            tried=set(),
            runs=[],
            ended=set(),
            told=set(),
            after=None,
        )
    return work


async def _append(user: User, work: SimpleNamespace) -> None:
    path = f"/threads/{work.thread}/messages"
    message = user.canary("message under faults")
    with user.calling("list", path, "append", message):
        answer = await user.http.post(path, json={"content": message})
        answer.raise_for_status()


async def _keep_and_delete(user: User, work: SimpleNamespace) -> None:
    """Add a document, and now and then delete one that is known to be there."""
    key = f"documents of {user.name} under {work.fault}"
    note = user.canary("document under faults")
    work.tried.add(note)
    with user.calling("set", key, "add", note):
        body = {"title": note, "body": f"About {note}."}
        answer = await user.http.post("/documents", json=body)
        answer.raise_for_status()
    work.notes[note] = answer.json()["document_id"]
    if len(work.notes) > 2:
        note = next(iter(work.notes))
        document = work.notes.pop(note)
        with user.calling("set", key, "remove", note):
            answer = await user.http.delete(f"/documents/{document}")
            answer.raise_for_status()


async def _read_all(user: User, work: SimpleNamespace) -> None:
    path = f"/threads/{work.thread}/messages"
    with user.calling("list", path, "read") as call:
        answer = await user.http.get(path, params={"limit": 200})
        answer.raise_for_status()
        call.result = [one["content"] for one in answer.json() if one["role"] == "user"]
    key = f"documents of {user.name} under {work.fault}"
    with user.calling("set", key, "read") as call:
        answer = await user.http.get("/documents", params={"limit": 200})
        answer.raise_for_status()
        titles = [one["title"] for one in answer.json()]
        call.result = [title for title in titles if title in work.tried]


async def _run_and_follow(user: User, work: SimpleNamespace) -> None:
    if work.after is None:
        async with user.ws("/ws") as events:
            work.after = (await events.receive())["after"]
    answer = await user.http.post(
        f"/threads/{work.thread}/runs",
        json={"goal": f"Search my documents for {user.canary('goal under faults')}"},
    )
    run = answer.raise_for_status().json()["run_id"]
    work.runs.append(run)
    await _follow(user, work, {run})


async def _follow(user: User, work: SimpleNamespace, wanted: set[str]) -> None:
    """Read events, from where the last connection stood, until the runs have ended."""
    async with user.ws(f"/ws?after={work.after}") as events:

        def is_over(event: dict[str, Any]) -> bool:
            if event["type"] == "gap":
                # Numbers jump when Redis starts anew. Who loses it with its events is
                # told no more of them; how runs ended is in Postgres.
                anew = work.fault in {"restart-redis", "lose-redis"}
                user.expect(anew, "events of mine are lost")
                if work.fault == "lose-redis":
                    work.ended |= wanted
            if "seq" in event:
                work.after = event["seq"]
            if event["type"] in _ENDS | {"run.started"}:
                told = event["run_id"], event["type"] in _ENDS
                user.expect(told not in work.told, f"told again: {event['type']}")
                work.told.add(told)
            if event["type"] in _ENDS:
                work.ended.add(event["run_id"])
                is_whole = (event["run_id"], False) in work.told
                is_excused = work.fault in {"kill-worker", "lose-redis"}
                user.expect(is_whole or is_excused, "my run ends and never began")
            return not wanted - work.ended

        await events.until(is_over)
