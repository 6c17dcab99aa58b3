"""What outlives its user is found where it is held; what does not is left alone."""

import asyncio
import contextlib
import gc
import logging
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from test_framework.canary import Mint, users_named
from test_framework.core import AlarmRecord, UsageError
from test_framework.detect import make_detector, operation_scope
from test_framework.detect.leaks import Leaks
from test_framework.detect.roots import declare_root, declared_roots
from tests.unit.detect import leaking_program as program

NAME = program.__name__
ALICE, BOB = (Mint(8842).mint(user, 3) for user in (7, 31))


@pytest.fixture(autouse=True)
def _clean_program() -> Iterator[None]:
    program.reset()
    yield
    program.reset()


def look(**options: Any) -> list[AlarmRecord]:  # noqa: ANN401  # those of Leaks
    """Return the alarms of the program."""
    options.setdefault("packages", [NAME])
    return Leaks(recognise=users_named, **options).alarms()


def line_of(text: str) -> str:
    """Return the site of the first line of the program that begins with a text."""
    with open(program.__file__, encoding="utf-8") as file:  # noqa: PTH123  # read once
        for number, line in enumerate(file, 1):
            if line.strip().startswith(text):
                return f"tests/unit/detect/leaking_program.py:{number}"
    raise AssertionError(text)


VULNERABLE: list[tuple[Callable[[str], object], str, str]] = [
    (
        lambda v: program.MODULE_TABLE.update(note=v),
        ".MODULE_TABLE['note']",
        "MODULE_T",
    ),
    (
        lambda v: program.MODULE_TABLE.update({v: ""}),
        ".MODULE_TABLE[key]",
        "MODULE_TABL",
    ),
    (program.MODULE_LIST.append, ".MODULE_LIST[...]", "MODULE_LIST"),
    (program.keep_last, ".LAST_VALUE", "LAST_VALUE"),
    (lambda v: program.keep_last(v.encode()), ".LAST_VALUE", "LAST_VALUE"),
    (program.write_log, ".LOG.getvalue()", "LOG"),
    (program.enqueue, ".QUEUE._queue[...]", "QUEUE"),
    (program.fail, ".FAILED.<inside>[...]", "FAILED"),
    (program.bind, ".BOUND.__self__.text", "self.text"),
    (lambda v: setattr(program.SLOTTED, "kept", v), ".SLOTTED.kept", "kept:"),
    (lambda v: setattr(program.SERVICE, "last", v), ".SERVICE.last", "self.last"),
    (program.Service.shared.append, ".Service.shared[...]", "shared:"),
    (program.greet, ".greet.<lru_cache>", "def greet"),
    (program.collect, ".collect.__defaults__[...][...]", "def collect"),
    (program.count_callers, ".count_callers.<closure seen>[...]", "def count"),
]


@pytest.mark.power
@pytest.mark.parametrize(("leave", "path", "line"), VULNERABLE)
def test_data_of_a_departed_user_is_found_with_its_holder(
    leave: Callable[[str], object], path: str, line: str
) -> None:
    """Each place that keeps a value is named, as a path and as a line.

    What is found by a key may be a cache, and is a warning.
    """
    leave(ALICE)

    alarms = look()

    assert [alarm.rule for alarm in alarms] == ["residue-of-departed"]
    assert alarms[0].claim.startswith(f"{NAME}{path} still holds")
    assert alarms[0].users == (7,)
    is_keyed = path.endswith(("[key]", "<lru_cache>"))
    assert alarms[0].level == ("warning" if is_keyed else "error")
    assert alarms[0].site == line_of(line)


def test_the_line_is_that_of_the_holder_and_not_of_what_it_holds() -> None:
    """Where the class of an entry sets its text says nothing about who keeps it."""
    program.SERVICE.contexts.append(program.Context(ALICE))

    (alarm,) = look()

    assert alarm.claim.startswith(f"{NAME}.SERVICE.contexts[...].text still holds")
    assert alarm.site == line_of("self.contexts")


def refuse(*_: object) -> None:
    """Answer no question."""
    raise RuntimeError("nobody asks me")


METHODS = [
    "len",
    "iter",
    "eq",
    "hash",
    "getattr",
    "bool",
    "repr",
    "contains",
    "getitem",
]
HOSTILE: Any = type(
    "Hostile",
    (dict,),
    dict.fromkeys([f"__{name}__" for name in METHODS], refuse)
    | dict.fromkeys(["keys", "values", "items"], refuse)
    | dict.fromkeys(["__class__", "__dict__", "maxsize"], property(refuse)),
)
"""A dict with code of its own wherever one could ask it something."""


