"""What a finding says beside its triple, and how sure it is."""

import ast
import asyncio
import textwrap
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from test_framework.core import AlarmRecord
from test_framework.detect.access.private import private_names
from tests.unit.detect.access.tracked import tracked

SERVICE = """
import asyncio
from contextvars import ContextVar

PAD = ContextVar("pad", default=[])


class Room:
    notices = []

    def __init__(self):
        self.history = []
        self.seats = {}
        self.count = 0
        self.lock = asyncio.Lock()

    async def say(self, text):
        self.history.append(text)
        await asyncio.sleep(0)
        return list(self.history)

    async def notify(self, text):
        self.notices.append(text)
        await asyncio.sleep(0)
        return list(self.notices)

    async def sit(self, user):
        seats = self.seats.get("row", 0)
        await asyncio.sleep(0)
        self.seats["row"] = seats + 1

    async def enter(self):
        count = self.count
        await asyncio.sleep(0)
        self.count = count + 1

    async def enter_in_two_steps(self):
        count = self.count
        async with self.lock:
            await asyncio.sleep(0)
            self.count = count + 1

    async def start(self):
        self.history.append("first")
        if len(self.history) == 1:
            await asyncio.sleep(0)
            self.history.append("started")

    async def name(self, user):
        self.seats.setdefault("host", user)
        await asyncio.sleep(0)
        return self.seats

    async def name_for_all(self, user):
        self.seats.setdefault("host", "nobody")
        await asyncio.sleep(0)
        return self.seats

    def enter_in_a_thread(self):
        self.count += 1


class Pad:
    async def note(self, text):
        pad = PAD.get()
        pad.append(text)
        await asyncio.sleep(0)
        return list(pad)


def open_room():
    return Room()
"""
Visit = Callable[[Any, int], Coroutine[Any, Any, object]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the module ``rooms``."""
    (tmp_path / "rooms.py").write_text(SERVICE)
    return tmp_path


def told_of(
    folder: Path, visit: Visit, *, make: str = "open_room", at_once: bool = True
) -> list[AlarmRecord]:
    """Let three users visit one room, and return the alarms."""

    async def all_users(module: ModuleType) -> None:
        shared = getattr(module, make)()
        if at_once:
            await asyncio.gather(*(visit(shared, user) for user in range(3)))
        else:
            for user in range(3):
                await asyncio.create_task(visit(shared, user))

    with tracked("rooms", folder=folder) as (tracker, (module,)):
        asyncio.run(all_users(module))
        return tracker.alarms()


def test_history_of_a_room_is_no_error(folder: Path) -> None:
    """All may read what all have said, so it is only asked whether that is meant."""
    alarms = told_of(folder, lambda room, user: room.say(f"of {user}"))

    assert [(alarm.rule, alarm.level) for alarm in alarms] == [
        ("shared-contents-mixed", "warning")
    ]
    assert "nothing is wrong here" in alarms[0].fix


def test_list_in_the_class_of_a_shared_object_is_no_error(folder: Path) -> None:
    """Users who share the object know that they share what it has."""
    alarms = told_of(folder, lambda room, user: room.notify(f"of {user}"))

    assert [(alarm.rule, alarm.level) for alarm in alarms] == [
        ("shared-contents-mixed", "warning")
    ]


def test_value_that_another_put_first_is_no_error(folder: Path) -> None:
    """Whoever comes first may be meant to win, so it is only asked."""
    alarms = told_of(folder, lambda room, user: room.name(f"user {user}"))

    assert [(alarm.rule, alarm.level) for alarm in alarms] == [
        ("shared-contents-mixed", "warning")
    ]
    assert "offered a value of its own for Room.seats[...]" in alarms[0].claim


def test_same_value_for_all_is_not_told(folder: Path) -> None:
    """What the source itself names is meant for whoever comes first."""
    assert told_of(folder, lambda room, user: room.name_for_all(user)) == []


def test_default_of_a_context_variable_is_an_error(folder: Path) -> None:
    """Whoever asks for it thinks that it is the own one, and that is said."""
    alarms = told_of(folder, lambda pad, user: pad.note(f"of {user}"), make="Pad")

    assert [(alarm.rule, alarm.level) for alarm in alarms] == [
        ("shared-contents-mixed", "error")
    ]
    assert any("default of a ContextVar" in line for line in alarms[0].evidence)


def test_line_that_made_the_object_is_told(folder: Path) -> None:
    """For an attribute it is the call of the class."""
    alarms = told_of(folder, lambda room, _: room.enter())

    line = 1 + SERVICE.splitlines().index("    return Room()")
    assert f"The Room is made at rooms.py:{line}: return Room()" in alarms[0].evidence


def test_line_that_made_the_container_is_told(folder: Path) -> None:
    """For a key it is the assignment to what holds the container."""
    alarms = told_of(folder, lambda room, user: room.sit(user))

    assert (
        "What Room.seats holds is made at rooms.py:13: self.seats = {}"
        in alarms[0].evidence
    )


def test_read_before_the_lock_is_outside_of_it(folder: Path) -> None:
    """Users who come one after the other foretell it, although all take the lock."""
    alarms = told_of(folder, lambda room, _: room.enter_in_two_steps(), at_once=False)

    assert [(alarm.rule, alarm.level) for alarm in alarms] == [
        ("shared-update-lost", "warning")
    ]


def test_who_added_knows_how_much_there_is(folder: Path) -> None:
    """The first to ask is one who has just added: that is no limit of old."""
    assert told_of(folder, lambda room, _: room.start()) == []


def test_functions_in_threads_are_said_not_to_be_watched(folder: Path) -> None:
    """A plain endpoint runs in a thread, where nobody looks on."""
    with tracked("rooms", folder=folder) as (tracker, (module,)):
        room = module.open_room()
        thread = threading.Thread(target=room.enter_in_a_thread)
        thread.start()
        thread.join(timeout=10)
        unwatched = tracker.coverage().unwatched

    assert room.count == 1
    assert [line.partition(":")[0] for line in unwatched] == ["Room.enter_in_a_thread"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a: str, b: int | None, c, d: list): ...", {"a", "b"}),
        ("def f(a: str):\n a = other()", set()),
        ("def f():\n a = f'{1}'\n for b in range(3): a = str(b)", {"a", "b"}),
        ("def f():\n a = []\n a.append(1)\n return a", {"a"}),
        ("def f():\n a = {}\n a['b'] = 1\n for c in a: print(len(a))", {"a"}),
        ("def f(self):\n a = []\n self.a = a", set()),
        ("def f():\n a = []\n g(a)", set()),
        ("def f():\n a = []\n return lambda: a", set()),
        ("def f():\n a = []\n def g(): a.append(1)\n return g", set()),
        ("def f():\n a = b = []\n return a", set()),
        ("def f(c):\n a = []\n a = c\n a.append(1)", set()),
        ("def f():\n a = []\n yield a", set()),
        ("def f():\n a = []\n return [a]", set()),
    ],
)
def test_only_what_stays_in_a_call_is_private(source: str, expected: set[str]) -> None:
    """A container that gets out by any way is watched, as is what might be one."""
    (function,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(function, ast.FunctionDef)

    assert private_names(function) == expected
