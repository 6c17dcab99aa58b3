"""The OpenAI-compatible client: right on the wire, and no state of any user."""

import json
from collections.abc import Callable

import httpx
import pytest

from app.llm import (
    ChatMessage,
    HttpPool,
    ModelError,
    OpenAICompatibleModel,
    Provider,
    StaticKey,
    ToolCall,
    ToolSpec,
)

Handler = Callable[[httpx.Request], httpx.Response]
ASK = [ChatMessage("user", "hello")]


def model(handler: Handler) -> OpenAICompatibleModel:
    """Return a client whose network is ``handler``."""
    pool = HttpPool(transport=httpx.MockTransport(handler))
    provider = Provider("https://model.invalid/v1/", pool, StaticKey("hunter2"))
    return OpenAICompatibleModel(provider, model="m")


def text(content: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """Return a text answer."""
    body = {"choices": [{"message": {"content": content}}]}
    return httpx.Response(200, json=body, headers=headers)


async def test_client_speaks_chat_completions() -> None:
    """Messages, tools and tool calls go out in OpenAI's shape and come back parsed."""
    seen: list[httpx.Request] = []
    function = {"name": "search", "arguments": '{"query": "x"}'}
    call = {"id": "c2", "type": "function", "function": function}

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        message = {"content": None, "tool_calls": [call]}
        return httpx.Response(200, json={"choices": [{"message": message}]})

    client = model(answer)
    earlier = ToolCall("c1", "search", {"query": "y"})
    reply = await client.complete(
        [
            ChatMessage("assistant", "", (earlier,)),
            ChatMessage("tool", "nothing", call_id="c1"),
        ],
        tools=[ToolSpec("search", "Find.", {"query": "words"})],
    )
    await client.aclose()

    assert str(seen[0].url) == "https://model.invalid/v1/chat/completions"
    assert seen[0].headers["authorization"] == "Bearer hunter2"
    sent = json.loads(seen[0].content)
    assert sent["messages"][0]["tool_calls"][0]["function"]["arguments"] == (
        '{"query": "y"}'
    )
    assert sent["messages"][1]["tool_call_id"] == "c1"
    assert sent["tools"][0]["function"]["parameters"]["required"] == ["query"]
    assert reply.tool_calls == (ToolCall("c2", "search", {"query": "x"}),)


async def test_client_keeps_no_cookie() -> None:
    """A cookie set while one user was served is not sent for the next."""
    cookies: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        cookies.append(request.headers.get("cookie"))
        return text("hi", {"set-cookie": "session=ada; Path=/"})

    client = model(answer)
    await client.complete(ASK, tools=[])
    await client.complete(ASK, tools=[])
    await client.aclose()

    assert cookies == [None, None]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500, text="BOBSECRET"),
        httpx.Response(200, text="BOBSECRET"),
        httpx.Response(200, json={"choices": []}),
        httpx.Response(200, json={"choices": [{"message": {"tool_calls": 3}}]}),
    ],
)
async def test_bad_answer_is_one_sentence(answer: httpx.Response) -> None:
    """A bad answer becomes an error that repeats neither its text nor the key."""
    client = model(lambda _: answer)

    with pytest.raises(ModelError, match="did not give a usable answer") as caught:
        await client.complete(ASK, tools=[])
    await client.aclose()

    assert "BOBSECRET" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