def test_the_walk_asks_objects_nothing() -> None:
    """Proxies and objects with code in every method are passed through unharmed."""
    hostile = HOSTILE()
    for number in range(50):
        dict.__setitem__(hostile, number, HOSTILE())
    dict.__setitem__(hostile, "note", ALICE)
    program.SERVICE.last = hostile

    alarms = look()

    program.SERVICE.last = ""
    assert [alarm.users for alarm in alarms if alarm.users] == [(7,)]


@pytest.mark.parametrize(
    ("table", "level"),
    [({"id-1": ALICE}, "warning"), ([{"id-1": ALICE}], "error"), (ALICE, "error")],
    ids=["by key", "in a list", "for all"],
)
def test_what_may_be_a_cache_is_a_warning(table: Any, level: str) -> None:  # noqa: ANN401  # anything may be held
    """What everybody would find is an error; what is found by a key could be sound."""
    program.SERVICE.last = table

    assert [alarm.level for alarm in look()] == [level]


def test_what_is_forgotten_raises_no_alarm() -> None:
    """Locals, weak references and values that were replaced are no residue."""
    program.tidy(ALICE)
    program.keep_last(ALICE)
    program.keep_last("")

    assert look() == []


def test_one_container_is_one_alarm_with_all_users() -> None:
    """Thirty entries of two users in one list have one cause."""
    program.MODULE_LIST.extend(
        f"{value} {n}" for n in range(15) for value in (ALICE, BOB)
    )

    alarms = look()

    assert [(alarm.users, alarm.count) for alarm in alarms] == [((7, 31), 30)]


def test_two_containers_are_two_alarms() -> None:
    """What two places hold has two causes."""
    program.MODULE_LIST.append(ALICE)
    program.SERVICE.last = BOB

    assert [alarm.users for alarm in look()] == [(7,), (31,)]


def test_every_holder_of_one_thing_is_told() -> None:
    """Four places hold the documents of two users: mending one must not show the next."""
    holder: Any = program
    for value in (ALICE, BOB):
        document = {"text": value}
        holder.MODULE_LIST.append(document)
        holder.QUEUE.put_nowait(document)
        holder.MODULE_TABLE[value[:30]] = document
        holder.SERVICE.contexts.append(lambda document=document: document)

    alarms = look()

    told = {
        alarm.claim.removeprefix(NAME).partition("[")[0]: (alarm.users, alarm.count)
        for alarm in alarms
    }
    assert told == dict.fromkeys(
        (".MODULE_LIST", ".QUEUE._queue", ".MODULE_TABLE", ".SERVICE.contexts"),
        ((7, 31), 2),
    )


def test_one_holder_under_two_names_is_told_once() -> None:
    """A list that two names refer to is one place, and what refers to itself as well."""
    holder: Any = program
    document: dict[str, object] = {"text": ALICE}
    document["self"] = [document]
    holder.MODULE_LIST.append(document)
    holder.SERVICE.last = holder.MODULE_LIST

    assert len(look()) == 1


def test_places_that_are_told_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out is counted."""
    monkeypatch.setattr("test_framework.detect.leaks.residue.MOST_PLACES", 1)
    program.MODULE_LIST.append(ALICE)
    program.SERVICE.last = BOB
    detector = Leaks(recognise=users_named, packages=[NAME])

    assert len(detector.alarms()) == 1
    assert "1 more places hold data of users" in str(detector.coverage().unwatched)


@pytest.mark.parametrize(("count", "level"), [(1, "note"), (4, "error")])
def test_a_few_files_that_stay_open_are_a_note(
    count: int, level: str, tmp_path: Path
) -> None:
    """A log that is opened once is none per user; more than the spare ones are."""
    detector = Leaks(recognise=users_named, packages=[NAME])
    detector.alarms()

    with contextlib.ExitStack() as files:
        for number in range(count):
            files.enter_context((tmp_path / str(number)).open("w"))
        alarms = detector.alarms()

    assert [(it.rule, it.level, it.count) for it in alarms] == [
        ("leaked-file", level, count)
    ]


def test_declared_caches_stay_quiet() -> None:
    """What is declared is left alone, and only that; an alarm's path can be pasted."""
    program.MODULE_TABLE["note"] = ALICE
    program.MODULE_LIST.append(BOB)

    alarms = look(allowed_residue=[f"{NAME}.MODULE_TABLE['note']"])

    assert [alarm.users for alarm in alarms] == [(31,)]


