"""Fingerprints: states that differ in one thing differ, states that do not are equal."""

import asyncio
import collections
import contextvars
import enum
import functools
import itertools
import logging
import os
import random
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from test_framework.explore import Fidelity, Scenario
from test_framework.explore.decisions import Choose
from test_framework.explore.endings import CutError
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.symmetry.crowd import Crowd, CrowdLoop
from test_framework.explore.symmetry.fingerprint import Fingerprinter, State
from test_framework.explore.symmetry.graph import reads_stacks

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="only CPython 3.11 shows evaluation stacks"
)

User = Callable[[Any, Any], Coroutine[Any, Any, object]]

PLACE = contextvars.ContextVar("PLACE", default="")
COUNTER = 0
CACHE: dict[str, int] = {}


class Lab:
    """Takes the fingerprints of scenarios that it runs up to a point.

    States are comparable when one laboratory took them.
    """

    def __init__(self, fidelity: Fidelity = Fidelity.AWAIT) -> None:
        self.loop = CrowdLoop(fidelity)
        self._crowd: Crowd | None = None
        self._prints: Fingerprinter | None = None

    @property
    def opaque(self) -> dict[str, int]:
        """What could not be read."""
        return {} if self._prints is None else self._prints.opaque

    def state(
        self,
        user: User,
        *,
        setup: Callable[[], Any] = dict,
        users: int = 2,
        order: tuple[int, ...] = (),
    ) -> State:
        """Return the state after some steps.

        Args:
            user: What each user does.
            setup: Makes the state.
            users: How many.
            order: Position of the user that makes the next step, step for step.
        """
        scenario = Scenario(setup, user, users=users)
        if self._crowd is None or self._prints is None:
            self._crowd = Crowd(scenario, users, self.loop, random.Random(1))
            self._prints = Fingerprinter(self._crowd)
        crowd, prints = self._crowd, self._prints
        crowd.scenario, crowd.count = scenario, users
        taken: list[State] = []
        left = list(order)

        def begin(_: ExplorationLoop) -> Choose:
            def choose(options: list[int]) -> int:
                if left:
                    return options.index(crowd.loop.users[left.pop(0)])
                state = prints.take(options)
                assert state is not None
                taken.append(state)
                raise CutError

            return choose

        with pytest.raises(CutError):
            self.loop.run(crowd.main(), begin)
        return taken[0]


def test_stacks_of_this_python_can_be_read() -> None:
    """What fingerprints rest on: the collector shows evaluation stacks."""
    assert reads_stacks()


# -- one thing differs ------------------------------------------------------------------


@dataclass
class Box:
    """An object with a dict."""

    value: object = None


