"""The key-value service of the patterns as a real Redis; see ``world.Store``.

Hosted twins have it. Commands are those that the store is named after, each atomic
because Redis makes it so; before each the network takes its time, as it does for all
that patterns ask of the world outside. Checks and clean-up look at ``data``, which asks
Redis as well, at once and blocking.
"""

import asyncio
import contextvars
import itertools
import pickle
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import redis
import redis.asyncio

from test_framework.catalogue.world import Store
from test_framework.explore import external

_SWAP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
_PICKLED = b"p"
_PROTOCOL = 4


def redis_store(client: redis.asyncio.Redis, blocking: redis.Redis) -> type[Store]:
    """Return the class of stores whose keys lie in one Redis.

    Args:
        client: Of the Redis, for commands; the caller closes it.
        blocking: Of the same Redis, for ``data``; the caller closes it.
    """
    numbers = itertools.count(1)

    class RedisStore(Store):
        """A store whose commands go to Redis."""

        def __init__(self, **data: Any) -> None:  # as Store has it
            prefix = f"store:{next(numbers)}:"
            super().__init__()
            self.data = _Keys(blocking, prefix)  # type: ignore[assignment]  # a mapping is all that patterns need
            self.data.update(data)
            self._prefix = prefix

        async def get(self, key: str) -> Any:  # as Store has it
            await external(f"GET {key}")
            return _load(await _apart(lambda: client.get(self._prefix + key)))

        async def set(self, key: str, value: Any) -> None:  # as Store has it
            await external(f"SET {key}")
            await _apart(lambda: client.set(self._prefix + key, _dump(value)))

        async def add(self, key: str, amount: int) -> int:
            await external(f"INCRBY {key}")
            return int(await _apart(lambda: client.incrby(self._prefix + key, amount)))

        async def set_if_absent(self, key: str, value: Any) -> bool:  # as Store has it
            await external(f"SET {key} NX")
            name, text = self._prefix + key, _dump(value)
            return bool(await _apart(lambda: client.set(name, text, nx=True)))

        async def pop(self, key: str) -> Any:  # as Store has it
            await external(f"GETDEL {key}")
            return _load(await _apart(lambda: client.getdel(self._prefix + key)))

        async def swap(self, key: str, old: Any, new: Any) -> bool:  # as Store has it
            await external(f"CAS {key}")
            name, texts = self._prefix + key, (_dump(old), _dump(new))
            swapped = await _apart(lambda: client.eval(_SWAP, 1, name, *texts))
            return bool(swapped)

    return RedisStore


async def _apart(command: Callable[[], Awaitable[Any]]) -> Any:  # what Redis answers
    """Run a command outside of the context of a visit, whose time runs faster."""

    async def run() -> Any:  # what Redis answers
        return await command()

    return await asyncio.create_task(run(), context=contextvars.Context())


class _Keys(MutableMapping[str, Any]):
    """The keys of one store, asked for at once."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client, self._prefix = client, prefix

    def __getitem__(self, key: str) -> Any:  # what was stored
        text: Any = self._client.get(self._prefix + key)
        if text is None:
            raise KeyError(key)
        return _load(text)

    def __setitem__(self, key: str, value: Any) -> None:  # whatever is stored
        self._client.set(self._prefix + key, _dump(value))

    def __delitem__(self, key: str) -> None:
        if not self._client.delete(self._prefix + key):
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        for key in self._client.scan_iter(f"{self._prefix}*"):
            yield key.decode().removeprefix(self._prefix)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _dump(value: Any) -> bytes:  # whatever is stored
    """Return a number as Redis counts, and anything else pickled, the same each time."""
    if type(value) is int:
        return str(value).encode()
    return _PICKLED + pickle.dumps(value, _PROTOCOL)


def _load(text: bytes | None) -> Any:  # what was stored
    if text is None:
        return None
    if text.startswith(_PICKLED):
        return pickle.loads(text[1:])  # noqa: S301  # written by this very process
    return int(text)
