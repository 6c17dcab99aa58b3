"""Locks, flags and semaphores that are not given back, or given to the wrong one."""

import asyncio
import contextlib
from collections import deque

from test_framework.catalogue.pattern import CANCELLED_USERS, Needs, Pattern
from test_framework.catalogue.world import NAMES, Store, visits
from test_framework.explore import external


class _Reports:
    """Makes one report at a time; others are told to come back."""

    def __init__(self) -> None:
        self.is_busy = False

    async def make(self) -> bool:
        if self.is_busy:
            return False
        self.is_busy = True
        await external("render")
        self.is_busy = False
        return True


class _RestoringReports(_Reports):
    async def make(self) -> bool:
        if self.is_busy:
            return False
        self.is_busy = True
        try:
            await external("render")
        finally:
            self.is_busy = False
        return True


async def _make_report(reports: _Reports, user: int) -> None:  # noqa: ARG001  # any user
    with contextlib.suppress(ConnectionError):  # answered with 502
        await reports.make()


def _is_free(reports: _Reports) -> None:
    assert not reports.is_busy, "nobody gets a report any more"


BUSY_FLAG = Pattern(
    id="P19",
    title="busy flag not reset",
    summary=(
        "An error between setting and clearing a flag leaves it set, and all are turned "
        "away from then on. Clear it in finally, or use a lock."
    ),
    source="https://cwe.mitre.org/data/definitions/459.html",
    vulnerable=visits(_Reports, _make_report, _is_free),
    safe=visits(_RestoringReports, _make_report, _is_free),
    needs=Needs(errors=("ConnectionResetError",)),
)


class _Ledger:
    """Books under a lock."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()

    async def book(self) -> None:
        await self.lock.acquire()
        await external("INSERT")
        self.lock.release()


class _ScopedLedger(_Ledger):
    async def book(self) -> None:
        async with self.lock:
            await external("INSERT")


async def _book(ledger: _Ledger, user: int) -> None:  # noqa: ARG001  # any user
    await ledger.book()


ORPHANED_LOCK = Pattern(
    id="X14",
    title="lock held by a cancelled task",
    summary=(
        "A task is cancelled between acquire and release, and nobody gets the lock "
        "again. Use async with."
    ),
    source="https://github.com/python-trio/trio/issues/182",
    vulnerable=visits(_Ledger, _book),
    safe=visits(_ScopedLedger, _book),
    needs=CANCELLED_USERS,
    kind="deadlock",
)


class _Limiter:
    """Hands its one slot to the waiter that came first."""

    def __init__(self) -> None:
        self.is_free = True
        self.waiters: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        if self.is_free:
            self.is_free = False
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        await self.wait(waiter)

    async def wait(self, waiter: "asyncio.Future[None]") -> None:
        await waiter

    def release(self) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.is_free = True


class _PassingLimiter(_Limiter):
    async def wait(self, waiter: "asyncio.Future[None]") -> None:
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # chosen, and cancelled before it could go on
                self.release()
            raise


async def _call_model(limiter: _Limiter, user: int) -> None:  # noqa: ARG001  # any user
    await limiter.acquire()
    try:
        await external("call the model")
    finally:
        limiter.release()


def _slot_is_there(limiter: _Limiter) -> None:
    assert limiter.is_free, "nobody gets the slot again"


LOST_WAKE_UP = Pattern(
    id="X06",
    title="lost wake-up",
    summary=(
        "A waiter is chosen and cancelled in the same tick, and the slot goes down with "
        "it. Who is cancelled after being chosen wakes the next."
    ),
    source="https://github.com/python/cpython/pull/1031",
    vulnerable=visits(_Limiter, _call_model, _slot_is_there, gap_s=0),
    safe=visits(_PassingLimiter, _call_model, _slot_is_there, gap_s=0),
    needs=CANCELLED_USERS,
)


class _Downloads:
    """One download at a time."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(1)
        self.running = 0

    async def run(self) -> None:
        self.running += 1
        assert self.running == 1, "more downloads at a time than allowed"
        try:
            await external("GET file")
        finally:
            self.running -= 1

    async def download(self) -> None:
        try:
            await self.slots.acquire()
            await self.run()
        finally:
            self.slots.release()


class _BalancedDownloads(_Downloads):
    async def download(self) -> None:
        await self.slots.acquire()
        try:
            await self.run()
        finally:
            self.slots.release()


async def _download(downloads: _Downloads, user: int) -> None:  # noqa: ARG001  # any user
    await downloads.download()


OVER_RELEASE = Pattern(
    id="B10",
    title="semaphore released without being acquired",
    summary=(
        "The acquire stands inside of the try, so who is cancelled while waiting "
        "releases what another holds. Acquire before the try, or use async with."
    ),
    source="https://docs.python.org/3/library/asyncio-sync.html#asyncio.BoundedSemaphore",
    vulnerable=visits(_Downloads, _download, users=3, gap_s=0),
    safe=visits(_BalancedDownloads, _download, users=3, gap_s=0),
    needs=CANCELLED_USERS,
)