class Slots:
    """An object without one."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class Numbers(list[int]):
    """A list with an attribute."""

    unit = ""


def _linked(*, same: bool) -> list[Box]:
    first, second = Box(), Box()
    return [first, first if same else second]


def _advanced(steps: int) -> Iterator[int]:
    iterator = iter([1, 2, 3])
    for _ in range(steps):
        next(iterator)
    return iterator


def _closure(value: int) -> Callable[[], int]:
    return lambda: value


def _default(value: list[int]) -> Callable[..., object]:
    def function(values: list[int] = value) -> list[int]:
        return values

    return function


def _attribute(value: int) -> Callable[[], None]:
    def function() -> None:
        pass

    vars(function)["calls"] = value
    return function


def _numbers(unit: str) -> Numbers:
    numbers = Numbers([1])
    numbers.unit = unit
    return numbers


def _moved(*, end: bool) -> collections.OrderedDict[str, int]:
    ordered = collections.OrderedDict(a=1, b=2)
    ordered.move_to_end("a", last=end)
    return ordered


def _chained(*, cause: bool) -> Exception:
    error = ValueError(1)
    error.__cause__ = KeyError() if cause else None
    return error


def _seeded(seed: int) -> random.Random:
    return random.Random(seed)


def _generator(steps: int) -> Iterator[int]:
    def generate() -> Iterator[int]:
        yield 1
        yield 2
        yield 3

    generator = generate()
    for _ in range(steps):
        next(generator)
    return generator


PAIRS: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "number": (lambda: 1, lambda: 2),
    "int and bool": (lambda: 1, lambda: True),
    "int and float": (lambda: 1, lambda: 1.0),
    "signs of zero": (lambda: 0.0, lambda: -0.0),
    "minus one and two": (lambda: -1, lambda: -2),
    "text and bytes": (lambda: "a", lambda: b"a"),
    "text": (lambda: "a", lambda: "b"),
    "list": (lambda: [1], lambda: [2]),
    "list and tuple": (lambda: [1], lambda: (1,)),
    "nesting": (lambda: [[1], 2], lambda: [[1, 2]]),
    "order of a list": (lambda: [1, 2], lambda: [2, 1]),
    "order of a dict": (lambda: {"a": 1, "b": 2}, lambda: {"b": 2, "a": 1}),
    "order of an ordered dict": (lambda: _moved(end=True), lambda: _moved(end=False)),
    "kind of dict": (dict, collections.OrderedDict),
    "default of a dict": (
        lambda: collections.defaultdict(list),
        lambda: collections.defaultdict(dict),
    ),
    "deque": (lambda: collections.deque([1, 2]), lambda: collections.deque([2, 1])),
    "length of a deque": (
        lambda: collections.deque([1], 1),
        lambda: collections.deque([1], 2),
    ),
    "attribute": (lambda: Box(1), lambda: Box(2)),
    "slot": (lambda: Slots(1), lambda: Slots(2)),
    "class": (lambda: Box(1), lambda: Slots(1)),
    "attribute of a list": (lambda: _numbers("s"), lambda: _numbers("m")),
    "identity": (lambda: _linked(same=True), lambda: _linked(same=False)),
    "closure": (lambda: _closure(1), lambda: _closure(2)),
    "default argument": (lambda: _default([1]), lambda: _default([2])),
    "attribute of a function": (lambda: _attribute(1), lambda: _attribute(2)),
    "position of an iterator": (lambda: _advanced(1), lambda: _advanced(2)),
    "count": (lambda: itertools.count(1), lambda: itertools.count(2)),
    "position of a generator": (lambda: _generator(1), lambda: _generator(2)),
    "bound method": (lambda: Box([1]).__eq__, lambda: Box([2]).__eq__),
    "exception": (lambda: ValueError(1), lambda: ValueError(2)),
    "cause of an exception": (
        lambda: _chained(cause=True),
        lambda: _chained(cause=False),
    ),
    "generator of random numbers": (lambda: _seeded(1), lambda: _seeded(2)),
    "lock": (asyncio.Lock, asyncio.Event),
    "event": (asyncio.Event, lambda: _set(asyncio.Event())),
    "semaphore": (lambda: asyncio.Semaphore(1), lambda: asyncio.Semaphore(2)),
    "queue": (asyncio.Queue, lambda: asyncio.Queue(1)),
    "future": (
        lambda: asyncio.get_running_loop().create_future(),
        lambda: _done(asyncio.get_running_loop().create_future()),
    ),
}


def _set(event: asyncio.Event) -> asyncio.Event:
    event.set()
    return event


def _done(future: "asyncio.Future[int]") -> "asyncio.Future[int]":
    future.set_result(1)
    return future


async def sleep_with_state(state: object, _: object) -> None:
    """Do nothing to a state."""
    await asyncio.sleep(0)
    assert state is not None


@pytest.mark.parametrize("name", PAIRS)
def test_states_that_differ_in_one_value_differ(name: str) -> None:
    """Each kind of value that a future may depend on is in the fingerprint."""
    make_one, make_other = PAIRS[name]
    lab = Lab()

    one = lab.state(sleep_with_state, setup=lambda: [make_one()])
    again = lab.state(sleep_with_state, setup=lambda: [make_one()])
    other = lab.state(sleep_with_state, setup=lambda: [make_other()])

    assert not lab.opaque
    assert one.digest == again.digest
    assert one.digest != other.digest


class Service:
    """A class with state of its own."""

    requests = 0
    names: list[str] = []  # noqa: RUF012  # the mistake that must be seen


class Plan(enum.Enum):
    """Members with state of their own."""

    FREE = 1
    PAID = 2

    def __init__(self, _: int) -> None:
        self.sold = 0


LOGGER = logging.getLogger("isolation-audit.fingerprint")


def _set_counter(value: int) -> None:
    global COUNTER  # noqa: PLW0603  # the mistake that must be seen
    COUNTER = value


async def uses_statics(_: object, __: object) -> None:
    """Name the state of a module and of a class."""
    await asyncio.sleep(0)
    assert COUNTER + len(CACHE) + Service.requests + len(Service.names) >= 0
    assert LOGGER.level + Plan.FREE.sold + len(os.environ) >= 0


STATICS: dict[str, Callable[[Any], object]] = {
    "attribute of a member of an enum": lambda patch: patch.setattr(
        Plan.PAID, "sold", 1
    ),
    "new attribute of a member": lambda patch: patch.setattr(
        Plan.PAID, "owner", "alice", raising=False
    ),
    "level of a logger": lambda patch: patch.setattr(LOGGER, "level", 10),
    "environment": lambda patch: patch.setenv("ISOLATION_AUDIT_PLAN", "paid"),
    "global that is rebound": lambda _: _set_counter(1),
    "global object": lambda patch: patch.setitem(CACHE, "a", 1),
    "class attribute that is rebound": lambda patch: patch.setattr(
        Service, "requests", 1
    ),
    "class attribute": lambda patch: patch.setattr(Service, "names", ["a"]),
    "new class attribute": lambda patch: patch.setattr(
        Service, "late", 1, raising=False
    ),
}


@pytest.mark.parametrize("name", STATICS)
def test_state_of_modules_and_classes_is_seen(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What code names by a global or a class is part of the state."""
    monkeypatch.setitem(globals(), "COUNTER", 0)
    lab = Lab()
    before = lab.state(uses_statics)
    again = lab.state(uses_statics)
    STATICS[name](monkeypatch)

    after = lab.state(uses_statics)

    assert before.digest == again.digest != after.digest


