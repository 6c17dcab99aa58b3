"""The audit of the reference service: how its users log in and what they do.

Everything a user writes holds a canary, and it reads back only its own things; the
framework checks the rest. ``user.expect`` states what only this service promises.
"""

import asyncio
import itertools
from typing import Any

from test_framework.swarm import User

EVENT_SEQUENCE = "seq"
HEALTH = "/health/live"
P95_GATES_S = {"POST /threads/{thread_id}/runs": 2.0, "*": 5.0}

_RUN_EVENTS = {"run.started", "agent.thinking", "tool.executing", "tool.completed"}
_ENDS = {"run.completed", "run.failed", "run.cancelled"}


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
    if run is not None:
        await _read_the_run(user, run, note)
    if user.shape == "own-connections" and user.index % 5 == 0:
        await _refresh_at_once(user)


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


async def _watch_a_run(user: User, thread_path: str, note: str) -> str:
    """Start a run and follow its events to the end, over two connections."""
    async with user.ws("/ws") as events:
        await events.receive()
        await user.rendezvous("start runs")
        answer = await user.http.post(
            f"{thread_path}/runs", json={"goal": f"Search my documents for {note}"}
        )
        user.expect(answer.is_success, f"the run was refused: {answer.status_code}")
        run: str = answer.json()["run_id"]
        first = await events.until(lambda event: event["run_id"] == run)
    # The rest after a reconnect, from where the first connection stood.
    async with user.ws(f"/ws?after={first[-1]['seq']}") as events:
        await events.receive()
        rest = await events.until(
            lambda event: event["run_id"] == run and event["type"] in _ENDS
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
