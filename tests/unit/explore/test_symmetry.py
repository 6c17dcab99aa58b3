"""Identical users: what is proven by their states, and what is refused."""

import asyncio
import contextlib
import contextvars
import itertools
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from test_framework.core import UsageError
from test_framework.explore import Asgi, Conclusion, Report, Scenario, explore
from test_framework.explore.symmetry.search import SymmetricSearch
from test_framework.explore.symmetry.states import StateSearch

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="only CPython 3.11 shows evaluation stacks"
)


class Account:
    """State of most scenarios here: a value, a lock, what users left behind."""

    def __init__(self) -> None:
        self.value = 0
        self.lock = asyncio.Lock()
        self.names: dict[Any, Any] = {}


User = Callable[[Account, int], Coroutine[Any, Any, object]]


async def deposit_unlocked(account: Account, _: int) -> None:
    """Read, wait, write: the lost update."""
    value = account.value
    await asyncio.sleep(0)
    account.value = value + 1


async def deposit_locked(account: Account, user: int) -> None:
    """The same under a lock."""
    async with account.lock:
        await deposit_unlocked(account, user)


async def deposit_on_stack(account: Account, _: int) -> None:
    """Hold the value that was read on the evaluation stack alone."""
    account.value = account.value + await one()


async def one() -> int:
    """Return one, a while later."""
    await asyncio.sleep(0)
    return 1


def prove(user: User, users: int, fidelity: str = "await") -> Report:
    """Explore deposits of identical users, which must all arrive."""

    def check(account: Account) -> None:
        assert account.value == users

    scenario = Scenario(Account, user, check, users=users)
    return explore(scenario, symmetric=True, fidelity=fidelity, seed=1, budget="60s")


@pytest.mark.slow
@pytest.mark.parametrize("fidelity", ["await", "fifo"])
def test_deposits_under_a_lock_are_proven(fidelity: str) -> None:
    """The safe twin: all states of more users than have orders that can be run."""
    users = {"await": 20, "fifo": 7}[fidelity]

    report = prove(deposit_locked, users, fidelity)

    assert report.conclusion is Conclusion.PROVEN, report.text()
    assert report.claim.startswith(
        f"Nothing goes wrong in any state of {users} identical users ("
    )
    assert "as by enumeration for 2 and 3 users" in report.claim
    assert report.notes == ()


@pytest.mark.power
@pytest.mark.parametrize("fidelity", ["await", "fifo"])
@pytest.mark.parametrize("user", [deposit_unlocked, deposit_on_stack])
def test_deposits_without_a_lock_are_found(user: User, fidelity: str) -> None:
    """The vulnerable twin, also when the old value is on the stack only."""
    report = prove(user, 50, fidelity)

    assert report.conclusion is Conclusion.FOUND, report.text()
    assert report.witness is not None
    assert report.witness.schedule.switches <= 3


def test_numbers_of_users_are_good_for_keys_and_text() -> None:
    """Numbers as keys, in text and compared do not tell users apart."""

    async def sign(account: Account, user: int) -> None:
        async with account.lock:
            account.names[user] = f"user-{user}"
            await asyncio.sleep(0)
            assert account.names[user] == f"user-{user}"
            del account.names[user]
            account.value += 1

    report = prove(sign, 10)

    assert report.conclusion is Conclusion.PROVEN, report.text()


async def sleep_in_group(account: Account, _: int) -> None:
    """Use a timeout, a group of tasks and sleeps."""
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0.01))
        group.create_task(asyncio.sleep(0))
    account.value += 1


async def wait_for_queue(account: Account, user: int) -> None:
    """Take turns by a queue, and by a future that one of them completes."""
    queue = account.names.setdefault("queue", asyncio.Queue(1))
    await queue.put(user)
    await asyncio.sleep(0)
    await queue.get()
    account.value += 1


async def enter_generator(account: Account, user: int) -> None:
    """Enter a context manager that is an async generator."""

    @contextlib.asynccontextmanager
    async def entered() -> AsyncIterator[None]:
        async with account.lock:
            yield

    async with entered():
        await deposit_unlocked(account, user)


async def work_in_thread(account: Account, _: int) -> None:
    """Let a job of an executor do it."""
    async with account.lock:
        account.value = await asyncio.to_thread(lambda value: value + 1, account.value)


