"""A model behind an OpenAI-compatible endpoint (``POST {url}/chat/completions``).

One connection pool serves all users, so nothing that names a user may live in it:
the cookie jar refuses every cookie, and credentials are sent per request.
"""

import json
from collections.abc import Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from app.llm.client import ChatMessage, ModelError, Reply, ToolCall, ToolSpec

TIMEOUT_S = 60.0
MAX_CONNECTIONS = 50


class OpenAICompatibleModel:
    """Asks a remote model; keeps connections and no conversation."""

    def __init__(
        self,
        url: str,
        *,
        model: str,
        key: str | None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Ask ``model`` at ``url``; ``transport`` replaces the network in tests."""
        self._url = url.rstrip("/") + "/chat/completions"
        self._model = model
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._http = httpx.AsyncClient(
            timeout=TIMEOUT_S,
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
            transport=transport,
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> Reply:
        """Return the remote model's next reply.

        Raises:
            ModelError: It cannot be reached, refuses, or answers nonsense.
        """
        body = {
            "model": self._model,
            "messages": [_message(message) for message in messages],
            "tools": [_tool(tool) for tool in tools],
        }
        try:
            answer = await self._http.post(self._url, json=body, headers=self._headers)
            answer.raise_for_status()
            return _reply(answer.json())
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as exc:
            # The answer's text is not repeated: it may hold what users wrote.
            message = (
                f"The model at {httpx.URL(self._url).host} did not give a usable "
                f"answer ({type(exc).__name__}). Check MODEL_URL and MODEL_KEY."
            )
            raise ModelError(message) from exc

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _message(message: ChatMessage) -> dict[str, object]:
    wire: dict[str, object] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": json.dumps(dict(call.arguments)),
                },
            }
            for call in message.tool_calls
        ]
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


def _reply(body: dict[str, list[dict[str, dict[str, object]]]]) -> Reply:
    message = body["choices"][0]["message"]
    raw_calls = message.get("tool_calls") or []
    if not isinstance(raw_calls, list):
        kind = "tool_calls is not a list"
        raise TypeError(kind)
    calls = tuple(
        ToolCall(
            str(call["id"]),
            str(call["function"]["name"]),
            {
                str(name): str(value)
                for name, value in json.loads(call["function"]["arguments"]).items()
            },
        )
        for call in raw_calls
    )
    return Reply(str(message.get("content") or ""), calls)
