"""Leases that programs make of SET NX, on a real Redis, each beside a sound sibling."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from test_framework.core import AlarmRecord
from test_framework.detect.locks import DeadlockWatcher, claims
from tests.integration.detect.told import until_told

# No watcher of the plugin around: two would patch the same methods.
pytestmark = [pytest.mark.integration, pytest.mark.detect()]

COMPARE_AND_DELETE = """
if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("del", KEYS[1]) end
return 0
"""


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401  # a generator
    """Watch for the length of a test."""
    # Who gives up within a minute was brief, and who asks again within one still
    # waits, however slow the machine is.
    monkeypatch.setattr(claims, "GRACE_S", 60)
    watcher = DeadlockWatcher(slow_wait_s=60)
    watcher.start()
    yield watcher
    watcher.stop()


@pytest.fixture
async def client(watcher: DeadlockWatcher, redis_url: str) -> AsyncIterator[Redis]:
    """Return a client; it is patched like that of a service."""
    del watcher
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def key(redis_url: str) -> Any:  # noqa: ANN401  # a generator
    """Return the name of a lease that is gone afterwards."""
    name = f"lease:{secrets.token_hex(4)}"
    yield name
    with redis.Redis.from_url(redis_url) as other:
        other.delete(name, f"{name}:2")


async def claim(client: Redis, name: str, **options: Any) -> str:  # noqa: ANN401  # those of SET
    """Ask for a lease until it is there, and return its token."""
    token = secrets.token_hex(4)
    async with asyncio.timeout(10):
        # As programs do, for want of anything to wait for.
        while not await client.set(name, token, nx=True, **options):  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.005)
    return token


async def release(client: Redis, name: str, token: str) -> None:
    """Release a lease as the manual of Redis has it."""
    await client.eval(COMPARE_AND_DELETE, 1, name, token)


async def use(client: Redis, name: str) -> None:
    """Take a lease and give it back: from here on it is known for one."""
    await release(client, name, await claim(client, name, ex=60))


def only(watcher: DeadlockWatcher) -> AlarmRecord:
    """Return the one alarm."""
    (alarm,) = watcher.alarms()
    return alarm


@pytest.mark.power
async def test_claims_taken_crosswise_are_told(
    watcher: DeadlockWatcher, client: Redis, key: str
) -> None:
    """Two tasks poll for what the other one has, until the leases run out."""
    both = asyncio.Barrier(2)

    async def nest(first: str, second: str) -> None:
        await claim(client, first, px=500)
        await both.wait()
        await claim(client, second, px=500)

    alarm = await until_told(
        watcher,
        asyncio.gather(nest(key, f"{key}:2"), nest(f"{key}:2", key)),
        "deadlock",
        ends_itself=True,
    )

    assert "wait for each other until a lease runs out in" in alarm.claim
    assert f"waits for Redis lease '{key}'" in "".join(alarm.evidence)
    assert "test_locks_claims.py" in alarm.site


@pytest.mark.power
async def test_a_claim_and_a_lock_crosswise_are_told(
    watcher: DeadlockWatcher, client: Redis, key: str
) -> None:
    """One has the lock and polls for the lease, whose holder waits for the lock."""
    lock, both = asyncio.Lock(), asyncio.Barrier(2)

    async def lease_first() -> None:
        token = await claim(client, key, ex=60)
        await both.wait()
        async with lock:
            await release(client, key, token)

    async def lock_first() -> None:
        async with lock:
            await both.wait()
            await claim(client, key, ex=60)

    alarm = await until_told(
        watcher, asyncio.gather(lease_first(), lock_first()), "deadlock"
    )

    assert alarm.level == "error"


async def test_claims_taken_in_order_are_quiet(
    watcher: DeadlockWatcher, client: Redis, key: str
) -> None:
    """Two tasks poll for two leases in one order and give them back."""

    async def nest() -> None:
        outer = await claim(client, key, ex=60)
        inner = await claim(client, f"{key}:2", ex=60)
        await release(client, f"{key}:2", inner)
        await release(client, key, outer)

    await asyncio.gather(nest(), nest(), nest())

    assert watcher.alarms() == []


async def test_who_lets_go_after_some_tries_is_a_warning(
    watcher: DeadlockWatcher, client: Redis, key: str
) -> None:
    """It was a circle for a moment, and ended as it was meant to."""
    both, refused = asyncio.Barrier(2), asyncio.Event()

    async def ask_twice(name: str) -> None:
        for _ in range(2):
            assert not await client.set(name, "1", nx=True, ex=60)

    async def modest() -> None:
        token = await claim(client, key, ex=60)
        await both.wait()
        await refused.wait()
        await ask_twice(f"{key}:2")
        assert asyncio.current_task() in watcher._watch.ledger.waits
        await release(client, key, token)
        assert asyncio.current_task() not in watcher._watch.ledger.waits

    async def patient() -> None:
        token = await claim(client, f"{key}:2", ex=60)
        await both.wait()
        await ask_twice(key)
        refused.set()
        await release(client, key, await claim(client, key, ex=60))
        await release(client, f"{key}:2", token)

    await asyncio.gather(modest(), patient())

    told = [(one.rule, one.level) for one in watcher.alarms()]
    assert ("deadlock", "warning") in told
    assert "error" not in dict(told).values()
    assert not watcher.is_stuck()


@pytest.mark.power
async def test_a_claim_that_its_task_forgets_is_told(
    watcher: DeadlockWatcher, client: Redis, key: str
) -> None:
    """A request fails between the claim and the release."""

    async def work(*, fails: bool) -> None:
        token = await claim(client, key, ex=60)
        if not fails:
            await release(client, key, token)

    await asyncio.create_task(work(fails=False), name="sound")
    assert watcher.alarms() == []
    await asyncio.create_task(work(fails=True), name="forgetful")

    alarm = only(watcher)
    assert (alarm.rule, alarm.level) == ("lock-held-at-end", "warning")
    assert "task 'forgetful'" in alarm.claim
    assert f"still holds Redis lease '{key}', which runs out in" in alarm.claim
    assert only(watcher).count == 1


@pytest.mark.power
async def test_a_forgotten_claim_that_others_ask_for_is_an_error(
    watcher: DeadlockWatcher, client: Redis, key: str
) -> None:
    """Somebody polls for a lease whose task has ended."""
    await asyncio.create_task(claim(client, key, ex=60), name="forgetful")

    alarm = await until_told(watcher, claim(client, key, ex=60), "lock-held-at-end")

    assert alarm.level == "error"
    assert "asks for it again and again at" in alarm.evidence[1]


@pytest.mark.power
async def test_a_claim_deleted_by_who_had_it_before_is_told(
    watcher: DeadlockWatcher, client: Redis, key: str, redis_url: str
) -> None:
    """Alice's lease has run out, bob has it now, and alice deletes it."""
    refused, claimed, deleted = (asyncio.Event() for _ in range(3))

    async def bob() -> None:
        for _ in range(2):
            assert not await client.set(key, "bob", nx=True, ex=60)
        refused.set()
        await claim(client, key, ex=60)
        claimed.set()
        await deleted.wait()

    await claim(client, key, ex=60)
    work = asyncio.create_task(bob(), name="bob")
    await refused.wait()
    with redis.Redis.from_url(redis_url) as clock:  # as time would
        clock.delete(key)
    await claimed.wait()
    await client.delete(key)
    deleted.set()
    await work

    alarm = only(watcher)
    assert (alarm.rule, alarm.level) == ("lock-released-by-stranger", "error")
    assert "which task 'bob' holds" in alarm.claim
    assert "had run out by then" in alarm.evidence[2]


