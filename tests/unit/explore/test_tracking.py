"""explore(track=True): what it proves, what it will not, and what it says of that."""

import asyncio
import collections
import heapq
import json
import random
from asyncio import Future
from collections.abc import Callable, Coroutine
from heapq import heappush
from typing import Any

import anyio
import pytest

from test_framework.core import UsageError
from test_framework.explore import (
    Conclusion,
    Fidelity,
    Report,
    access,
    explore,
    external,
    invariant,
    replay,
    shared,
)
from test_framework.explore.reduction.optimal import Optimal

Main = Callable[[], Coroutine[Any, Any, None]]


class Account:
    """A balance, and a note of what was done."""

    limit = 10

    def __init__(self) -> None:
        self.balance = 0
        self.notes: list[str] = []


async def deposit(account: Account, *, lock: asyncio.Lock | None = None) -> None:
    """Add one, under a lock when there is one."""
    async with lock or asyncio.Lock():
        balance = account.balance
        await asyncio.sleep(0)
        account.balance = balance + 1


def deposits(*, are_locked: bool, users: int = 3) -> Main:
    """Return users of one account, whose deposits must all be there at the end."""

    async def main() -> None:
        account = shared(Account(), "account")
        lock = asyncio.Lock() if are_locked else None
        await asyncio.gather(*(deposit(account, lock=lock) for _ in range(users)))
        assert account.balance == users

    return main


def tracked(main: Main, **options: Any) -> Report:  # noqa: ANN401  # the options of explore
    """Explore by classes, with a budget that small scenarios never spend."""
    return explore(main, track=True, seed=1, **{"budget": 10, **options})


def of_two(use: Callable[[Any, int], Coroutine[Any, Any, None]], thing: object) -> Main:
    """Return two users of one registered thing."""

    async def main() -> None:
        one = shared(_copy(thing))
        await asyncio.gather(use(one, 0), use(one, 1))

    return main


def _copy(thing: Any) -> Any:  # noqa: ANN401  # any container
    return type(thing)() if isinstance(thing, Account) else thing.copy()


# -- verdicts ------------------------------------------------------------------------


def test_proof_counts_classes_and_names_what_was_tracked() -> None:
    """The claim says how far it goes: as far as only these are shared."""
    report = tracked(deposits(are_locked=True))

    assert report.conclusion is Conclusion.PROVEN
    assert report.classes == 6
    assert report.tracked == ("account",)
    assert report.claim == (
        "All 6 classes of orders at fidelity await were run, as far as only these are "
        "shared: account. Nothing went wrong."
    )


@pytest.mark.power
def test_lost_deposit_is_found_and_its_schedule_repeats_it() -> None:
    """The unlocked twin is found; its witness replays on a loop that tracks nothing."""
    main = deposits(are_locked=False)

    witness = tracked(main).witness

    assert witness is not None
    assert replay(main, witness.schedule).failure == witness.failure


def test_budget_that_ends_early_proves_nothing() -> None:
    """A search that was cut off says so, with or without classes."""
    report = tracked(deposits(are_locked=True, users=5), schedules=60)

    assert report.conclusion is Conclusion.SAMPLED
    assert report.classes is None


def test_invariant_that_holds_is_proven() -> None:
    """The safe sibling: what is looked at always sums up."""

    async def main() -> None:
        state = shared({"left": 1, "right": 1}, "state")

        async def move(source: str, target: str) -> None:
            await asyncio.sleep(0)
            state[source] -= 1
            state[target] += 1

        invariant(lambda: state["left"] + state["right"] == 2)
        await asyncio.gather(move("left", "right"), move("right", "left"))

    report = tracked(main)

    assert report.conclusion is Conclusion.PROVEN
    assert report.classes is not None


# -- what is not proven by classes -----------------------------------------------------


async def sleeps(account: Account) -> None:
    """Wait for time to pass."""
    await asyncio.sleep(0.1)
    account.balance += 1


async def times_out(account: Account) -> None:
    """Arm a timeout."""
    async with asyncio.timeout(1):
        await asyncio.sleep(0)
        account.balance += 1


async def appends_to_new_list(account: Account) -> None:
    """Put a list in that nobody watches, and use it."""
    account.notes = []
    await asyncio.sleep(0)
    account.notes.append("late")


async def awaits_future_of_its_own(account: Account) -> None:
    """Make a future without the loop; who completes it is not seen."""
    future: Future[None] = Future()
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await future
    account.balance += 1


async def asks_for_all(account: Account) -> None:
    """Depend on which tasks are there."""
    account.balance += len(asyncio.all_tasks())


async def uses_anyio(account: Account) -> None:
    """Use primitives that keep state of their own."""
    async with anyio.create_task_group() as group:
        group.start_soon(deposit, account)


async def reads_the_clock(account: Account) -> None:
    """Note how late it is before and after an answer."""
    account.balance = int(asyncio.get_running_loop().time())
    await external("answer")
    account.limit = int(asyncio.get_running_loop().time())


