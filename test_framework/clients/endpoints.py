"""Give each request the name of its endpoint: method and path template.

Findings are grouped and coverage is counted per endpoint, so ``/threads/7`` and
``/threads/8`` must have one name. Templates come from the service's OpenAPI
document where it has one; otherwise segments that look like identifiers become
``{id}``.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options"})
_LOOKS_LIKE_ID = re.compile(
    r"\d+|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|(?=.*\d)[\w.~%-]{12,}|.*%.*|[\w.~%-]{40,}"
)


class Endpoints:
    """Names endpoints by the given templates, else by the look of the path."""

    def __init__(self, templates: Iterable[tuple[str, str]] = ()) -> None:
        """Keep ``(METHOD, template)`` pairs; the fewer variables, the sooner tried."""
        self._names: dict[tuple[str, str], str] = {}
        self._patterns: dict[str, list[tuple[re.Pattern[str], str]]] = {}
        for method, template in sorted(templates, key=lambda item: item[1].count("{")):
            parts = re.split(r"\{[^}]*\}", template)
            pattern = re.compile("[^/]+".join(re.escape(part) for part in parts))
            self._patterns.setdefault(method, []).append((pattern, template))

    @classmethod
    def of_openapi(
        cls, document: Mapping[str, Any], *, prefix: str = ""
    ) -> "Endpoints":
        """Return the endpoints of an OpenAPI 3 document; nonsense gives none.

        Args:
            document: The document.
            prefix: What stands before its paths when the service is reached.
        """
        return cls(
            (method, prefix + template)
            for method, template in declared_operations(document)
        )

    def name(self, method: str, path: str) -> str:
        """Return ``METHOD template`` for a path without query."""
        key = (method, path)
        known = self._names.get(key)
        if known is None:
            known = f"{method} {self._template(method, path)}"
            if len(self._names) < 100_000:  # paths hold ids: bound it
                self._names[key] = known
        return known

    def _template(self, method: str, path: str) -> str:
        for pattern, template in self._patterns.get(method, ()):
            if pattern.fullmatch(path):
                return template
        return "/".join(
            "{id}" if part and _LOOKS_LIKE_ID.fullmatch(part) else part
            for part in path.split("/")
        )


def declared_operations(document: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield ``(METHOD, template)`` for each operation of an OpenAPI document."""
    paths = document.get("paths")
    if not isinstance(paths, Mapping):
        return
    for template, item in paths.items():
        if isinstance(item, Mapping):
            for method in item:
                if method in _METHODS:
                    yield method.upper(), str(template)
