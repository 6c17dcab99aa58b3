"""Caches, singletons and tokens: made once, read by all, replaced while in use."""

import asyncio

from test_framework.catalogue.pattern import Pattern
from test_framework.catalogue.world import NAMES, Store, visits
from test_framework.explore import external


class _Summaries:
    """Summaries of documents, made by a model that is paid per call."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.calls = 0
        self.running: dict[str, asyncio.Task[str]] = {}

    async def summarise(self, key: str) -> str:
        self.calls += 1
        await external("call the model")
        return f"summary {self.calls} of {key}"

    async def get(self, key: str) -> str:
        if key not in self.known:
            self.known[key] = await self.summarise(key)
        return self.known[key]


class _SingleFlightSummaries(_Summaries):
    async def get(self, key: str) -> str:
        if key not in self.running:
            self.running[key] = asyncio.create_task(self.summarise(key))
        return await asyncio.shield(self.running[key])


async def _read_summary(summaries: _Summaries, user: int) -> None:  # noqa: ARG001  # any user
    await summaries.get("minutes")


def _made_once(summaries: _Summaries) -> None:
    assert summaries.calls == 1, "paid more than once"


STAMPEDE = Pattern(
    id="P06",
    title="cache-miss stampede",
    summary=(
        "All who miss at once compute at once, and the last one wins. Keep the task "
        "that computes, and let all await it."
    ),
    source="https://cwe.mitre.org/data/definitions/362.html",
    vulnerable=visits(_Summaries, _read_summary, _made_once),
    safe=visits(_SingleFlightSummaries, _read_summary, _made_once),
)


class _Pools:
    """The connection pool is made when the first request needs it."""

    def __init__(self) -> None:
        self.pool: Store | None = None
        self.made = 0
        self.lock = asyncio.Lock()

    async def connect(self) -> Store:
        await external("connect")
        self.made += 1
        return Store()

    async def get(self) -> Store:
        if self.pool is None:
            self.pool = await self.connect()
        return self.pool


class _LockedPools(_Pools):
    async def get(self) -> Store:
        async with self.lock:
            return await super().get()


async def _write_and_read(pools: _Pools, user: int) -> None:
    (await pools.get()).data[NAMES[user]] = "draft"
    await external("the next request of the same user")
    assert NAMES[user] in (await pools.get()).data, "the draft went to another pool"


LAZY_SINGLETON = Pattern(
    id="P07",
    title="lazy singleton without lock",
    summary=(
        "Two first requests see None and make two clients; one leaks, with what was "
        "written to it. Look again under a lock, or make it at start."
    ),
    source="https://cwe.mitre.org/data/definitions/609.html",
    vulnerable=visits(_Pools, _write_and_read),
    safe=visits(_LockedPools, _write_and_read),
)


class _Addresses:
    """A cache before a table; writers drop the cached value."""

    def __init__(self) -> None:
        self.table = Store(address="old street")
        self.cache: dict[str, str] = {}
        self.version = 0

    async def read(self) -> str:
        if "address" not in self.cache:
            address = await self.table.get("address")
            await external("decode")
            self.cache["address"] = address
        return self.cache["address"]

    async def write(self, address: str) -> None:
        await self.table.set("address", address)
        self.cache.pop("address", None)
        self.version += 1


class _VersionedAddresses(_Addresses):
    async def read(self) -> str:
        if "address" in self.cache:
            return self.cache["address"]
        version = self.version
        address: str = await self.table.get("address")
        await external("decode")
        if version == self.version:
            self.cache["address"] = address
        return address


async def _read_or_move(addresses: _Addresses, user: int) -> None:
    if user:
        await addresses.write("new street")
    else:
        await addresses.read()


def _cache_is_fresh(addresses: _Addresses) -> None:
    cached = addresses.cache.get("address")
    assert cached in (None, addresses.table.data["address"]), "stale for ever"


STALE_SET = Pattern(
    id="R03",
    title="stale value cached after invalidation",
    summary=(
        "A reader that began before the write puts the old value into the cache after "
        "the writer cleared it. Compare a version before storing."
    ),
    source="https://www.usenix.org/conference/nsdi13/technical-sessions/presentation/nishtala",
    vulnerable=visits(_Addresses, _read_or_move, _cache_is_fresh),
    safe=visits(_VersionedAddresses, _read_or_move, _cache_is_fresh),
)


class _Sessions:
    """A session is one blob in Redis; two requests of a user change different fields."""

    def __init__(self) -> None:
        self.redis = Store(session={})

    async def put(self, key: str, value: str) -> None:
        session = dict(await self.redis.get("session"))
        session[key] = value
        await self.redis.set("session", session)

    def fields(self) -> dict[str, str]:
        return dict(self.redis.data["session"])


class _ComparingSessions(_Sessions):
    async def put(self, key: str, value: str) -> None:
        while True:
            old = await self.redis.get("session")
            if await self.redis.swap("session", old, old | {key: value}):
                return


async def _put_field(sessions: _Sessions, user: int) -> None:
    await sessions.put(("cart", "csrf")[user], "set")


def _both_fields_kept(sessions: _Sessions) -> None:
    assert sessions.fields() == {"cart": "set", "csrf": "set"}, "a field is lost"


SESSION_BLOB = Pattern(
    id="R10",
    title="whole session read, changed and written back",
    summary=(
        "The response that ends last writes its old copy of the session over what the "
        "other one changed. Compare and swap, or write single fields."
    ),
    source="https://cwe.mitre.org/data/definitions/362.html",
    vulnerable=visits(_Sessions, _put_field, _both_fields_kept),
    safe=visits(_ComparingSessions, _put_field, _both_fields_kept),
)


class _Permissions:
    """Remembers what the policy service said; a revocation clears it."""

    def __init__(self) -> None:
        self.policy = Store(alice=True)
        self.cache: dict[tuple[str, int], bool] = {}
        self.epoch = 0

    def key(self, user: str) -> tuple[str, int]:
        return user, 0

    async def may_read(self, user: str) -> bool:
        key = self.key(user)  # taken before the answer, as the answer may be old
        if key not in self.cache:
            allowed = bool(await self.policy.get(user))
            await external("write to the audit log")
            self.cache[key] = allowed
        return self.cache[key]

    async def revoke(self, user: str) -> None:
        await self.policy.set(user, value=False)
        self.cache.pop(self.key(user), None)
        self.epoch += 1


class _EpochPermissions(_Permissions):
    def key(self, user: str) -> tuple[str, int]:
        return user, self.epoch


async def _ask_or_revoke(permissions: _Permissions, user: int) -> None:
    if user:
        await permissions.revoke("alice")
    else:
        await permissions.may_read("alice")


def _revoked_is_denied(permissions: _Permissions) -> None:
    cached = permissions.cache.get(permissions.key("alice"), False)
    assert not cached or permissions.policy.data["alice"], "allowed after revocation"


CACHED_PERMISSION = Pattern(
    id="R11",
    title="cached permission outlives its revocation",
    summary=(
        "A check that was under way when the grant was revoked stores 'allowed' "
        "afterwards. Put an epoch into the key."
    ),
    source="https://cwe.mitre.org/data/definitions/613.html",
    vulnerable=visits(_Permissions, _ask_or_revoke, _revoked_is_denied),
    safe=visits(_EpochPermissions, _ask_or_revoke, _revoked_is_denied),
)


PATTERNS = (
    STAMPEDE,
    LAZY_SINGLETON,
    STALE_SET,
    SESSION_BLOB,
    CACHED_PERMISSION,
)
