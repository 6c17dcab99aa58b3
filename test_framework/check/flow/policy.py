"""What users may see of each other: a file of what is public, shared and declared.

::

    public = ["announcement/*"]        # keys that everybody may read
    carriers = ["worker"]              # act for others and pass on what they read

    [[shared]]                         # read by each other, under these keys
    keys = ["thread/7/*"]
    users = [1, 2]

    [[declared]]                       # what these write, those may read
    from = ["billing"]
    to = ["*"]

Keys and users are compared as texts; ``*`` stands for anything, ``?`` for one letter.
What is not named here is private to who wrote it.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from test_framework.core import UsageError


@dataclass(frozen=True, slots=True)
class Shared:
    """Keys whose values some users may read of each other."""

    keys: tuple[str, ...]
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Declared:
    """Users whose values some others may read."""

    source: tuple[str, ...]
    target: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FlowPolicy:
    """What users may see of each other; by default, nothing.

    Attributes:
        public: Patterns of keys that everybody may read.
        carriers: Patterns of users that act for others: what they read may come out
            in what they write, and belongs to whom it came from.
        shared: Keys for some users.
        declared: Users for others.
    """

    public: tuple[str, ...] = ()
    carriers: tuple[str, ...] = ()
    shared: tuple[Shared, ...] = ()
    declared: tuple[Declared, ...] = ()

    @classmethod
    def load(cls, path: Path) -> "FlowPolicy":
        """Read a policy file.

        Raises:
            UsageError: It cannot be read, or does not say what is shared.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            message = (
                f"The flow policy {str(path)!r} cannot be read: {exc}. Pass the path of "
                "a TOML file in UTF-8."
            )
            raise UsageError(message) from exc
        try:
            body = tomllib.loads(text)
        except tomllib.TOMLDecodeError as exc:
            message = f"The flow policy {str(path)!r} is not TOML: {exc}. Correct it."
            raise UsageError(message) from exc
        return cls.of(body, name=str(path))

    @classmethod
    def of(cls, body: dict[str, Any], *, name: str = "policy") -> "FlowPolicy":
        """Return the policy that a table says.

        Raises:
            UsageError: It has a field that is unknown or of another kind.
        """
        _require(name, "", body, {"public", "carriers", "shared", "declared"})
        shared, declared = [], []
        for place, table in enumerate(_tables(name, body, "shared")):
            where = f"shared[{place}]."
            _require(name, where, table, {"keys", "users"})
            shared.append(
                Shared(
                    _texts(name, where, table, "keys"),
                    _texts(name, where, table, "users"),
                )
            )
        for place, table in enumerate(_tables(name, body, "declared")):
            where = f"declared[{place}]."
            _require(name, where, table, {"from", "to"})
            declared.append(
                Declared(
                    _texts(name, where, table, "from"), _texts(name, where, table, "to")
                )
            )
        return cls(
            _texts(name, "", body, "public"),
            _texts(name, "", body, "carriers"),
            tuple(shared),
            tuple(declared),
        )


def matches(name: object, patterns: Sequence[str]) -> bool:
    """Whether a key or user is one of those that patterns stand for."""
    text = "/".join(map(str, name)) if isinstance(name, tuple) else str(name)
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _require(name: str, where: str, table: dict[str, Any], known: set[str]) -> None:
    odd = sorted(table.keys() - known)
    if odd:
        message = (
            f"The flow policy {name!r} has {where}{odd[0]}, which is not known. Known "
            f"here are {', '.join(sorted(known))}."
        )
        raise UsageError(message)


def _texts(name: str, where: str, table: dict[str, Any], field: str) -> tuple[str, ...]:
    values = table.get(field, [])
    if isinstance(values, list) and all(type(one) in {str, int} for one in values):
        return tuple(str(one) for one in values)
    message = (
        f"The flow policy {name!r} has {where}{field} = {values!r:.60}. Write a list of "
        "texts or numbers."
    )
    raise UsageError(message)


def _tables(name: str, body: dict[str, Any], field: str) -> list[dict[str, Any]]:
    tables = body.get(field, [])
    if isinstance(tables, list) and all(isinstance(one, dict) for one in tables):
        return tables
    message = (
        f"The flow policy {name!r} has {field} = {tables!r:.60}. Write tables: "
        f"[[{field}]]."
    )
    raise UsageError(message)
