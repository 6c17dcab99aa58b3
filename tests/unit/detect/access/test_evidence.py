"""What counts as evidence that something was lost, and that looking runs no code."""

import ast
import asyncio
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

from test_framework.core import AlarmRecord
from test_framework.detect.access.flows import Flows, Guard
from test_framework.detect.access.questions import (
    ABSENT,
    UNKNOWN,
    is_same,
    still_stands,
    stored,
)
from test_framework.detect.access.reading import read_flows
from test_framework.detect.access.sites import Site
from tests.unit.detect.access.tracked import tracked


class Touchy:
    """Whoever compares it or asks for its property runs code of the service."""

    def __eq__(self, other: object) -> NoReturn:
        raise AssertionError(other)

    def __hash__(self) -> NoReturn:
        raise AssertionError

    def __bool__(self) -> NoReturn:
        raise AssertionError

    @property
    def computed(self) -> NoReturn:
        """Never asked for."""
        raise AssertionError


class Plain:
    """Keeps a value, and has another in its class."""

    of_class = 3

    def __init__(self) -> None:
        self.value = 5


class Slotted:
    """Has a slot."""

    __slots__ = ("missing", "value")

    def __init__(self) -> None:
        self.value = 5


@pytest.mark.parametrize(
    ("one", "other", "is_equal"),
    [
        (1, 1, True),
        (1, True, False),
        ("a", "b", False),
        ([1, {"a": (2,)}], [1, {"a": (2,)}], True),
        ([1, 2], [1, 3], False),
        ({"a": 1}, {"b": 1}, False),
        ({1, 2}, {2, 1}, True),
        (object(), object(), False),
    ],
)
def test_values_are_compared_as_far_as_they_are_pythons_own(
    one: object, other: object, *, is_equal: bool
) -> None:
    """Equal objects of the service are different ones: nobody asks their code."""
    assert is_same(one, other) is is_equal


def test_comparing_runs_no_code_of_the_service() -> None:
    """Neither of two objects nor of what is in containers."""
    touchy = Touchy()

    assert is_same([touchy], [touchy])
    assert not is_same([touchy], [Touchy()])
    assert not is_same({"a": touchy}, {"a": Touchy()})


@pytest.mark.parametrize(
    ("thing", "key", "held"),
    [
        (Plain(), "value", 5),
        (Plain(), "of_class", 3),
        (Plain(), "nothing", ABSENT),
        (Slotted(), "value", 5),
        (Slotted(), "missing", ABSENT),
        (Touchy(), "computed", UNKNOWN),
        ({"a": 1}, "a", 1),
        ({"a": 1}, "b", ABSENT),
        ({"a": 1}, ("hash", 7), UNKNOWN),
        ([4, 5], -1, 5),
        ([4, 5], 2, UNKNOWN),
        (sys, "maxsize", sys.maxsize),
    ],
)
def test_place_is_looked_at_without_its_code(
    thing: object, key: object, held: object
) -> None:
    """What would have to be computed is not known."""
    assert stored(thing, key) is held


limit = 10


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("used < limit", True),
        ("used + 3 > limit", True),
        ("not used", False),
        ("plain.value == 5 and used == 8", True),
        ("plain.value == 4 or unknown()", None),
        ("plain.value == 5 or unknown()", True),
        ("plain.value == 4 and unknown()", False),
        ("'b' in rows", False),
        ("rows.get('a') is None", False),
        ("rows.get('b') is None", True),
        ("rows['a'] == 1", True),
        ("rows['b']", None),
        ("len(rows) < 2", True),
        ("hasattr(plain, 'value')", True),
        ("hasattr(plain, 'other')", False),
        ("touchy", None),
        ("touchy == 1", None),
        ("touchy.computed", None),
        ("touchy is None", False),
        ("touchy in rows", None),
        ("used < 'text'", None),
        ("nowhere", None),
    ],
)
def test_question_is_asked_again_without_running_code(
    question: str, *, answer: bool | None
) -> None:
    """From the locals of the function that asked; None when it cannot be said."""
    used, rows, plain, touchy = 8, {"a": 1}, Plain(), Touchy()
    frame = sys._getframe()
    guard = Guard(
        ast.parse(question, mode="eval").body,
        __file__,
        frame.f_code.co_qualname,
        frozenset(),
    )

    assert (used, len(rows), plain.of_class, type(touchy)) == (8, 1, 3, Touchy)
    assert still_stands(guard, frame) is answer


def test_question_of_a_function_that_has_ended_is_open() -> None:
    """Its locals are gone."""
    guard = Guard(ast.Constant(value=True), __file__, "elsewhere", frozenset())

    assert still_stands(guard, sys._getframe()) is None