@pytest.mark.power
async def test_a_claim_deleted_by_another_task_is_told(
    watcher: DeadlockWatcher, client: Redis, key: str
) -> None:
    """A task that never had the lease deletes it while its holder works."""
    await use(client, key)
    claimed, deleted = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        await claim(client, key, ex=60)
        claimed.set()
        await deleted.wait()

    work = asyncio.create_task(hold(), name="holder")
    await claimed.wait()
    await asyncio.create_task(delete(client, key), name="stranger")
    deleted.set()
    await work

    alarm = only(watcher)
    assert (alarm.rule, alarm.level) == ("lock-released-by-stranger", "warning")
    assert "task 'stranger' deleted" in alarm.claim


async def delete(client: Redis, name: str) -> None:
    """Delete a key."""
    await client.delete(name)


@pytest.mark.power
async def test_a_claim_deleted_without_a_look_is_told(
    watcher: DeadlockWatcher, client: Redis, key: str
) -> None:
    """It went well this time, since the lease had not run out."""
    await claim(client, key, ex=60)
    await client.delete(key)

    alarm = only(watcher)
    assert (alarm.rule, alarm.level) == ("lease-released-unchecked", "warning")


@pytest.mark.power
@pytest.mark.parametrize("word", ["SET", "SETNX"])
async def test_a_claim_without_expiry_is_told(
    watcher: DeadlockWatcher, client: Redis, key: str, word: str
) -> None:
    """The key stays when the process is killed."""
    if word == "SET":
        token = await claim(client, key)
    else:
        token = "t"
        assert await client.setnx(key, token)
    await release(client, key, token)

    alarm = only(watcher)
    assert (alarm.rule, alarm.level) == ("lease-without-expiry", "warning")