# Each user reads state["value"] in another way before it waits.


async def in_local(state: dict[str, Any], _: object) -> None:
    """Hold it in a local."""
    value = state.pop("value", 0)
    await asyncio.sleep(0)
    state["sum"] = value


async def on_stack(state: dict[str, Any], _: object) -> None:
    """Hold it on the evaluation stack."""
    state["sum"] = state.pop("value", 0) + (await asyncio.sleep(0, 1))


async def in_loop(state: dict[str, Any], _: object) -> None:
    """Hold it in the iterator of a loop, which is on the stack."""
    for _number in range(state.pop("value", 0), 9):
        await asyncio.sleep(0)


async def in_block(state: dict[str, Any], _: object) -> None:
    """Hold it in what a block calls at its end, which is on the stack."""
    async with Guard(state.pop("value", 0)):
        await asyncio.sleep(0)


async def in_handler(state: dict[str, Any], _: object) -> None:
    """Hold it in the exception that is being handled."""
    try:
        int(f"x{state.pop('value', 0)}")
    except ValueError:
        await asyncio.sleep(0)


async def in_callee(state: dict[str, Any], _: object) -> None:
    """Hold it in a local of a coroutine that is awaited."""
    await in_local(state, _)


async def in_context(state: dict[str, Any], _: object) -> None:
    """Hold it in a context variable."""
    PLACE.set(str(state.pop("value", 0)))
    await asyncio.sleep(0)
    state["place"] = PLACE.get()


async def in_unbound_local(state: dict[str, Any], _: object) -> None:
    """Have one local or another."""
    if state.pop("value", 0) == 1:
        first = 5
    else:
        second = 5
    await asyncio.sleep(0)
    try:
        state["first"] = first  # type: ignore[possibly-undefined]  # on purpose
    except UnboundLocalError:
        state["second"] = second  # type: ignore[possibly-undefined]  # on purpose


async def in_cell(state: dict[str, Any], _: object) -> None:
    """Hold it in a variable of a closure."""
    value = state.pop("value", 0)

    def read() -> int:
        return int(value)

    await asyncio.sleep(0)
    state["sum"] = read()


async def in_child(state: dict[str, Any], _: object) -> None:
    """Hold it in the argument of a task that has not begun."""
    await asyncio.create_task(asyncio.sleep(0, state.pop("value", 0)))


async def in_generator(state: dict[str, Any], _: object) -> None:
    """Hold it in an async generator that is suspended between two values."""

    async def generate() -> AsyncIterator[int]:
        value = state.pop("value", 0)
        yield 0
        yield value

    generator = generate()
    await anext(generator)
    await asyncio.sleep(0)
    state["sum"] = await anext(generator)


async def in_task(state: dict[str, Any], _: object) -> None:
    """Hold it in an attribute of the task."""
    task: Any = asyncio.current_task()
    task.value = state.pop("value", 0)
    await asyncio.sleep(0)


class Guard:
    """An async context manager with a value."""

    def __init__(self, value: int) -> None:
        self.value = value

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass


HOLDERS: list[User] = [
    *(in_local, on_stack, in_loop, in_block, in_handler, in_callee),
    *(in_context, in_unbound_local, in_cell, in_child, in_task, in_generator),
]


@pytest.mark.parametrize("user", HOLDERS)
def test_what_a_suspended_user_holds_is_seen(user: User) -> None:
    """Nothing but the held value differs: it is taken out of the state first."""
    lab = Lab()

    def run(value: int) -> State:
        return lab.state(user, setup=lambda: {"value": value}, order=(0,))

    one, again, other = run(1), run(1), run(2)

    assert one.is_readable
    assert one.digest == again.digest
    assert one.digest != other.digest


