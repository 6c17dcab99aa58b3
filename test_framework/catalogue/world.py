"""The world outside that the patterns share: users, and services that take their time.

Every call waits once for :func:`external` and takes effect when the answer comes, in
one step. That is what Redis promises for a command and a database for a statement; so
whatever goes wrong goes wrong between calls, in the program.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from test_framework.explore import Scenario, external

State = TypeVar("State")

NAMES = ("alice", "bob", "carol")
"""Names of the users 0, 1 and 2."""


class Store:
    """A key-value service of which each command is atomic.

    Args:
        data: What it holds at first.
    """

    def __init__(self, **data: Any) -> None:
        self.data = data

    async def get(self, key: str) -> Any:
        """Return a value, None when there is none."""
        await external(f"GET {key}")
        return self.data.get(key)

    async def set(self, key: str, value: Any) -> None:
        """Replace a value."""
        await external(f"SET {key}")
        self.data[key] = value

    async def add(self, key: str, amount: int) -> int:
        """Add to a number, 0 when there is none; return the sum."""
        await external(f"INCRBY {key}")
        self.data[key] = self.data.get(key, 0) + amount
        return int(self.data[key])

    async def set_if_absent(self, key: str, value: Any) -> bool:
        """Set a value where there is none; tell whether that was so."""
        await external(f"SET {key} NX")
        if key in self.data:
            return False
        self.data[key] = value
        return True

    async def pop(self, key: str) -> Any:
        """Delete a value and return it, None when there is none."""
        await external(f"GETDEL {key}")
        return self.data.pop(key, None)

    async def swap(self, key: str, old: Any, new: Any) -> bool:
        """Replace a value if it still is ``old``; tell whether it was."""
        await external(f"CAS {key}")
        if self.data.get(key) != old:
            return False
        self.data[key] = new
        return True


GAP_S = 10.0
"""Virtual seconds between two users: more than any timeout of the patterns."""


def visits(
    setup: Callable[[], State],
    user: Callable[[State, int], Coroutine[Any, Any, object]],
    check: Callable[[State], object] | None = None,
    *,
    users: int = 2,
    gap_s: float = GAP_S,
) -> Scenario[State]:
    """Make a scenario whose users come far apart.

    Plain asyncio serves one after the other, for the world outside answers at once
    there; so it passes, and it takes an explorer to let the first user be slow.

    Args:
        setup: Makes the state of one run.
        user: What one user does.
        check: Raises ``AssertionError`` when the state at the end is wrong.
        users: How many users.
        gap_s: Virtual seconds between two of them; 0 for bugs that overlap alone does
            not show.
    """

    @functools.wraps(user)
    async def visit(state: State, number: int) -> object:
        await asyncio.sleep(number * gap_s)
        return await user(state, number)

    return Scenario(setup, visit, check, users)
