"""Answers of a server are read in another order than it gave them."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from test_framework.detect.locks.claims import Claims
from test_framework.detect.locks.limits import Limits
from test_framework.detect.locks.patching import Patches
from test_framework.detect.locks.watch import Watch

SCRIPT = "if get(KEYS[1]) == ARGV[1] then del(KEYS[1]) end"
_After = Callable[[Any], None]


@pytest.fixture
def watch() -> Watch:
    """Return the books of a watch that is on."""
    watch = Watch(Limits())
    watch.ledger.is_open = True
    return watch


def sent(claims: Claims, *words: object) -> _After:
    """Send a command on a connection of nobody, and return what its answer goes to."""
    after = claims._follow(object(), words)
    assert after is not None
    return after


async def test_a_release_whose_answer_comes_late_is_no_strangers(watch: Watch) -> None:
    """Bob has the lease before alice has read that hers is released."""
    claims = Claims(watch, Patches())
    is_released, is_claimed = asyncio.Event(), asyncio.Event()

    async def alice() -> None:
        sent(claims, "SET", "lease", "a", "NX", "EX", 60)("OK")
        release = sent(claims, "EVAL", SCRIPT, 1, "lease", "a")
        is_released.set()
        await is_claimed.wait()
        release(1)

    async def bob() -> None:
        for _ in range(2):
            sent(claims, "SET", "lease", "b", "NX", "EX", 60)(None)
        await is_released.wait()
        sent(claims, "SET", "lease", "b", "NX", "EX", 60)("OK")
        is_claimed.set()
        sent(claims, "EVAL", SCRIPT, 1, "lease", "b")(1)

    await asyncio.gather(alice(), bob())
    claims.look([])

    assert watch.alarms.records() == []


@pytest.mark.power
async def test_a_delete_of_the_next_holders_lease_is_told_all_the_same(
    watch: Watch,
) -> None:
    """Carol has the lease already when alice reads that she deleted that of bob."""
    claims = Claims(watch, Patches())
    bob_has, alice_deleted = asyncio.Event(), asyncio.Event()

    async def bob() -> None:
        for answer in (None, None, "OK"):  # alice's has run out by then
            sent(claims, "SET", "lease", "b", "NX", "EX", 60)(answer)
        bob_has.set()
        await alice_deleted.wait()

    async def carol() -> None:
        sent(claims, "SET", "lease", "c", "NX", "EX", 60)("OK")

    sent(claims, "SET", "lease", "a", "NX", "EX", 60)("OK")
    work = asyncio.create_task(bob(), name="bob")
    await bob_has.wait()
    delete = sent(claims, "DEL", "lease")
    await asyncio.create_task(carol())
    delete(1)
    alice_deleted.set()
    await work

    (alarm,) = watch.alarms.records()
    assert (alarm.rule, alarm.level) == ("lock-released-by-stranger", "error")
    assert "task 'bob' holds" in alarm.claim


async def test_who_gave_back_its_lease_had_none_that_ran_out(watch: Watch) -> None:
    """Alice released hers, however late she read so, and deletes bob's on purpose."""
    claims = Claims(watch, Patches())
    bob_has, is_over = asyncio.Event(), asyncio.Event()

    async def bob() -> None:
        for answer in (None, None, "OK"):
            sent(claims, "SET", "lease", "b", "NX", "EX", 60)(answer)
        bob_has.set()
        await is_over.wait()

    sent(claims, "SET", "lease", "a", "NX", "EX", 60)("OK")
    release = sent(claims, "EVAL", SCRIPT, 1, "lease", "a")
    work = asyncio.create_task(bob(), name="bob")
    await bob_has.wait()
    release(1)
    sent(claims, "DEL", "lease")(1)
    is_over.set()
    await work

    (alarm,) = watch.alarms.records()
    assert (alarm.rule, alarm.level) == ("lock-released-by-stranger", "warning")
