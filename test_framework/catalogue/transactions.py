"""Statements that are atomic one by one, and programs that need them to be so together."""

import asyncio
from dataclasses import dataclass, replace

from test_framework.catalogue.pattern import Pattern
from test_framework.catalogue.world import NAMES, Store, visits
from test_framework.explore import external


@dataclass(frozen=True)
class _Row:
    balance: int
    version: int = 0


class _Accounts:
    """An account as an ORM sees it: select the row, change the object, write it back."""

    def __init__(self) -> None:
        self.table = Store(alice=_Row(100))

    async def pay_in(self, amount: int) -> None:
        row = await self.table.get("alice")
        await self.table.set("alice", replace(row, balance=row.balance + amount))

    def balance(self) -> int:
        return int(self.table.data["alice"].balance)


class _VersionedAccounts(_Accounts):
    async def pay_in(self, amount: int) -> None:
        while True:
            row = await self.table.get("alice")
            paid = _Row(row.balance + amount, row.version + 1)
            # UPDATE ... WHERE version = row.version
            if await self.table.swap("alice", row, paid):
                return


async def _pay_in(accounts: _Accounts, user: int) -> None:
    await accounts.pay_in(10 + user)


def _both_paid_in(accounts: _Accounts) -> None:
    assert accounts.balance() == 121, f"{accounts.balance()}, of 100 and 10 and 11"


READ_MODIFY_WRITE = Pattern(
    id="D05",
    title="lost update under READ COMMITTED",
    summary=(
        "Two transactions read a row and write back what they made of it; the database "
        "lets the second win. Write under the version that was read."
    ),
    source="https://doi.org/10.1145/3514221.3526120",
    vulnerable=visits(_Accounts, _pay_in, _both_paid_in),
    safe=visits(_VersionedAccounts, _pay_in, _both_paid_in),
)