async def shares_nothing(account: Account) -> None:  # noqa: ARG001  # a user like any other
    """Touch nothing."""
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        (sleeps, "it waits for time to pass"),
        (times_out, "it waits for time to pass"),
        (reads_the_clock, "an answer may outlast what it reads of the clock"),
        (awaits_future_of_its_own, "it awaits a future that is not of the loop"),
        (asks_for_all, "it asks for all tasks"),
        (uses_anyio, "it uses anyio"),
        (appends_to_new_list, "Account holds a list that is not watched"),
    ],
)
def test_what_cannot_be_judged_falls_back_to_every_order(
    use: Callable[[Account], Coroutine[Any, Any, None]], reason: str
) -> None:
    """Then PROVEN means every order, and a note says why not by classes."""

    async def main() -> None:
        account = shared(Account())
        await asyncio.gather(use(account), use(account))

    report = tracked(main)

    assert report.conclusion is Conclusion.PROVEN
    assert report.classes is None
    assert "orders at fidelity await were run" in report.claim
    assert "classes" not in report.claim
    assert any(f"Not by classes of orders: {reason}" in note for note in report.notes)


def test_search_that_repeats_itself_is_told_and_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A defect of the reduction is INCONCLUSIVE, neither a proof nor a hang."""
    monkeypatch.setattr(Optimal, "_go_back", lambda _: True)

    report = tracked(deposits(are_locked=True))

    assert report.conclusion is Conclusion.INCONCLUSIVE
    assert "run twice" in report.claim


def test_proof_by_classes_says_that_sets_went_one_way() -> None:
    """Classes are run with the sets of asyncio in order of insertion alone."""

    async def main() -> None:
        account = shared(Account())
        tasks = [asyncio.create_task(deposit(account)) for _ in range(2)]
        await asyncio.wait(tasks)

    report = tracked(main)

    assert (report.conclusion, report.classes) == (Conclusion.PROVEN, 4)
    assert "in order of insertion only" in report.claim


def test_nothing_registered_is_no_proof_by_classes() -> None:
    """Without shared() every step looks independent, which must not count."""

    async def main() -> None:
        account = Account()
        await asyncio.gather(deposit(account), deposit(account))

    report = tracked(main)

    assert report.classes is None
    assert any("nothing was registered" in note for note in report.notes)


def test_faults_are_enumerated_in_every_order() -> None:
    """Classes leave open where tasks wait, so faults need all orders."""
    report = tracked(deposits(are_locked=False, users=2), cancel="none*")

    assert report.conclusion is Conclusion.FOUND

    async def main() -> None:
        account = shared(Account())
        await asyncio.gather(shares_nothing(account), shares_nothing(account))

    report = tracked(main, cancel=True)

    assert report.conclusion is Conclusion.PROVEN
    assert "faults" in report.claim
    assert "classes" not in report.claim


@pytest.mark.parametrize(
    "options", [{"fidelity": "fifo"}, {"fidelity": Fidelity.ANY}, {"io": "gate"}]
)
def test_other_fidelities_are_refused(options: dict[str, Any]) -> None:
    """Turns of a queue have an order that no access shows."""
    with pytest.raises(UsageError, match="Leave both out"):
        explore(deposits(are_locked=True), track=True, **options)


# -- what is watched --------------------------------------------------------------------


async def reads(thing: Any, user: int) -> None:  # noqa: ANN401, ARG001  # any container
    """Only look, in two steps."""
    len(thing)
    await asyncio.sleep(0)
    list(thing)


async def puts_own_key(thing: Any, user: int) -> None:  # noqa: ANN401  # any container
    """Set what is there already, each its own."""
    thing[user] = "new"


async def puts_same_key(thing: Any, user: int) -> None:  # noqa: ANN401  # any container
    """Set the same."""
    thing[0] = user


async def puts_and_counts(thing: Any, user: int) -> None:  # noqa: ANN401  # any container
    """Add a key of one's own and count them all."""
    thing[f"user {user}"] = 1
    len(thing)


async def appends(thing: Any, user: int) -> None:  # noqa: ANN401  # any container
    """Add at the end."""
    thing.append(user)


async def pushes(thing: Any, user: int) -> None:  # noqa: ANN401  # any container
    """Let C add to a heap, by the name that this module has for it."""
    heappush(thing, user)


async def pops(thing: Any, user: int) -> None:  # noqa: ANN401  # any container
    """Let C take from a heap what another user may add, by the name of heapq."""
    if user == 0:
        heapq.heappop(thing)
    else:
        heapq.heappush(thing, -1)


async def replaces_in_a_list_of_its_own(thing: Any, user: int) -> None:  # noqa: ANN401  # any container
    """Let C change a heap that nobody shares, and one number that all share."""
    heap = [user]
    heapq.heapreplace(heap, len(thing))
    await asyncio.sleep(0)


async def encodes(thing: Any, user: int) -> None:  # noqa: ANN401  # any container
    """Let C make text of what the other user adds to."""
    if user == 0:
        json.dumps([thing])
    else:
        thing.append(user)


