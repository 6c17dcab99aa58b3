"""The OpenAI-compatible client: right on the wire, and no state of any user."""

import contextlib
import json
from collections.abc import Callable

import httpx
import pytest

from app.llm import (
    ChatMessage,
    HttpPool,
    ModelError,
    ModelUnavailableError,
    OpenAICompatibleModel,
    Provider,
    Reply,
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
        httpx.Response(200, text="[" * 100_000),
        httpx.Response(
            200,
            json={
                "choices": [{"message": {"content": "BOBSECRET"}}],
                "usage": {"total_tokens": -5},
            },
        ),
        httpx.Response(200, headers={"content-encoding": "gzip"}, content=b"x"),
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


TEXT = b'data: {"choices": [{"delta": {"content": "BOBSECRET"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


async def _pieces(content: bytes) -> list[object]:
    client = model(lambda _: httpx.Response(200, content=content))
    async with contextlib.aclosing(client.stream(ASK, tools=[])) as stream:
        return [piece async for piece in stream]


async def test_stream_is_put_together() -> None:
    """Text comes as it is; tool calls come in mixed fragments, and with the reply."""
    fragments = [
        {"index": 1, "id": "c2", "function": {"name": "read", "arguments": ""}},
        {"index": 0, "id": "c1", "function": {"name": "search", "arguments": '{"q'}},
        {"index": 0, "function": {"arguments": '": "x"}'}},
    ]
    events: list[dict[str, object]] = [
        {"choices": [{"delta": {"tool_calls": [one]}}]} for one in fragments
    ]
    events.append({"choices": [], "usage": {"total_tokens": 9}})
    lines = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events)

    *text, reply = await _pieces(b": a comment\n\n" + TEXT + TEXT + lines + DONE)

    calls = (ToolCall("c1", "search", {"q": "x"}), ToolCall("c2", "read", {}))
    assert text == ["BOBSECRET"] * 2
    assert reply == Reply("BOBSECRET" * 2, calls, tokens=9)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (TEXT, ModelUnavailableError, "was cut"),
        (b"", ModelUnavailableError, "was cut"),
        (TEXT + DONE.rstrip(), ModelUnavailableError, "was cut"),
        (TEXT + DONE + TEXT, ModelError, "after its end"),
        (b"data: {nonsense\n\n" + DONE, ModelError, "JSONDecodeError"),
        (b'data: {"choices": 3}\n\n' + DONE, ModelError, "TypeError"),
        (b"<html>BOBSECRET</html>", ModelUnavailableError, "was cut"),
    ],
    ids=["ends early", "empty", "half a line", "goes on", "nonsense", "shape", "page"],
)
async def test_bad_stream_is_one_sentence(
    content: bytes, error: type[ModelError], words: str
) -> None:
    """A stream that ends without its last line, or goes on after it, is no answer."""
    with pytest.raises(error, match=words) as caught:
        await _pieces(content)

    assert "BOBSECRET" not in str(caught.value)