def test_an_answer_that_nobody_waits_for_is_seen() -> None:
    """What may still arrive is part of the state, wherever it leads."""

    async def user(state: list[int], _: object) -> None:
        loop: Any = asyncio.get_running_loop()
        for _event in range(state.pop() if state else 0):
            loop.external_event("ping")
        await asyncio.sleep(0)

    lab = Lab()
    one, again, two = (
        lab.state(user, setup=functools.partial(list, [count]), order=(0,))
        for count in (1, 1, 2)
    )

    assert one.digest == again.digest != two.digest


# -- nothing differs ---------------------------------------------------------------------


async def signs(state: dict[Any, Any], user: object) -> None:
    """Put the number of the user everywhere."""
    state[user] = f"user-{user}"
    name = f"{user}@example.com"
    await asyncio.sleep(0)
    state[name] = int(str(user))
    await asyncio.sleep(0)


def test_users_who_changed_places_are_equal() -> None:
    """Names of users, also within text and as a number, are renamed."""
    lab = Lab()
    digests = {
        lab.state(signs, users=3, order=order).digest
        for order in itertools.permutations((0, 1, 2), 2)
    }
    twice = lab.state(signs, users=3, order=(0, 0))

    assert len(digests) == 1
    assert twice.digest not in digests


async def queues_up(state: dict[str, Any], user: object) -> None:
    """Wait for a lock, in an order that is part of the state."""
    lock = state.setdefault("lock", asyncio.Lock())
    async with lock:
        await asyncio.sleep(0)
        state["last"] = user
        await asyncio.sleep(0)


def test_who_waits_first_is_seen() -> None:
    """Two that wait in line after the same history are told apart by their turn."""

    async def user(state: dict[str, Any], number: object) -> None:
        lock = state.setdefault("lock", asyncio.Lock())
        known = state.setdefault("known", [])
        known.append(number)
        if len(known) > 1:
            # The first two meet once more before they queue up in either order.
            await asyncio.sleep(0)
        async with lock:
            await asyncio.sleep(0)

    lab = Lab()
    one = lab.state(user, users=4, order=(0, 1, 2, 1, 2))
    other = lab.state(user, users=4, order=(0, 1, 2, 2, 1))
    renamed = lab.state(user, users=4, order=(0, 2, 1, 2, 1))

    assert one.digest != other.digest
    assert one.digest == renamed.digest


def test_options_of_users_in_one_condition_are_one() -> None:
    """Users that could swap places have one key; a queue tells them apart."""
    lab = Lab()
    fresh = lab.state(queues_up, users=4)
    started = lab.state(queues_up, users=4, order=(0,))

    assert len(set(fresh.keys)) == 1
    assert len(set(started.keys)) == 2


def test_users_who_share_what_others_lack_do_not_count_as_equal() -> None:
    """Swapping one of a pair is no symmetry, though each of them looks like the third."""

    async def user(state: dict[str, Any], _: object) -> None:
        box = state.pop("box", None)
        if box is None:
            box = Box()
            if not state.pop("is_first", False):
                state["box"] = box
        await asyncio.sleep(0)
        box.value = 1

    lab = Lab()
    pair = lab.state(user, setup=lambda: {"is_first": True}, users=3, order=(0, 1, 2))

    assert len(set(pair.keys)) == 3


# -- opaque ------------------------------------------------------------------------------


OPAQUE: dict[str, Callable[[], object]] = {
    "set": lambda: {1},
    "lock of a thread": threading.Lock,
    "iterator of a dict": lambda: iter({"a": 1}),
    "weak reference": lambda: weakref.ref(Box),
    "memory view": lambda: memoryview(b"a"),
}


def test_a_program_keeps_its_own_copy_of_its_locals() -> None:
    """What locals() returned is not touched, and its frame counts as opaque."""
    kept: list[dict[str, Any]] = []

    async def user(_: object, __: object) -> None:
        value = 1
        kept.append(locals())
        await asyncio.sleep(0)
        assert value

    lab = Lab()
    state = lab.state(user, order=(0,))

    assert kept[0]["value"] == 1
    assert not state.is_readable


@pytest.mark.parametrize("name", OPAQUE)
def test_what_cannot_be_read_equals_nothing(name: str) -> None:
    """Two states with something opaque are never equal, and the reason is kept."""
    lab = Lab()

    one = lab.state(sleep_with_state, setup=lambda: [OPAQUE[name]()])
    again = lab.state(sleep_with_state, setup=lambda: [OPAQUE[name]()])

    assert not one.is_readable
    assert one.digest != again.digest
