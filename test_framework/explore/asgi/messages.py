"""The words of ASGI, and how a request of a user is said in them.

Source: the ASGI specification 3.0 with its HTTP and WebSocket sub-specification 2.3, as
uvicorn speaks it.
"""

import json
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote, unquote, urlencode

from test_framework.core import UsageError

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[object]]
"""An ASGI application; frameworks type its three arguments in their own ways."""

RawHeaders = list[tuple[bytes, bytes]]
Body = bytes | str | AsyncIterable[bytes]

# What urllib leaves as it is in a path that may already be quoted.
_PATH_SAFE = "/%:@!$&'()*+,;=~-._"


def split_target(path: str, query: Mapping[str, object] | None) -> tuple[str, bytes]:
    """Return the quoted path and the query string of a request target.

    Args:
        path: Begins with ``/``; may have a query of its own.
        query: Further parameters; a sequence gives one of each of its items.

    Raises:
        UsageError: ``path`` is no path.
    """
    if not path.startswith("/"):
        raise UsageError(
            f"path {path!r} does not begin with '/': expected the path on the service, "
            "such as '/notes?limit=5', without scheme and host."
        )
    path, _, text = path.partition("?")
    if query:
        text = "&".join(part for part in (text, urlencode(query, doseq=True)) if part)
    return quote(path, safe=_PATH_SAFE), text.encode("ascii")


def path_part(quoted: str) -> dict[str, Any]:
    """Return the two forms of a path that a scope has."""
    return {"path": unquote(quoted), "raw_path": quoted.encode("ascii")}


def raw_headers(headers: Mapping[str, str]) -> RawHeaders:
    """Return headers as a scope has them: bytes, names in lower case."""
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in headers.items()
    ]


def content_of(
    json_value: object, form: Mapping[str, object] | None, body: Body | None
) -> tuple[bytes | AsyncIterable[bytes], bytes]:
    """Return the content of a request and its media type, empty for none.

    Raises:
        UsageError: More than one kind of content was given.
    """
    if (json_value is not None) + (form is not None) + (body is not None) > 1:
        raise UsageError(
            "A request has one content: pass one of json=, form= and body=, not several."
        )
    if json_value is not None:
        return json.dumps(json_value, separators=(",", ":")).encode(), (
            b"application/json"
        )
    if form is not None:
        return urlencode(form, doseq=True).encode(), (
            b"application/x-www-form-urlencoded"
        )
    if isinstance(body, str):
        return body.encode(), b"text/plain; charset=utf-8"
    return body or b"", b""


class Headers(Mapping[str, str]):
    """Headers of a reply by name in any case; the first of a name that repeats.

    Args:
        raw: As the app sent them.
    """

    def __init__(self, raw: RawHeaders) -> None:
        self.raw = raw

    def __getitem__(self, name: str) -> str:
        wanted = name.lower().encode("latin-1")
        for key, value in self.raw:
            if key.lower() == wanted:
                return value.decode("latin-1")
        raise KeyError(name)

    def __iter__(self) -> Any:
        return iter(dict.fromkeys(key.decode("latin-1").lower() for key, _ in self.raw))

    def __len__(self) -> int:
        return len({key.lower() for key, _ in self.raw})

    def all(self, name: str) -> list[str]:
        """Return every value of a name, in order."""
        wanted = name.lower().encode("latin-1")
        return [
            value.decode("latin-1") for key, value in self.raw if key.lower() == wanted
        ]

    def __repr__(self) -> str:
        return f"Headers({self.raw!r})"