async def adds_own(thing: Any, user: int) -> None:  # noqa: ANN401  # any container
    """Add an item of one's own."""
    thing.add(user)


async def asks_and_adds(thing: Any, user: int) -> None:  # noqa: ANN401  # any container
    """Add an item unless it is there."""
    if 7 not in thing:
        await asyncio.sleep(0)
        thing.add(7)
    thing.discard(user)


async def loops(thing: Any, user: int) -> None:  # noqa: ANN401  # any container
    """Change what the other one loops over."""
    if user == 0:
        for _ in thing.values():
            await asyncio.sleep(0)
    else:
        thing[0] = "new"


async def uses_own_attribute(thing: Any, user: int) -> None:  # noqa: ANN401  # an Account
    """Set one attribute each."""
    setattr(thing, ("balance", "limit")[user], 1)


async def notes(thing: Any, user: int) -> None:  # noqa: ANN401  # an Account
    """Add to a list that was there when the account was registered."""
    thing.notes.append(str(user))


async def updates_dict(thing: Any, user: int) -> None:  # noqa: ANN401  # an Account
    """Go around the attributes."""
    vars(thing).update(balance=user)


async def reads_default(thing: Any, user: int) -> None:  # noqa: ANN401  # an Account
    """Read a default of the class that the other one hides."""
    if user == 0:
        thing.limit += 1
    else:
        await asyncio.sleep(thing.limit * 0)


@pytest.mark.parametrize(
    ("use", "thing", "classes"),
    [
        (reads, {0: "old"}, 1),
        (reads, [0], 1),
        (puts_own_key, {0: "old", 1: "old"}, 1),
        (puts_own_key, {}, 2),  # the order of the keys
        (puts_same_key, {0: "old"}, 2),
        (puts_and_counts, {}, 2),
        (loops, {0: "old"}, 3),
        (appends, [], 2),
        (appends, collections.deque(), 2),
        (pushes, [5], 2),
        (pops, [5], 2),
        (replaces_in_a_list_of_its_own, [5], 1),
        (encodes, [5], 2),
        (adds_own, {5}, 2),  # the order of the items
        (asks_and_adds, set(), 4),
        (uses_own_attribute, Account(), 1),
        (notes, Account(), 2),
        (updates_dict, Account(), 2),
        (reads_default, Account(), 2),
    ],
)
def test_uses_conflict_where_one_changes_what_the_other_sees(
    use: Callable[[Any, int], Coroutine[Any, Any, None]], thing: object, classes: int
) -> None:
    """Two users of one thing have as many classes as orders that differ in effect."""
    report = tracked(of_two(use, thing))

    assert (report.conclusion, report.classes) == (Conclusion.PROVEN, classes)


@pytest.mark.parametrize(
    ("first", "second", "classes"),
    [
        (("cart:7", True), ("cart:7", True), 2),
        (("cart:7", True), ("cart:7", False), 2),
        (("cart:7", False), ("cart:7", False), 1),
        (("cart:7", True), ("cart:8", True), 1),
    ],
)
def test_reported_accesses_conflict_by_key(
    first: tuple[str, bool], second: tuple[str, bool], classes: int
) -> None:
    """Drivers report keys and rows; equal keys are the same thing."""

    async def use(key: str, *, write: bool) -> None:
        access(key, write=write)

    async def main() -> None:
        await asyncio.gather(
            use(first[0], write=first[1]), use(second[0], write=second[1])
        )

    report = tracked(main)

    assert (report.conclusion, report.classes) == (Conclusion.PROVEN, classes)
    assert set(report.tracked) == {first[0], second[0]}


def test_outside_answers_come_in_every_order_that_matters() -> None:
    """An answer from outside is a step of its own."""

    async def main() -> None:
        log = shared([])

        async def ask(user: int) -> None:
            await external("answer")
            log.append(user)

        await asyncio.gather(ask(0), ask(1))

    report = tracked(main)

    assert (report.conclusion, report.classes) == (Conclusion.PROVEN, 2)


async def test_shared_and_access_do_nothing_outside_of_a_tracked_run() -> None:
    """The program that is tested may keep them."""
    account, notes = Account(), ["old"]

    assert shared(account) is account
    assert type(account) is Account
    assert shared(notes) is notes
    access("key", write=True)


@pytest.mark.parametrize("thing", [3, "text", (1, 2), random.Random(1), Exception()])
def test_what_cannot_be_watched_is_refused(thing: object) -> None:
    """State that no attribute shows would be missed in silence."""
    with pytest.raises(UsageError, match="cannot be watched"):
        shared(thing)


def test_watched_instance_is_what_it_was() -> None:
    """Checks of the program see the class they know."""

    async def main() -> None:
        account = shared(Account())
        assert isinstance(account, Account)
        assert account.__class__ is Account
        assert type(account).__name__ == "Account"
        assert shared(account) is account
        await asyncio.gather(deposit(account), deposit(account))

    assert tracked(main).classes == 4