def test_cure_of_residue_names_the_table_that_takes_it() -> None:
    """Who reads it can paste the line, and knows where."""
    program.MODULE_LIST.append(BOB)

    (alarm,) = look()

    assert alarm.fix.endswith(
        "declare it under [tool.isolation-audit.detector_options.leaks]: "
        f"allowed_residue = ['{NAME}.MODULE_LIST']."
    )


@pytest.mark.parametrize(
    "path", ["app.state['seen'][...].text", "app.state['seen']", "app.state"]
)
def test_a_declared_path_may_lead_through_keys(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As alarms write them, up to what names no single object."""
    monkeypatch.setattr("test_framework.detect.roots._ROOTS", {})
    declare_root("app", types.SimpleNamespace(state={"seen": [ALICE]}))

    assert look(allowed_residue=[path]) == []


def test_a_declared_path_that_names_nothing_is_told() -> None:
    """A declaration that went out of date says so instead of hiding nothing."""
    detector = Leaks(
        recognise=users_named, packages=[NAME], allowed_residue=[f"{NAME}.GONE"]
    )

    detector.alarms()

    assert any(".GONE' names nothing" in one for one in detector.coverage().unwatched)


def test_no_path_shows_a_key_that_may_be_a_secret() -> None:
    """Keys that are no words of a program are left out, and so is the value."""
    program.MODULE_TABLE["tok3n"] = f"password of {ALICE}"

    (alarm,) = look()

    assert ALICE not in repr(alarm)
    assert "tok3n" not in repr(alarm)


def test_the_application_is_a_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only an application made by a factory holds is found below ``app``."""
    monkeypatch.setattr("test_framework.detect.roots._ROOTS", {})
    app = types.SimpleNamespace(state=types.SimpleNamespace(seen=[ALICE]))
    declare_root("app", app)

    (alarm,) = look()

    assert alarm.claim.startswith("app.state.seen[...] still holds")
    assert declared_roots() == {"app": app}


def test_an_application_may_be_called_like_its_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both are looked through, and both can be declared."""
    monkeypatch.setattr("test_framework.detect.roots._ROOTS", {})
    declare_root(NAME, types.SimpleNamespace(state=[ALICE]))
    program.MODULE_LIST.append(BOB)

    assert [alarm.users for alarm in look()] == [(31,), (7,)]
    for path, users in ((f"{NAME}.state", (31,)), (f"{NAME}.MODULE_LIST", (7,))):
        assert [one.users for one in look(allowed_residue=[path])] == [users]


def test_a_service_without_modules_is_told() -> None:
    """A package that is misspelt or not imported is not passed over in silence."""
    detector = Leaks(recognise=users_named, packages=["leaking_programme"])

    assert detector.alarms() == []
    assert any("name its packages" in one for one in detector.coverage().unwatched)


def test_a_module_that_was_not_asked_for_is_not_entered() -> None:
    """Another package's variables are none of the service's."""
    program.MODULE_LIST.append(ALICE)

    assert look(packages=["asyncio.queues"]) == []


def test_all_modules_of_the_folder_are_looked_at_by_default(
    tmp_path: Any,  # noqa: ANN401  # pytest's own
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without names, what lies in the current folder is the service."""
    (tmp_path / "found_by_folder.py").write_text(f"KEPT = {ALICE!r}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    __import__("found_by_folder")
    program.MODULE_LIST.append(BOB)

    alarms = look(packages=[])

    del sys.modules["found_by_folder"]
    assert [(alarm.site, alarm.users) for alarm in alarms] == [
        ("found_by_folder.py:1", (7,))
    ]


@pytest.mark.power
def test_a_context_that_is_kept_is_found_with_its_holder() -> None:
    """A class that must not outlive its request is named with who holds it."""
    program.SERVICE.contexts.append(program.Context("nobody's text"))

    (alarm,) = look(classes=[f"{NAME}:Context"])

    assert alarm.rule == "context-kept-alive"
    assert alarm.claim.startswith(f"{NAME}.SERVICE.contexts[...] keeps 1 instance(s)")
    assert alarm.site == line_of("self.contexts")


def test_a_context_that_ended_raises_no_alarm(request: pytest.FixtureRequest) -> None:
    """Instances that are merely in a cycle, or held weakly, are gone."""
    # The collector must not come by chance before the look begins.
    gc.disable()
    request.addfinalizer(gc.enable)  # one line instead of a fixture
    context: Any = program.Context("text")
    context.itself = context
    program.SERVICE.living.add(context)
    del context

    assert look(classes=[f"{NAME}:Context"]) == []


def test_a_context_that_a_frame_holds_is_a_warning() -> None:
    """Where no module holds it, that it lives is all that can be said."""
    context = program.Context("text")

    (alarm,) = look(classes=[f"{NAME}:Context"])

    del context
    assert (alarm.level, alarm.count) == ("warning", 1)


def grown(leave: Callable[[int], object], **options: Any) -> list[AlarmRecord]:  # noqa: ANN401  # those of Leaks
    """Return what is said when forty users without canaries came and left."""
    detector = Leaks(recognise=users_named, packages=[NAME], **options)
    assert detector.alarms() == []
    for number in range(40):
        leave(number)
    return detector.alarms()


@pytest.mark.power
def test_a_table_that_grows_with_users_is_a_warning() -> None:
    """Also where nothing in it names anybody."""
    (alarm,) = grown(lambda n: program.MODULE_TABLE.update({f"id-{n}": ""}))

    assert (alarm.rule, alarm.level) == ("memory-growth", "warning")
    assert alarm.claim.startswith(f"{NAME}.MODULE_TABLE holds 40 entries more than")
    assert alarm.site == line_of("MODULE_TABLE")


@pytest.mark.parametrize(
    "leave",
    [
        lambda n: program.MODULE_TABLE.update(last=f"id-{n}"),
        lambda n: program.greet(f"id-{n}"),
        lambda n: program.RECENT.append(f"id-{n}"),
    ],
    ids=["replaced", "lru_cache", "maxlen"],
)
def test_a_table_with_a_bound_raises_no_alarm(leave: Callable[[int], object]) -> None:
    """What replaces its entries, or cannot grow for ever, is left alone."""
    assert grown(leave) == []


def test_insides_of_a_library_may_grow() -> None:
    """A library bounds its own tables, or it is the library's defect."""
    handler = logging.Handler()
    program.SERVICE.last = handler  # type: ignore[assignment]  # anything may be held

    assert grown(lambda n: handler.filters.append(lambda _: bool(n))) == []


def test_a_declared_table_may_grow() -> None:
    """What may hold data of the departed may also hold many entries."""
    alarms = grown(
        lambda n: program.MODULE_TABLE.update({f"id-{n}": ""}),
        allowed_residue=[f"{NAME}.MODULE_TABLE"],
    )

    assert alarms == []


async def wait_for_ever() -> None:
    """Wait for what never comes."""
    await asyncio.Event().wait()


async def wait_with(context: object) -> None:
    """Wait for what never comes, with something in hand."""
    await asyncio.Event().wait()
    del context


@pytest.mark.power
async def test_a_task_that_holds_a_context_is_named() -> None:
    """No module holds it, but a variable of a task that waits."""
    task = asyncio.create_task(wait_with(program.Context("text")), name="waiter")
    await asyncio.sleep(0)

    (alarm,) = look(classes=[f"{NAME}:Context"])

    task.cancel()
    await asyncio.wait([task])
    assert alarm.rule == "context-kept-alive"
    assert "in wait_with of task waiter holds it as context" in alarm.evidence[0]


def expire(_: object) -> None:
    """Be called by a timer, some day."""


@pytest.mark.power
async def test_a_timer_that_holds_a_context_is_named() -> None:
    """Neither a module nor a task holds it, and it lives until the timer is due."""
    timer = asyncio.get_running_loop().call_later(
        3600, expire, {"contexts": [program.Context("text")]}
    )

    (alarm,) = look(classes=[f"{NAME}:Context"])

    timer.cancel()
    assert (alarm.rule, alarm.level) == ("context-kept-alive", "warning")
    (holder,) = alarm.evidence
    assert holder.startswith(
        "Holder  a timer of the loop that calls expire (tests/unit/"
    )
    assert holder.endswith("by way of tuple, dict, list")
    assert look(classes=[f"{NAME}:Context"]) == []


def fail_with(context: object) -> None:
    """Fail, with a context in a variable."""
    raise ValueError(type(context))


@pytest.mark.power
async def test_a_frame_that_an_error_keeps_is_named() -> None:
    """An error that is kept keeps the variables of whoever raised it."""
    with pytest.raises(ValueError, match="Context") as raised:
        fail_with(program.Context("text"))
    timer = asyncio.get_running_loop().call_later(3600, expire, raised.value)
    del raised

    (alarm,) = look(classes=[f"{NAME}:Context"])

    timer.cancel()
    assert alarm.evidence[0].startswith("Holder  the frame of fail_with at tests/unit/")


async def test_a_coroutine_that_holds_a_context_in_a_list_is_named() -> None:
    """What a task keeps in a list of its own is no variable that names it."""

    async def wait() -> None:
        contexts = [program.Context("text")]
        await asyncio.Event().wait()
        contexts.clear()

    task = asyncio.create_task(wait(), name="waiter")
    await asyncio.sleep(0)

    (alarm,) = look(classes=[f"{NAME}:Context"])

    task.cancel()
    await asyncio.wait([task])
    assert ".wait, which waits" in alarm.evidence[0]
    assert alarm.evidence[0].endswith("by way of list")


@pytest.mark.power
@pytest.mark.parametrize(("count", "level"), [(1, "warning"), (3, "error")])
async def test_a_task_that_outlives_its_request_is_found(
    count: int, level: str
) -> None:
    """It is told where it waits and for which operations; many are an error."""
    with operation_scope(412):
        tasks = [asyncio.create_task(wait_for_ever()) for _ in range(count)]
    await asyncio.sleep(0)

    (alarm,) = look(spare_tasks=2)

    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert (alarm.rule, alarm.level, alarm.count) == ("leaked-task", level, count)
    assert alarm.operations == (412,)
    assert alarm.site.startswith("tests/unit/detect/test_leaks.py:")
    assert "in wait_for_ever" in alarm.evidence[0]


async def test_tasks_of_the_service_itself_raise_no_alarm() -> None:
    """A task that was started outside of any request serves everybody."""
    task = asyncio.create_task(wait_for_ever())
    await asyncio.sleep(0)

    assert look() == []

    task.cancel()
    await asyncio.wait([task])


async def test_a_task_that_ended_raises_no_alarm() -> None:
    """A task of a request that is done is no leak."""
    with operation_scope(412):
        await asyncio.create_task(asyncio.sleep(0))

    assert look() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["Context"]}, "is not module:Class"),
        ({"spare_tasks": -1}, "cannot be negative"),
        ({"packages": "app"}, "is no list of names"),
        ({"allowed_residue": [7]}, "7 is no name"),
        ({"spare": 1}, "does not take the options"),
    ],
)
def test_a_wrong_option_is_explained(options: dict[str, Any], message: str) -> None:
    """Options come from a configuration file; each mistake has one sentence."""
    with pytest.raises(UsageError, match=message):
        make_detector("leaks", options)