@pytest.mark.parametrize("user", [wait_for_queue, enter_generator, work_in_thread])
def test_primitives_of_asyncio_are_read(user: User) -> None:
    """Timers, groups, queues, generators and jobs hold nothing opaque."""
    scenario = Scenario(Account, user, users=2)

    report = explore(scenario, symmetric=True, fidelity="await", seed=1, budget="60s")

    assert report.conclusion is Conclusion.PROVEN, report.text()
    assert not any("looked into" in note for note in report.notes), report.notes


@pytest.mark.parametrize(
    "compute",
    [
        pytest.param(lambda user: user % 2, id="arithmetic"),
        pytest.param(lambda user: user == 0, id="comparison-with-a-number"),
        pytest.param(lambda user: user < 3, id="order"),
        pytest.param(lambda user: [1, 2, 3][user], id="index"),
        pytest.param(lambda user: f"{user:03d}", id="width"),
        pytest.param(range, id="length"),
    ],
)
def test_computing_with_the_number_is_refused_with_its_line(
    compute: Callable[[int], object],
) -> None:
    """Who computes with the number of a user has users that are not identical."""

    async def user(account: Account, number: int) -> None:
        account.value += 1
        compute(number)
        await asyncio.sleep(0)

    report = prove(user, 3)

    assert report.conclusion is Conclusion.INCONCLUSIVE
    assert "test_symmetry.py:" in report.claim
    assert "leave symmetric=True out" in report.claim


def test_users_of_an_app_are_refused_in_words_of_their_own() -> None:
    """What a browser computes with the number is no mistake of the program."""

    async def app(_: object, __: object, send: Callable[[Any], Any]) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def visit(asgi: Asgi, user: int) -> None:
        browser = asgi.browser(user)
        await browser.post("/", body=browser.canary())

    report = explore(
        Scenario(lambda: Asgi(app, lifespan=False), visit), symmetric=True, seed=1
    )

    assert report.conclusion is Conclusion.INCONCLUSIVE
    assert report.claim.startswith("Asgi users are never identical")
    assert "leave symmetric=True out" in report.claim


def test_a_refusal_that_the_program_catches_counts_all_the_same() -> None:
    """A program that catches everything cannot hide that it computed."""

    async def user(account: Account, number: int) -> None:
        try:
            account.value += number
        except BaseException:  # noqa: BLE001  # the mistake that must not help
            account.value += 1
        await asyncio.sleep(0)

    report = explore(
        Scenario(Account, user, users=3), symmetric=True, fidelity="await", seed=1
    )

    assert report.conclusion is Conclusion.INCONCLUSIVE
    assert "the number of a user" in report.claim


async def spares_user_with_low_text(account: Account, user: int) -> None:
    """Treat users by the order of their names."""
    account.names.setdefault(str(user), len(account.names))
    await asyncio.sleep(0)
    if min(account.names) == str(user):
        await asyncio.sleep(0)
    account.value += 1


async def spares_user_in_a_crowd(account: Account, user: int) -> None:
    """The same, when more users have come than are cross-checked."""
    account.names[str(user)] = len(account.names)
    await asyncio.sleep(0)
    is_spared = len(account.names) > 4 and min(account.names) == str(user)
    await asyncio.sleep(0)
    account.value += 2 if is_spared else 1


async def writes_json(account: Account, user: int) -> None:
    """Need a number that is an int."""
    json.dumps({"user": user})
    await asyncio.sleep(0)
    account.value += 1


async def hashes_text(account: Account, user: int) -> None:
    """Shard users by what cannot be recognised."""
    shard = hash(f"user-{user}") % 7
    await asyncio.sleep(0)
    account.value += 1 + 0 * shard


@pytest.mark.parametrize(
    "user",
    [
        spares_user_with_low_text,
        spares_user_in_a_crowd,
        writes_json,
        hashes_text,
    ],
)
def test_text_that_decides_is_not_proven(user: User) -> None:
    """Labels that are drawn anew in each run show that text is more than a name."""
    report = explore(
        Scenario(Account, user, users=6), symmetric=True, fidelity="await", seed=1
    )

    assert report.conclusion is Conclusion.INCONCLUSIVE, report.text()


def test_a_counter_outside_of_the_scenario_is_noticed() -> None:
    """State that no fingerprint sees makes equal prefixes lead to different states."""
    tickets = itertools.count()

    async def user(account: Account, _: int) -> None:
        ticket = next(tickets)
        await asyncio.sleep(0)
        account.value += 1 if ticket >= 0 else 2

    report = prove(user, 4)

    assert report.conclusion is Conclusion.INCONCLUSIVE, report.text()