FLOWS = """
class Quota:
    async def spend(self):
        used = self.used
        text = f"{used}"
        if self.closed:
            return
        self._store([text])

    def _store(self, given):
        self.used = given

    def load(self):
        return self.total

    async def add(self, user):
        total = self.load()
        self.total = max(total, 1)
        self.name = user

    async def fill(self, key):
        try:
            return self.rows[key]
        except KeyError:
            self.rows[key] = 1

    async def loop(self):
        kept = 0
        for _ in range(3):
            self.kept = kept
            kept = self.kept
"""


@pytest.mark.parametrize(
    ("first", "second", "derives", "asks"),
    [
        pytest.param("4 spend", "11 _store", True, False, id="through an argument"),
        pytest.param("6 spend", "11 _store", False, True, id="question in the caller"),
        pytest.param("14 load", "18 add", True, False, id="through a result"),
        pytest.param("14 load", "19 add", False, False, id="blind write"),
        pytest.param("23 fill", "25 fill", False, True, id="missing key"),
        pytest.param("31 loop", "30 loop", True, False, id="from turn to turn"),
    ],
)
def test_flow_from_line_to_line(
    first: str, second: str, *, derives: bool, asks: bool
) -> None:
    """What is written was made from what was read, or a question about it decides."""
    flows = Flows()
    read_flows(ast.parse(FLOWS), flows, path="quota.py", module="quota")
    lines = []
    for place in (first, second):
        line, _, function = place.partition(" ")
        lines.append(Site("quota.py", int(line), f"Quota.{function}"))

    assert flows.derives(*lines) is derives
    assert bool(flows.guards(*lines)) is asks


LEDGER = """
import asyncio

class Ledger:
    def __init__(self):
        self.balance = {"a": 0}
        self.locks = {}
        self.state = "new"

    async def spend(self, lock):
        async with lock:
            old = self.balance["a"]
            await asyncio.sleep(0)
            self.balance["a"] = old + 1

    async def spend_with_lock_by_key(self):
        lock = self.locks.setdefault("a", asyncio.Lock())
        await self.spend(lock)
        if not lock.locked():
            self.locks.pop("a", None)

    async def spend_with_lock_of_its_own(self):
        await self.spend(asyncio.Lock())

    def is_open(self, state):
        return state != "closed"

    async def close(self, user):
        if self.is_open(self.state):
            await asyncio.sleep(0)
            self.state = f"closed by {user}"

rows = {}

async def number(user):
    if "last" not in rows:
        await asyncio.sleep(0)
        rows["last"] = user
"""


def alarms_of(
    folder: Path, visit: Callable[[ModuleType, Any, int], Any], *, in_turn: bool = False
) -> list[AlarmRecord]:
    """Let two users visit one ledger, at once or one after the other."""
    (folder / "svc").mkdir()
    (folder / "svc" / "__init__.py").touch()
    (folder / "svc" / "ledger.py").write_text(textwrap.dedent(LEDGER))

    async def both(module: ModuleType) -> None:
        ledger = module.Ledger()
        visits = [visit(module, ledger, user) for user in (1, 2)]
        if in_turn:
            for one in visits:
                await asyncio.create_task(one)
        else:
            await asyncio.gather(*visits)

    with tracked("svc", "svc.ledger", folder=folder) as (tracker, (module,)):
        asyncio.run(both(module))
        return tracker.alarms()


def test_lock_by_key_that_is_made_anew_is_a_common_lock(tmp_path: Path) -> None:
    """Whoever comes later makes another one at the same line: that is no warning."""
    alarms = alarms_of(
        tmp_path, lambda _, ledger, __: ledger.spend_with_lock_by_key(), in_turn=True
    )

    assert {alarm.level for alarm in alarms} <= {"note"}


def test_lock_that_each_has_for_itself_protects_nothing(tmp_path: Path) -> None:
    """It is made at one line as well, but the update was lost."""
    alarms = alarms_of(
        tmp_path, lambda _, ledger, __: ledger.spend_with_lock_of_its_own()
    )

    assert [(alarm.rule, alarm.level) for alarm in alarms] == [
        ("shared-update-lost", "error")
    ]
    assert "Ledger.balance[...]" in alarms[0].claim


def test_check_that_nobody_can_ask_again_is_a_warning(tmp_path: Path) -> None:
    """Its answer is computed by the service, so no more is said than was seen."""
    alarms = alarms_of(tmp_path, lambda _, ledger, user: ledger.close(user))

    assert [(alarm.rule, alarm.level) for alarm in alarms] == [
        ("shared-check-stale", "warning")
    ]


def test_container_of_a_module_is_named_by_it(tmp_path: Path) -> None:
    """Without the key, which may be anybody's."""
    (alarm,) = alarms_of(tmp_path, lambda module, _, user: module.number(user))

    assert alarm.level == "error"
    assert "svc.ledger.rows[...]" in alarm.claim