def test_coverage_tells_what_was_looked_at_and_what_not() -> None:
    """Modules and objects are counted; closed packages are named."""
    detector = Leaks(recognise=users_named, packages=[NAME])
    assert "nobody asked" in detector.coverage().unwatched[0]

    detector.start()
    detector.alarms()
    watch = detector.coverage()
    detector.stop()

    assert watch.facts["modules"] == 1
    assert watch.facts["objects"] > 20
    assert "test_framework" in watch.unwatched[0]


def closing_over(held: object) -> Callable[[], object]:
    """Return a function like a route that is made inside of an application's factory."""
    return lambda: held


@pytest.mark.parametrize(
    ("held", "level"), [({ALICE: 1}, "warning"), ([ALICE], "error")]
)
def test_a_mapping_of_unknown_line_may_be_a_cache(
    held: object, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the service's source is not at hand, only what has no key is sure."""
    monkeypatch.setattr("test_framework.detect.roots._ROOTS", {})
    declare_root("app", types.SimpleNamespace(kept=held))

    assert [alarm.level for alarm in look()] == [level]


def test_a_hint_declares_no_more_than_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What stands behind a route is not declared by naming all routes."""
    monkeypatch.setattr("test_framework.detect.roots._ROOTS", {})
    routes = [closing_over({ALICE: 1})]
    declare_root("app", types.SimpleNamespace(routes=routes))

    (alarm,) = look()

    assert "<closure held>" in alarm.claim
    assert "app.routes" not in alarm.fix
    assert "a name of its own" in alarm.fix
