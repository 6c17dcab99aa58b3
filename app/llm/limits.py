"""Connections to the provider, shared out between users.

A user holds ``per_user`` at most, so nobody can take them all. Those who wait are
served in turn: one of each user, the users in a circle, and the calls of one user in
the order they came. Whoever is cancelled while waiting leaves no slot behind, also
when the slot was handed over at that very moment.
"""

import asyncio
import contextlib
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator


class UserLimits:
    """Slots, each held for one call."""

    def __init__(self, *, total: int, per_user: int) -> None:
        """Give out ``total`` slots, ``per_user`` of them to one user.

        Raises:
            ValueError: One user could take all.
        """
        if not 0 < per_user < max(total, 2):
            message = (
                f"total={total}, per_user={per_user}: per_user must be at least 1 and "
                "below total, or one user could take all connections."
            )
            raise ValueError(message)
        self._free = total
        self._per_user = per_user
        self._held: Counter[str] = Counter()
        # Users who wait, the one whose turn is next first; no queue is empty.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def free(self) -> int:
        """How many slots nobody holds."""
        return self._free

    @property
    def held(self) -> dict[str, int]:
        """How many slots each user holds, who holds any."""
        return dict(self._held)

    @contextlib.asynccontextmanager
    async def slot(self, user_id: str) -> AsyncIterator[None]:
        """Hold one of the user's slots for the length of the block."""
        await self._acquire(user_id)
        try:
            yield
        finally:
            self._release(user_id)

    async def _acquire(self, user_id: str) -> None:
        if self._free and self._may_have(user_id) and user_id not in self._waiting:
            self._take(user_id)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user_id, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(user_id)  # it was ours already
            else:
                self._leave(user_id, turn)
            raise

    def _release(self, user_id: str) -> None:
        self._free += 1
        self._held[user_id] -= 1
        if not self._held[user_id]:
            del self._held[user_id]
        if user_id in self._waiting:
            self._waiting.move_to_end(user_id)  # who was just served comes last
        self._hand_over()

    def _hand_over(self) -> None:
        # Passes over users who hold their most: at most total / per_user of them.
        while self._free:
            user_id = next(filter(self._may_have, self._waiting), None)
            if user_id is None:
                return
            queue = self._waiting[user_id]
            turn = queue.popleft()
            self._waiting.move_to_end(user_id)
            if not queue:
                del self._waiting[user_id]
            if not turn.done():
                self._take(user_id)
                turn.set_result(None)

    def _take(self, user_id: str) -> None:
        self._free -= 1
        self._held[user_id] += 1

    def _leave(self, user_id: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(user_id)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[user_id]

    def _may_have(self, user_id: str) -> bool:
        return self._held[user_id] < self._per_user
