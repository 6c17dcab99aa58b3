"""The model server on its own: what it refuses, and that faults need permission."""

import httpx
import pytest

from app.llm.server import ModelServer

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def client(server: ModelServer, key: str = "") -> httpx.AsyncClient:
    """Return a client of a server in this process."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(server.app()),
        base_url="http://model.invalid",
        headers={"authorization": f"Bearer {key}"},
    )


async def test_server_answers_deterministically() -> None:
    """The same conversation has the same answer, and its cost."""
    async with client(ModelServer()) as http:
        first, second = [(await http.post(CHAT, json=HELLO)).json() for _ in range(2)]

    assert first == second
    assert first["choices"][0]["message"]["content"] == "Goal: hello"
    assert first["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings", "/v1/token"])
async def test_server_wants_its_key(path: str) -> None:
    """Without the key nothing is answered."""
    async with client(ModelServer(keys=("right",)), "wrong") as http:
        assert (await http.post(path, json=HELLO)).status_code == 401


async def test_token_ends_in_its_time() -> None:
    """A token works like the key, until it ends; it buys no other token."""
    server = ModelServer(keys=("right",), token_s=60)
    async with client(server, "right") as http:
        token = (await http.post("/v1/token")).json()["access_token"]
    async with client(server, token) as http:
        assert (await http.post(CHAT, json=HELLO)).status_code == 200
        assert (await http.post("/v1/token")).status_code == 401
        server._tokens[token] = 0.0
        assert (await http.post(CHAT, json=HELLO)).status_code == 401


@pytest.mark.parametrize(
    "body", ["", "[]", '{"messages": []}', '{"messages": [{"content": 3}]}']
)
async def test_malformed_conversation_is_refused(body: str) -> None:
    """What is no conversation is a bad request, not a crash."""
    async with client(ModelServer()) as http:
        assert (await http.post(CHAT, content=body)).status_code == 400


async def test_faults_need_permission() -> None:
    """Without the flag there is no way to make it misbehave."""
    async with client(ModelServer()) as http:
        assert (await http.put("/faults", json={"status": 500})).status_code == 404
        asked = await http.post(
            CHAT, json=HELLO, headers={"x-fault": '{"status": 500}'}
        )
        assert asked.status_code == 200


async def test_fault_can_be_asked_for_one_request() -> None:
    """With the flag a header spoils its own request only; unknown faults are refused."""
    async with client(ModelServer(allows_faults=True)) as http:
        bad = await http.post(
            CHAT, json=HELLO, headers={"x-fault": '{"status": 429, "retry_after_s": 2}'}
        )
        good = await http.post(CHAT, json=HELLO)
        unknown = await http.put("/faults", json={"statsu": 500})

    assert (bad.status_code, bad.headers["retry-after"]) == (429, "2")
    assert good.status_code == 200
    assert unknown.status_code == 400
