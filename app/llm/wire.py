"""OpenAI's JSON: chat completions and embeddings, as requests and as answers.

Everything here checks shapes and raises ``ValueError``, ``KeyError``, ``IndexError`` or
``TypeError`` on nonsense; the client turns those into its one sentence.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.llm.client import ChatMessage, Reply, ToolCall, ToolSpec

DONE = "[DONE]"
"""What the last line of a stream of events says."""

NONSENSE = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    RecursionError,
)
"""What reading an answer of the wrong shape raises."""


def chat_request(
    model: str,
    messages: Sequence[ChatMessage],
    tools: Sequence[ToolSpec],
    *,
    max_tokens: int,
    is_streamed: bool,
) -> dict[str, object]:
    """Return the body of a request for the next reply of a conversation."""
    body: dict[str, object] = {
        "model": model,
        "messages": [_message(message) for message in messages],
        "max_tokens": max_tokens,
    }
    if tools:  # an empty list is refused by some servers
        body["tools"] = [_tool(tool) for tool in tools]
    if is_streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def read_reply(body: Mapping[str, Any]) -> Reply:
    """Return the reply in an answer that came as one piece."""
    message = body["choices"][0]["message"]
    raw_calls = message.get("tool_calls") or []
    if not isinstance(raw_calls, list):
        kind = "tool_calls is not a list"
        raise TypeError(kind)
    calls = tuple(
        _call(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in raw_calls
    )
    return Reply(str(message.get("content") or ""), calls, _tokens(body))


class StreamedReply:
    """Puts a reply together from the events of a stream.

    Fragments of tool calls name their call by ``index``: they may come mixed.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self._text: list[str] = []
        self._calls: dict[int, dict[str, str]] = {}
        self._tokens: int | None = None

    def add(self, event: Mapping[str, Any]) -> str:
        """Take one event in and return the piece of text in it, often an empty one."""
        self._tokens = _tokens(event) or self._tokens
        text = ""
        for choice in event["choices"]:
            delta = choice["delta"]
            text += delta.get("content") or ""
            for fragment in delta.get("tool_calls") or ():
                call = self._calls.setdefault(
                    int(fragment["index"]), {"id": "", "name": "", "arguments": ""}
                )
                function = fragment.get("function", {})
                call["id"] += fragment.get("id") or ""
                call["name"] += function.get("name") or ""
                call["arguments"] += function.get("arguments") or ""
        self._text.append(text)
        return text

    def whole(self) -> Reply:
        """Return the reply, once the stream has ended."""
        calls = (self._calls[index] for index in sorted(self._calls))
        return Reply(
            "".join(self._text),
            tuple(_call(c["id"], c["name"], c["arguments"]) for c in calls),
            self._tokens,
        )


def read_embeddings(body: Mapping[str, Any], *, count: int) -> list[tuple[float, ...]]:
    """Return the embeddings in the order of the texts that were sent.

    They are placed by the ``index`` that each carries, wherever it stands in the
    list, and there is exactly one for every text.
    """
    found = {
        int(entry["index"]): tuple(float(number) for number in entry["embedding"])
        for entry in body["data"]
    }
    if len(body["data"]) != count or set(found) != set(range(count)):
        problem = f"{len(body['data'])} embeddings came for {count} texts"
        raise ValueError(problem)
    return [found[index] for index in range(count)]


def read_messages(body: Mapping[str, Any]) -> list[ChatMessage]:
    """Return the conversation in a request; for servers."""
    return [
        ChatMessage(
            message["role"],
            str(message.get("content") or ""),
            tuple(
                _call(call["id"], call["function"]["name"], "{}")
                for call in message.get("tool_calls") or ()
            ),
            message.get("tool_call_id"),
        )
        for message in body["messages"]
    ]


def read_tools(body: Mapping[str, Any]) -> list[ToolSpec]:
    """Return the tools in a request; for servers."""
    return [
        ToolSpec(tool["function"]["name"], tool["function"].get("description", ""))
        for tool in body.get("tools") or ()
    ]


def tool_calls(calls: Iterable[ToolCall]) -> list[dict[str, object]]:
    """Return tool calls as they stand in messages."""
    return [
        {
            "id": call.call_id,
            "type": "function",
            "function": {
                "name": call.name,
                "arguments": json.dumps(dict(call.arguments)),
            },
        }
        for call in calls
    ]


def _message(message: ChatMessage) -> dict[str, object]:
    wire: dict[str, object] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["tool_calls"] = tool_calls(message.tool_calls)
    if message.call_id is not None:
        wire["tool_call_id"] = message.call_id
    return wire


def _tool(tool: ToolSpec) -> dict[str, object]:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": {
                "type": "object",
                "properties": {
                    name: {"type": "string", "description": description}
                    for name, description in tool.parameters.items()
                },
                "required": list(tool.parameters),
            },
        },
    }


def _call(call_id: object, name: object, arguments: str) -> ToolCall:
    read = json.loads(arguments or "{}")
    return ToolCall(
        str(call_id),
        str(name),
        {str(key): str(value) for key, value in read.items()},
    )


def _tokens(body: Mapping[str, Any]) -> int | None:
    usage = body.get("usage")
    if not usage:
        return None
    tokens = int(usage["total_tokens"])
    if tokens < 0:
        problem = "total_tokens is negative"  # it would be given back to the budget
        raise ValueError(problem)
    return tokens


def dump_reply(reply: Reply) -> bytes:
    """Return a reply as bytes to keep, in the form of an answer."""
    message = {"content": reply.content, "tool_calls": tool_calls(reply.tool_calls)}
    return json.dumps({"choices": [{"message": message}]}).encode()


def load_reply(kept: bytes) -> Reply:
    """Return a kept reply; it cost nothing this time."""
    return read_reply(json.loads(kept))
