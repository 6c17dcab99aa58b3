"""Budgets of tokens: what a call may cost at most is reserved before, then settled.

Checking first and counting afterwards overspends: a hundred runs that look at one time
all find room. Here one script of Redis looks and reserves, and Redis runs one script
at a time, for all workers. A reservation whose run died runs out by itself, on Redis'
own clock. Settling is safe to repeat: a client that lost the answer sends it again.

A user's spending is counted in windows of fixed length, a run's over its whole life.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from redis.asyncio import Redis

from app.cache import user_prefix
from app.context import UserExecutionContext
from app.llm.client import ModelError

WINDOW_S = 86_400
RESERVED_S = 180
_NO_RUN = "-"

# Open reservations are few, the calls of one user that are under way, and are looked
# through. A settled one stays until it would have run out: so it is settled once.
_COMMON = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local window_s = tonumber(ARGV[3])
local spent_key = KEYS[2] .. ':' .. math.floor(time[1] / window_s)
"""
_RESERVE = (
    _COMMON
    + """
local id, run, tokens = ARGV[1], ARGV[2], tonumber(ARGV[4])
local of_user, of_run = 0, 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
    local held, ends, whose = string.match(all[i + 1], '^(%d+) (%d+) (.*)$')
    if tonumber(ends) <= now then
        redis.call('HDEL', KEYS[1], all[i])
    elseif all[i] == id then
        return {'ok', 0}
    else
        of_user = of_user + tonumber(held)
        if whose == run then of_run = of_run + tonumber(held) end
    end
end
of_user = of_user + tonumber(redis.call('GET', spent_key) or 0)
of_run = of_run + tonumber(redis.call('GET', KEYS[3]) or 0)
if of_user + tokens > tonumber(ARGV[5]) then
    return {'user', tonumber(ARGV[5]) - of_user}
end
if run ~= '-' and of_run + tokens > tonumber(ARGV[6]) then
    return {'run', tonumber(ARGV[6]) - of_run}
end
redis.call('HSET', KEYS[1], id, tokens .. ' ' .. (now + ARGV[7] * 1000) .. ' ' .. run)
redis.call('EXPIRE', KEYS[1], 2 * ARGV[7])
return {'ok', 0}
"""
)
_SETTLE = (
    _COMMON
    + """
local id, run, tokens = ARGV[1], ARGV[2], tonumber(ARGV[4])
local kept = redis.call('HGET', KEYS[1], id)
if kept and string.match(kept, ' settled$') then return 0 end
redis.call('HSET', KEYS[1], id, '0 ' .. (now + ARGV[5] * 1000) .. ' settled')
redis.call('EXPIRE', KEYS[1], 2 * ARGV[5])
redis.call('INCRBY', spent_key, tokens)
redis.call('EXPIRE', spent_key, window_s + 60)
if run ~= '-' then
    redis.call('INCRBY', KEYS[3], tokens)
    redis.call('EXPIRE', KEYS[3], window_s)
end
return 1
"""
)


class BudgetError(ModelError):
    """Raised when a call could cost more than the user or the run has left."""


@dataclass(slots=True)
class Reservation:
    """Tokens held for one call.

    Attributes:
        tokens: How many.
        used: What the call cost, set by whoever makes it; all of it until then.
    """

    tokens: int
    used: int = field(init=False)

    def __post_init__(self) -> None:
        """Assume the worst."""
        self.used = self.tokens


class TokenBudgets:
    """The budgets of all users, in Redis; nothing is kept here."""

    def __init__(
        self,
        redis: Redis,
        *,
        user_tokens: int,
        run_tokens: int,
        window_s: int = WINDOW_S,
        reserved_s: int = RESERVED_S,
    ) -> None:
        """Give each user and each run so many tokens.

        Args:
            redis: Where they are counted.
            user_tokens: What a user may spend within a window.
            run_tokens: What a run may spend.
            window_s: Length of a window, in seconds.
            reserved_s: After so long a reservation that nobody settled is void. Must
                be longer than any call takes.
        """
        self._user_tokens = user_tokens
        self._run_tokens = run_tokens
        self._window_s = window_s
        self._reserved_s = reserved_s
        self._reserve = redis.register_script(_RESERVE)
        self._settle = redis.register_script(_SETTLE)
        self._redis = redis

    @contextlib.asynccontextmanager
    async def reserved(
        self, context: UserExecutionContext, tokens: int
    ) -> AsyncIterator[Reservation]:
        """Hold tokens of the context's user and run for one call, then settle.

        What the block leaves in ``Reservation.used`` is spent. When the call fails or
        is cancelled that is everything, unless the block says otherwise: who cannot
        tell what the provider charges must assume it did. Whoever is cancelled while
        reserving leaves nothing reserved, even when Redis hears of that first.

        Raises:
            BudgetError: The user or the run has not enough left.
        """
        number, held = uuid4().hex, Reservation(tokens)
        try:
            await self._hold(context, number, tokens)
        except asyncio.CancelledError:
            # Maybe Redis has done it, or does it yet: a settled one is not held again.
            await _to_its_end(self.settle(context, number, 0))
            raise
        try:
            yield held
        finally:
            await _to_its_end(self.settle(context, number, held.used))

    async def reserve(self, context: UserExecutionContext, tokens: int) -> str:
        """Hold tokens and return the reservation's id.

        Raises:
            BudgetError: The user or the run has not enough left.
        """
        number = uuid4().hex
        await self._hold(context, number, tokens)
        return number

    async def settle(
        self, context: UserExecutionContext, number: str, used: int
    ) -> bool:
        """Count what a call cost and give back the rest; False when that was done.

        A reservation that ran out meanwhile is settled as well: it was spent.
        """
        done = await self._settle(
            keys=_keys(context),
            args=[
                number,
                context.run_id or _NO_RUN,
                self._window_s,
                used,
                self._reserved_s,
            ],
        )
        return bool(done)

    async def spent(self, context: UserExecutionContext) -> int:
        """Return what the user has spent within this window."""
        seconds, _ = await self._redis.time()
        key = f"{_keys(context)[1]}:{int(seconds) // self._window_s}"
        return int(await self._redis.get(key) or 0)

    async def _hold(
        self, context: UserExecutionContext, number: str, tokens: int
    ) -> None:
        outcome, left = await self._reserve(
            keys=_keys(context),
            args=[
                number,
                context.run_id or _NO_RUN,
                self._window_s,
                tokens,
                self._user_tokens,
                self._run_tokens,
                self._reserved_s,
            ],
        )
        who = outcome.decode() if isinstance(outcome, bytes) else outcome
        if who != "ok":
            whose = "your" if who == "user" else "this run's"
            message = (
                f"The call could cost {tokens} tokens and {max(int(left), 0)} are left "
                f"of {whose} budget. Ask for less, or wait."
            )
            raise BudgetError(message)


def _keys(context: UserExecutionContext) -> list[str]:
    prefix = user_prefix(context.user_id) + "tokens:"
    return [
        f"{prefix}reserved",
        f"{prefix}spent",
        f"{prefix}run:{context.run_id or _NO_RUN}",
    ]


async def _to_its_end(work: Any) -> None:  # noqa: ANN401  # any coroutine
    # A call that is cancelled was made all the same, so its cost is counted first.
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled from task.exception()
    task.result()