class _Handles:
    """Who signs up takes a handle, if it is free."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    async def is_taken(self, handle: str) -> bool:
        await external("SELECT")
        return any(row[0] == handle for row in self.rows)

    async def insert(self, handle: str, user: str) -> bool:
        await external("INSERT")
        self.rows.append((handle, user))
        return True

    async def sign_up(self, handle: str, user: str) -> bool:
        return not await self.is_taken(handle) and await self.insert(handle, user)


class _UniqueHandles(_Handles):
    async def insert(self, handle: str, user: str) -> bool:
        await external("INSERT ... ON CONFLICT DO NOTHING")
        if any(row[0] == handle for row in self.rows):
            return False
        self.rows.append((handle, user))
        return True


async def _sign_up(handles: _Handles, user: int) -> None:
    await handles.sign_up("@admin", NAMES[user])


def _one_owner(handles: _Handles) -> None:
    assert len(handles.rows) == 1, "mail to one owner of the handle reaches the other"


UNIQUENESS = Pattern(
    id="D06",
    title="uniqueness kept by the application",
    summary=(
        "SELECT finds no such row for either of two users, and both INSERT it. Let a "
        "unique index decide."
    ),
    source="https://doi.org/10.1145/2723372.2737784",
    vulnerable=visits(_Handles, _sign_up, _one_owner),
    safe=visits(_UniqueHandles, _sign_up, _one_owner),
)


class _Owners:
    """A project must keep an owner; each may resign while there is another."""

    def __init__(self) -> None:
        self.owners = {"alice", "bob"}

    async def commit(self, user: str, read: frozenset[str]) -> None:  # noqa: ARG002  # the twin compares it
        await external("COMMIT")
        self.owners.discard(user)

    async def resign(self, user: str) -> None:
        await external("SELECT owners")
        read = frozenset(self.owners)
        if read - {user}:
            await self.commit(user, read)


class _SerializableOwners(_Owners):
    async def commit(self, user: str, read: frozenset[str]) -> None:
        await external("COMMIT")
        if read == self.owners:  # else could not serialize access: 40001
            self.owners.discard(user)


async def _resign(owners: _Owners, user: int) -> None:
    await owners.resign(NAMES[user])


def _somebody_owns(owners: _Owners) -> None:
    assert owners.owners, "nobody owns the project"


WRITE_SKEW = Pattern(
    id="D07",
    title="write skew",
    summary=(
        "Two transactions read the same rows and each changes another one, so that the "
        "rule that both checked breaks. Use SERIALIZABLE, and try again."
    ),
    source="https://doi.org/10.1145/1071610.1071615",
    vulnerable=visits(_Owners, _resign, _somebody_owns),
    safe=visits(_SerializableOwners, _resign, _somebody_owns),
)


class _GiftCard:
    """The balance of a card is the sum of its uses."""

    def __init__(self) -> None:
        self.uses: list[int] = []
        self.row_lock = asyncio.Lock()

    async def spend(self, amount: int) -> None:
        await external("SELECT sum(amount)")
        if 50 - sum(self.uses) >= amount:
            await external("INSERT use")
            self.uses.append(amount)


class _LockedGiftCard(_GiftCard):
    async def spend(self, amount: int) -> None:
        async with self.row_lock:  # SELECT card FOR UPDATE
            await super().spend(amount)


async def _spend(card: _GiftCard, user: int) -> None:
    await card.spend(30 + user)


def _not_overspent(card: _GiftCard) -> None:
    assert sum(card.uses) <= 50, f"{sum(card.uses)} spent of 50"


PHANTOM_SPEND = Pattern(
    id="D08",
    title="phantom over-spend",
    summary=(
        "The sum of rows allows a purchase, and by the time of the INSERT there is one "
        "more row. Lock the parent row first."
    ),
    source="https://doi.org/10.1145/3035918.3064037",
    vulnerable=visits(_GiftCard, _spend, _not_overspent),
    safe=visits(_LockedGiftCard, _spend, _not_overspent),
)


class _Transfers:
    """A transfer locks two rows until it commits."""

    def __init__(self) -> None:
        self.rows = {name: asyncio.Lock() for name in NAMES}

    def order(self, source: str, target: str) -> tuple[str, str]:
        return source, target

    async def transfer(self, source: str, target: str) -> None:
        first, second = self.order(source, target)
        async with self.rows[first]:
            await external("SELECT FOR UPDATE")
            async with self.rows[second]:
                await external("COMMIT")


class _SortedTransfers(_Transfers):
    def order(self, source: str, target: str) -> tuple[str, str]:
        return min(source, target), max(source, target)


async def _swap_money(transfers: _Transfers, user: int) -> None:
    await transfers.transfer(NAMES[user], NAMES[1 - user])


ROW_ORDER = Pattern(
    id="D12",
    title="row-lock order deadlock",
    summary=(
        "One transfer locks alice and then bob, another bob and then alice. Lock in the "
        "order of the keys."
    ),
    source="https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-DEADLOCKS",
    vulnerable=visits(_Transfers, _swap_money),
    safe=visits(_SortedTransfers, _swap_money),
    kind="deadlock",
)


class _Outbox:
    """Rows get their number at INSERT and become visible at COMMIT."""

    def __init__(self) -> None:
        self.next_id = 1
        self.visible: list[int] = []
        self.read: list[int] = []
        self.seen = 0
        self.lock = asyncio.Lock()

    async def publish(self) -> None:
        number, self.next_id = self.next_id, self.next_id + 1
        await external("COMMIT")
        self.visible.append(number)

    def poll(self) -> None:
        """Read what is newer than the newest that was read."""
        self.read += sorted(number for number in self.visible if number > self.seen)
        self.seen = max([self.seen, *self.read])


class _SerialOutbox(_Outbox):
    async def publish(self) -> None:
        async with self.lock:  # pg_advisory_xact_lock
            await super().publish()


async def _publish(outbox: _Outbox, user: int) -> None:  # noqa: ARG001  # any user
    await outbox.publish()
    outbox.poll()


def _all_delivered(outbox: _Outbox) -> None:
    assert outbox.read == [1, 2], "an event was skipped for ever"


COMMIT_ORDER = Pattern(
    id="D17",
    title="commit order differs from the order of numbers",
    summary=(
        "A poller asks for numbers above the last one; a row that commits late with a "
        "smaller number is never read. Take a lock until the commit."
    ),
    source="https://www.postgresql.org/docs/current/functions-sequence.html",
    vulnerable=visits(_Outbox, _publish, _all_delivered),
    safe=visits(_SerialOutbox, _publish, _all_delivered),
)


class _Jobs:
    """Workers take the oldest job that nobody has."""

    def __init__(self) -> None:
        self.table: dict[str, str | None] = {"export for alice": None}
        self.done: list[str] = []

    async def claim(self, worker: str) -> str | None:
        await external("SELECT ... WHERE worker IS NULL")
        job = next((job for job, taken in self.table.items() if not taken), None)
        if job is not None:
            await external("UPDATE")
            self.table[job] = worker
        return job


class _LockingJobs(_Jobs):
    async def claim(self, worker: str) -> str | None:
        await external("UPDATE ... FOR UPDATE SKIP LOCKED RETURNING")
        job = next((job for job, taken in self.table.items() if not taken), None)
        if job is not None:
            self.table[job] = worker
        return job


async def _work(jobs: _Jobs, user: int) -> None:
    job = await jobs.claim(f"worker {user}")
    if job is not None:
        jobs.done.append(job)


def _done_once(jobs: _Jobs) -> None:
    assert jobs.done == ["export for alice"], "the mail went out twice"


DOUBLE_CLAIM = Pattern(
    id="B04",
    title="two workers claim one job",
    summary=(
        "SELECT shows a free job to two workers, and both UPDATE it. Select and mark in "
        "one statement, FOR UPDATE SKIP LOCKED."
    ),
    source="https://doi.org/10.1145/3514221.3526120",
    vulnerable=visits(_Jobs, _work, _done_once),
    safe=visits(_LockingJobs, _work, _done_once),
)


class _Quota:
    """Requests of a tenant in this minute, in Redis."""

    def __init__(self) -> None:
        self.redis = Store(hits=0)

    async def hit(self) -> None:
        hits = await self.redis.get("hits")
        await self.redis.set("hits", hits + 1)


class _AtomicQuota(_Quota):
    async def hit(self) -> None:
        await self.redis.add("hits", 1)


async def _hit(quota: _Quota, user: int) -> None:  # noqa: ARG001  # any user of the tenant
    await quota.hit()


def _all_counted(quota: _Quota) -> None:
    assert quota.redis.data["hits"] == 2, "a request was not counted"


GET_SET = Pattern(
    id="R05",
    title="GET and SET instead of one atomic command",
    summary=(
        "A counter in Redis is read, increased in Python and set, over the increase of "
        "another process. Use INCR, WATCH or a script."
    ),
    source="https://redis.io/docs/latest/develop/using-commands/transactions/",
    vulnerable=visits(_Quota, _hit, _all_counted),
    safe=visits(_AtomicQuota, _hit, _all_counted),
)


PATTERNS = (
    READ_MODIFY_WRITE,
    UNIQUENESS,
    WRITE_SKEW,
    PHANTOM_SPEND,
    ROW_ORDER,
    COMMIT_ORDER,
    DOUBLE_CLAIM,
    GET_SET,
)
