"""The open sockets of a process: how many there are, whose, and how they get in.

Nobody is kept out by another: a user has so many sockets, and the oldest gives way to a
new one, since it is most likely one that the client has lost without a word. What a
socket costs while it enters is bounded too: when a worker dies, all its sockets come
to the others at once.
"""

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterator

ENTERING = 8
"""Fewer than the pool has connections: requests find one while sockets storm in."""
SPREAD_S = 2.0
"""Over so long the sockets of a worker come back that has died."""


class FullError(Exception):
    """Raised when the process has all the sockets it may have."""


class Sockets:
    """Counts the open sockets of this process."""

    def __init__(
        self,
        *,
        total: int,
        per_user: int,
        rng: random.Random,
        spread_s: float = SPREAD_S,
    ) -> None:
        """Allow ``total`` sockets at a time, ``per_user`` of them of one user.

        ``rng`` tells each for how long within ``spread_s`` to wait before it comes back.
        """
        self._total = total
        self._per_user = per_user
        self._rng = rng
        self._spread_s = spread_s
        self._open = 0
        # In the order they came, which dicts keep.
        self._of_users: defaultdict[str, dict[object, Callable[[], None]]]
        self._of_users = defaultdict(dict)
        self.entering = asyncio.Semaphore(ENTERING)
        """Held while a socket asks the database whether its login goes on."""

    def __len__(self) -> int:
        """Count the open sockets, those included that are not authenticated yet."""
        return self._open

    def count_of(self, user_id: str) -> int:
        """Count the authenticated sockets of a user."""
        return len(self._of_users.get(user_id, ()))

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count a socket for the block.

        Raises:
            FullError: There are too many.
        """
        if self._open >= self._total:
            raise FullError
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    @contextlib.contextmanager
    def owned(self, user_id: str, give_way: Callable[[], None]) -> Iterator[None]:
        """Count a socket as a user's for the block.

        ``give_way`` is called when the user has opened too many others since: the
        socket is to close. It must not raise.
        """
        mine, entry = self._of_users[user_id], object()
        mine[entry] = give_way
        try:
            if len(mine) > self._per_user:
                oldest = next(iter(mine))
                mine.pop(oldest)()
            yield
        finally:
            mine.pop(entry, None)
            if not mine and self._of_users.get(user_id) is mine:
                del self._of_users[user_id]

    def retry_after_s(self) -> float:
        """Return for how long a client waits that has lost its socket, seconds."""
        return round(self._rng.uniform(0.0, self._spread_s), 3)