@pytest.mark.power
async def test_an_expiry_that_comes_late_is_a_note(
    watcher: DeadlockWatcher, client: Redis, key: str
) -> None:
    """Between the two commands the process may be killed."""
    await client.setnx(key, "t")
    await client.expire(key, 60)
    await release(client, key, "t")

    alarm = only(watcher)
    assert (alarm.rule, alarm.level) == ("lease-without-expiry", "note")


async def release_by_pipeline(client: Redis, name: str, token: str) -> None:
    """WATCH, compare, MULTI, DEL, EXEC."""
    async with client.pipeline() as pipe:
        await pipe.watch(name)
        if await pipe.get(name) == token:
            pipe.multi()  # type: ignore[no-untyped-call]  # redis-py leaves it out
            pipe.delete(name)
            await pipe.execute()


async def release_by_script(client: Redis, name: str, token: str) -> None:
    """Send the script by its hash, after one that gives more time."""
    extend = client.register_script(
        COMPARE_AND_DELETE.replace('"del", KEYS[1]', '"pexpire", KEYS[1], 60000')
    )
    await extend(keys=[name], args=[token])
    await client.register_script(COMPARE_AND_DELETE)(keys=[name], args=[token])


async def release_by_child(client: Redis, name: str, token: str) -> None:
    """Release in a task of its own, which no cancellation reaches."""
    await asyncio.shield(release(client, name, token))


async def release_after_get(client: Redis, name: str, token: str) -> None:
    """Compare here and delete there: not in one step, but with a look."""
    if await client.get(name) == token:
        await client.delete(name)


@pytest.mark.parametrize(
    "give_back",
    [release_by_pipeline, release_by_script, release_by_child, release_after_get],
)
async def test_a_claim_released_by_its_token_is_quiet(
    watcher: DeadlockWatcher,
    client: Redis,
    key: str,
    give_back: Any,  # noqa: ANN401  # one of the above
) -> None:
    """However the token is compared, and whatever task of the holder does it."""
    for _ in range(2):
        await asyncio.wait_for(
            give_back(client, key, await claim(client, key, ex=60)), 10
        )

    assert watcher.alarms() == []
    assert not await client.exists(key)


async def test_keys_that_are_no_leases_are_quiet(
    watcher: DeadlockWatcher, client: Redis, key: str
) -> None:
    """A mark that stays, and an entry of a cache that somebody else deletes."""

    async def once() -> None:
        await client.set(key, "seen", nx=True)

    filled, deleted = asyncio.Event(), asyncio.Event()

    async def fill() -> None:
        await client.set(f"{key}:2", "entry", nx=True, ex=60)
        filled.set()
        await deleted.wait()

    await asyncio.create_task(once())
    await asyncio.create_task(once())
    filling = asyncio.create_task(fill())
    await filled.wait()
    await client.delete(f"{key}:2")
    deleted.set()
    await filling

    assert watcher.alarms() == []


async def test_marks_that_are_deleted_on_failure_are_quiet(
    watcher: DeadlockWatcher, client: Redis, key: str
) -> None:
    """Most marks of what was done stay; one is deleted, so that it can be done again."""

    async def once(number: int, *, fails: bool = False) -> None:
        await client.set(f"{key}:{number}", "1", nx=True, ex=60)
        if fails and await client.get(f"{key}:{number}"):
            await client.delete(f"{key}:{number}")

    for number in range(4):
        await asyncio.create_task(once(number, fails=number == 2))

    assert watcher.alarms() == []


async def test_a_claim_that_goes_from_request_to_request_is_quiet(
    watcher: DeadlockWatcher, client: Redis, key: str
) -> None:
    """A document is locked by one request and unlocked by another one."""

    async def lock() -> None:
        assert await client.set(key, "for alice", nx=True, ex=60)

    for _ in range(2):
        await asyncio.create_task(lock())
        await asyncio.create_task(delete(client, key))
    await asyncio.create_task(lock())

    assert watcher.alarms() == []


async def test_the_lock_of_redis_py_is_not_taken_for_a_claim(
    watcher: DeadlockWatcher, client: Redis, key: str
) -> None:
    """It sends the same command, and is known by itself."""
    async with client.lock(key, timeout=60):
        await asyncio.sleep(0)

    assert watcher.alarms() == []
    assert watcher.coverage().facts["leases"] == 1
