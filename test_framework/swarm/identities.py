"""Which users does a row, key, channel or log line name?

Each user declares what names it inside the service (``user.own``). All identities
become one regular expression in the form of a trie, so a search costs the same for
ten users and for a thousand.
"""

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from test_framework.core import History, Operation

_Trie = dict[str, "_Trie"]
_END = ""
_ID = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F-]{22}|(?<![0-9a-zA-Z])[0-9a-f]{16,}"
    r"|(?<![0-9a-zA-Z])\d+(?![0-9a-zA-Z])"
)
_NOT_AFTER_WORD = "(?<![A-Za-z0-9])"
_NOT_BEFORE_WORD = "(?![A-Za-z0-9])"


class Identities:
    """Finds users by the values that name them.

    Args:
        owners: The identities of each user number; shorter than four characters
            are left out, since they turn up by chance.
    """

    def __init__(self, owners: Mapping[int, Iterable[str]]) -> None:
        by_form: dict[str, set[int]] = {}
        for user, identities in owners.items():
            for identity in identities:
                if len(identity) < 4:  # see the docstring
                    continue
                for form in _forms(identity):
                    by_form.setdefault(form, set()).add(user)
        self._users = {
            # "ada:" holds "ada": a place that holds the longer may mean the shorter.
            form.encode(): frozenset(
                user
                for shorter, users in by_form.items()
                if form.startswith(shorter)
                for user in users
            )
            for form in by_form
        }
        self._pattern = re.compile(_regex(by_form).encode()) if by_form else None
        # The module would keep this run's pattern (50 kB) for runs that never come.
        re.purge()

    def find(self, data: bytes) -> tuple[int, ...]:
        """Return the numbers of the users named in ``data``, ascending."""
        if self._pattern is None:
            return ()
        users: set[int] = set()
        for match in self._pattern.finditer(data):
            users |= self._users[match[0]]
        return tuple(sorted(users))

    def blank(self, data: bytes) -> str:
        """Return ``data`` as text, ``{user}`` for identities and ``{id}`` for ids."""
        if self._pattern is not None:
            data = self._pattern.sub(b"{user}", data)
        return _ID.sub("{id}", data.decode("utf-8", "replace"))


def departed(
    history: History, identities: Mapping[int, Iterable[str]]
) -> dict[int, set[str]]:
    """Return what names each user, with what the service created for it.

    Args:
        history: Its operations know what was created.
        identities: What each user declared, by its number.
    """
    found = {user: set(names) for user, names in identities.items()}
    for operation in history.of(Operation):
        if operation.created_id is not None and operation.user in found:
            found[operation.user].add(operation.created_id)
    return found


def _forms(identity: str) -> set[str]:
    """Return how an identity is written in UTF-8, in ASCII JSON and in a URL."""
    return {identity, json.dumps(identity)[1:-1], quote(identity, safe="")}


def _regex(words: Iterable[str]) -> str:
    trie: _Trie = {}
    for word in words:
        node = trie
        for char in word:
            node = node.setdefault(char, {})
        node[_END] = {}
    branches = [
        (_NOT_AFTER_WORD if char.isalnum() else "") + _branch(char, rest)
        for char, rest in sorted(trie.items())
    ]
    return "|".join(branches)


def _branch(char: str, node: _Trie) -> str:
    """Return the words that go on with ``char``; whole words only."""
    ways = [_branch(after, rest) for after, rest in sorted(node.items()) if after]
    if _END in node:
        # Last, so that the longest word wins.
        ways.append(_NOT_BEFORE_WORD if char.isalnum() else "")
    body = ways[0] if len(ways) == 1 else f"(?:{'|'.join(ways)})"
    return re.escape(char) + body