# Only what logging has a method to set is looked at.
HIDDEN = logging.getLogger("tests.hidden")


def test_state_hidden_from_fingerprints_is_noticed() -> None:
    """What hangs on a logger decides, which no fingerprint has: no false proof."""

    class Watched(Account):
        def __init__(self) -> None:
            super().__init__()
            vars(HIDDEN)["seen"] = 0

    async def user(account: Account, _: int) -> None:
        account.value += 1
        await asyncio.sleep(0)
        vars(HIDDEN)["seen"] = account.value
        await asyncio.sleep(0)
        account.names[vars(HIDDEN)["seen"]] = True

    report = explore(
        Scenario(Watched, user, users=4), symmetric=True, fidelity="await", seed=1
    )

    assert report.conclusion is Conclusion.INCONCLUSIVE, report.text()
    assert "not in the state" in report.claim


def test_tasks_that_users_leave_behind_are_refused_by_name() -> None:
    """Their last steps have an order that is no part of a state at fidelity await."""
    left = []

    async def user(account: Account, _: int) -> None:
        await asyncio.sleep(0)
        left.append(asyncio.create_task(asyncio.sleep(0)))
        account.value += 1

    report = prove(user, 3)

    assert report.conclusion is Conclusion.INCONCLUSIVE, report.text()
    assert "behind, whose last steps" in report.claim


def test_few_users_are_compared_with_enumeration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the sample of merges the cross-check notices hidden state."""
    monkeypatch.setattr(StateSearch, "validate", lambda _: False)

    test_state_hidden_from_fingerprints_is_noticed()


def test_numbers_that_must_be_ints_are_noticed_by_comparison() -> None:
    """A run with numbers and the same run with names end differently."""
    report = prove(writes_json, 6)

    assert report.conclusion is Conclusion.INCONCLUSIVE, report.text()
    assert "when their numbers are only names" in report.claim
    assert "TypeError" in report.claim


def test_merges_are_continued_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the cross-check the sample of merges notices hidden state."""
    monkeypatch.setattr(SymmetricSearch, "_cross_check", lambda _: None)

    test_state_hidden_from_fingerprints_is_noticed()


def test_states_with_what_cannot_be_read_are_never_merged() -> None:
    """A set has an order that nobody can see: the report names it, nothing is merged."""

    class Room(Account):
        def __init__(self) -> None:
            super().__init__()
            self.members = set[int]()

    async def user(room: Account, _: int) -> None:
        await asyncio.sleep(0)
        room.value += 1

    report = explore(
        Scenario(Room, user, users=3), symmetric=True, fidelity="await", seed=1
    )

    assert report.conclusion is Conclusion.PROVEN, report.text()
    assert "0 of 0 merges" in report.claim
    assert any("set in test_symmetry.Room" in note for note in report.notes), (
        report.notes
    )


async def _plain() -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("scenario", "options", "words"),
    [
        (_plain, {}, "Scenario"),
        (Scenario(Account, deposit_locked), {"cancel": True}, "cancel"),
        (Scenario(Account, deposit_locked), {"errors": ("OSError",)}, "errors"),
        (Scenario(Account, deposit_locked), {"fidelity": "any"}, "any"),
    ],
)
def test_what_symmetry_is_not_for_is_refused(
    scenario: Scenario[Account] | Callable[[], Coroutine[Any, Any, None]],
    options: dict[str, Any],
    words: str,
) -> None:
    """Tests that start users themselves, faults and fidelity any are refused."""
    with pytest.raises(UsageError, match=words):
        explore(scenario, symmetric=True, **options)


_LOG: contextvars.ContextVar[list[str]] = contextvars.ContextVar("_LOG", default=[])  # noqa: B039  # the mistake under test


@pytest.mark.power
def test_mutable_default_of_a_context_variable_is_state() -> None:
    """Whoever has set nothing shares one list with all others."""

    def setup() -> None:
        _LOG.get().clear()

    async def order(_: None, number: int) -> None:  # noqa: ARG001  # a user like any other
        _LOG.get().append("(")
        await asyncio.sleep(0)
        _LOG.get().append(")")

    def check(_: None) -> None:
        assert "".join(_LOG.get()) != "()(()(()))()"

    scenario = Scenario(setup, order, check, users=6)

    report = explore(scenario, fidelity="await", symmetric=True, budget="20s", seed=1)

    assert report.conclusion is Conclusion.FOUND, report.text()