class _Documents:
    """Locks the folder and the index, in the order in which it comes to them."""

    def __init__(self) -> None:
        self.folder, self.index = asyncio.Lock(), asyncio.Lock()

    async def rename(self) -> None:
        async with self.folder:
            await external("rename")
            async with self.index:
                await external("update the index")

    async def reindex(self) -> None:
        async with self.index:
            await external("read the index")
            async with self.folder:
                await external("list the folder")


class _OrderedDocuments(_Documents):
    async def reindex(self) -> None:
        async with self.folder, self.index:
            await external("read the index")
            await external("list the folder")


async def _rename_or_reindex(documents: _Documents, user: int) -> None:
    await (documents.reindex() if user else documents.rename())


LOCK_INVERSION = Pattern(
    id="B14",
    title="lock order inversion",
    summary=(
        "Two operations take the same two locks in opposite order. Take them in one "
        "order everywhere."
    ),
    source="https://docs.kernel.org/locking/lockdep-design.html",
    vulnerable=visits(_Documents, _rename_or_reindex),
    safe=visits(_OrderedDocuments, _rename_or_reindex),
    kind="deadlock",
)


class _SharedLock:
    """Many readers or one writer."""

    def __init__(self) -> None:
        self.readers = 0
        self.is_writing = False
        self.changed = asyncio.Condition()

    async def read(self) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: not self.is_writing)
            self.readers += 1

    async def end_reading(self) -> None:
        async with self.changed:
            self.readers -= 1
            self.changed.notify_all()

    async def write(self, *, as_reader: bool) -> None:
        async with self.changed:
            await self.changed.wait_for(
                lambda: not self.is_writing and self.readers == as_reader
            )
            self.is_writing = True

    async def end_writing(self) -> None:
        async with self.changed:
            self.is_writing = False
            self.changed.notify_all()


class _Settings(_SharedLock):
    """Reads, and writes when the value is missing."""

    async def ensure(self) -> None:
        await self.read()
        await external("SELECT")
        await self.write(as_reader=True)
        await external("INSERT")
        await self.end_writing()
        await self.end_reading()


class _RelockingSettings(_Settings):
    async def ensure(self) -> None:
        await self.read()
        await external("SELECT")
        await self.end_reading()
        await self.write(as_reader=False)
        await external("INSERT ... ON CONFLICT DO NOTHING")
        await self.end_writing()


async def _ensure(settings: _Settings, user: int) -> None:  # noqa: ARG001  # any user
    await settings.ensure()


READER_UPGRADE = Pattern(
    id="B17",
    title="two readers upgrade to writers",
    summary=(
        "Each waits to write until the other stops reading. Let go of the read lock "
        "first, take the write lock, and look again."
    ),
    source="https://pkg.go.dev/sync#RWMutex",
    vulnerable=visits(_Settings, _ensure),
    safe=visits(_RelockingSettings, _ensure),
    kind="deadlock",
)


class _Lease:
    """A lock in Redis; its key expires when the holder is slow."""

    def __init__(self) -> None:
        self.redis = Store()
        self.inside: list[str] = []

    async def release(self, user: str) -> None:  # noqa: ARG002  # the twin compares it
        await self.redis.pop("lock")

    async def work(self, user: str) -> None:
        if not await self.redis.set_if_absent("lock", user):
            return
        await external("work")
        await self.release(user)

    def expire(self) -> None:
        self.redis.data.pop("lock", None)


class _OwnedLease(_Lease):
    async def release(self, user: str) -> None:
        await external("EVAL: if GET == me then DEL")
        if self.redis.data.get("lock") == user:
            del self.redis.data["lock"]


async def _work_under_lease(lease: _Lease, user: int) -> None:
    name = NAMES[user]
    if user:
        lease.expire()
        if await lease.redis.set_if_absent("lock", name):
            await external("work")
            assert lease.redis.data.get("lock") == name, "somebody else took it away"
            await lease.release(name)
    else:
        await lease.work(name)


LOCK_WITHOUT_OWNER = Pattern(
    id="R06",
    title="lock released without looking whose it is",
    summary=(
        "A holder whose key has expired deletes the key of the next holder. Write a "
        "token into the key and compare it when deleting."
    ),
    source="https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html",
    vulnerable=visits(_Lease, _work_under_lease),
    safe=visits(_OwnedLease, _work_under_lease),
)


PATTERNS = (
    BUSY_FLAG,
    ORPHANED_LOCK,
    LOST_WAKE_UP,
    OVER_RELEASE,
    LOCK_INVERSION,
    READER_UPGRADE,
    LOCK_WITHOUT_OWNER,
)
