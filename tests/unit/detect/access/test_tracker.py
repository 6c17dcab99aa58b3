"""The tracker as people meet it: what it refuses, what it tells, what it keeps."""

import asyncio
import contextlib
import gc
import importlib
import importlib.util
import logging
import py_compile
import sys
import textwrap
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from test_framework.check import RULES
from test_framework.core import AlarmRecord, UsageError
from test_framework.detect import make_detector, operation_scope
from test_framework.detect.access import AccessTracker
from test_framework.detect.access.signals import MOST_TOLD
from test_framework.detect.access.wording import RULE_OF
from tests.unit.detect.access.tracked import tracked

QUOTA = """
import asyncio

class Quota:
    def __init__(self):
        self.used = 0
        self.lock = asyncio.Lock()
        self.by_name = {}

    async def spend(self):
        used = self.used
        await asyncio.sleep(0)
        self._store(used + 1)

    def _store(self, used):
        self.used = used

    async def spend_locked(self):
        async with self.lock:
            await self.spend()

    async def make(self, name):
        if name not in self.by_name:
            await asyncio.sleep(0)
            self.by_name[name] = object()
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    """Write files of a package ``svc``."""

    def write_files(**sources: str) -> None:
        (tmp_path / "svc").mkdir(exist_ok=True)
        (tmp_path / "svc" / "__init__.py").touch()
        for name, source in sources.items():
            (tmp_path / "svc" / f"{name}.py").write_text(textwrap.dedent(source))

    return write_files


def spend(module: ModuleType, *visits: Callable[[Any], Any]) -> None:
    """Let users visit one quota at once."""

    async def all_users() -> None:
        quota = module.Quota()
        await asyncio.gather(*(visit(quota) for visit in visits))

    asyncio.run(all_users())


def test_report_tells_the_whole_story(
    write: Callable[..., None], tmp_path: Path
) -> None:
    """Claim, both stacks, the await between, both users, the fix: word for word."""
    write(quota=QUOTA)
    with tracked("svc", "svc.quota", folder=tmp_path) as (tracker, (module,)):

        async def visit(quota: Any) -> None:
            with operation_scope(next(numbers)):
                await quota.spend()

        numbers = iter((31, 32))
        spend(module, visit, visit)
        alarms = tracker.alarms()

    assert alarms == [
        AlarmRecord(
            rule="shared-update-lost",
            level="error",
            claim=(
                "request 32 read Quota.used, awaited, and wrote it on the strength of "
                "what it had read, although request 31 wrote it in between."
            ),
            site="svc/quota.py:16",
            evidence=(
                "request 32 reads Quota.used:",
                "  svc/quota.py:11 in Quota.spend: used = self.used",
                "request 32 awaits at svc/quota.py:12: await asyncio.sleep(0)",
                "request 31 writes it meanwhile:",
                "  svc/quota.py:16 in Quota._store: self.used = used",
                "  svc/quota.py:13 in Quota.spend: self._store(used + 1)",
                "request 32 writes it:",
                "  svc/quota.py:16 in Quota._store: self.used = used",
                "  svc/quota.py:13 in Quota.spend: self._store(used + 1)",
            ),
            fix=(
                "Hold one asyncio.Lock from svc/quota.py:11 to svc/quota.py:16, or await "
                "first and then read, decide and write in one step; svc/quota.py:16 must "
                "take the same lock."
            ),
            operations=(31, 32),
        )
    ]


@pytest.mark.parametrize(("is_request", "level"), [(True, "error"), (False, "warning")])
def test_standing_task_is_no_error_beside_requests(
    write: Callable[..., None],
    tmp_path: Path,
    *,
    is_request: bool,
    level: str,
) -> None:
    """What no request started comes by again, and may mean another round."""
    write(quota=QUOTA)
    with tracked("svc", "svc.quota", folder=tmp_path) as (tracker, (module,)):

        async def visit(quota: Any) -> None:
            with operation_scope(1):
                await quota.spend()

        async def come_by(quota: Any) -> None:
            with operation_scope(2) if is_request else contextlib.nullcontext():
                await quota.spend()

        spend(module, visit, come_by)
        (alarm,) = tracker.alarms()

    assert (alarm.rule, alarm.level) == ("shared-update-lost", level)


def test_same_cause_is_told_once(write: Callable[..., None], tmp_path: Path) -> None:
    """Ten users make one alarm with a count, and it may be asked for again."""
    write(quota=QUOTA)
    with tracked("svc", "svc.quota", folder=tmp_path) as (tracker, (module,)):
        spend(module, *[lambda quota: quota.spend()] * 10)
        first, second = tracker.alarms(), tracker.alarms()

    assert [alarm.count for alarm in first] == [9]
    assert second == first


def test_lock_that_the_other_ignores_is_told(
    write: Callable[..., None], tmp_path: Path
) -> None:
    """A lock that only one of two takes protects nothing, and the report says so."""
    write(quota=QUOTA)
    with tracked("svc", "svc.quota", folder=tmp_path) as (tracker, (module,)):

        async def both() -> None:
            quota = module.Quota()
            await asyncio.gather(
                asyncio.create_task(quota.spend(), name="careless"),
                asyncio.create_task(quota.spend_locked(), name="careful"),
            )

        asyncio.run(both())
        (alarm,) = tracker.alarms()

    assert alarm.evidence[-1] == (
        "task careful held a lock all the while, which task careless did not take."
    )


def test_keys_are_never_told(write: Callable[..., None], tmp_path: Path) -> None:
    """A key may be anybody's address or token."""
    write(quota=QUOTA)
    with tracked("svc", "svc.quota", folder=tmp_path) as (tracker, (module,)):
        spend(module, *[lambda quota: quota.make("alice@example.org")] * 2)
        (alarm,) = tracker.alarms()

    assert "alice" not in repr(alarm)
    assert "Quota.by_name[...]" in alarm.claim


def test_requests_of_one_operation_are_one_user(
    write: Callable[..., None], tmp_path: Path
) -> None:
    """Tasks that a request starts inherit its operation: they are no strangers."""
    write(quota=QUOTA)
    with tracked("svc", "svc.quota", folder=tmp_path) as (tracker, (module,)):

        async def fan_out() -> None:
            quota = module.Quota()
            with operation_scope(7):
                await asyncio.gather(quota.spend(), quota.spend())

        asyncio.run(fan_out())
        alarms = tracker.alarms()

    assert alarms == []


def test_every_rule_can_be_explained() -> None:
    """What an alarm names, ``isolation-audit explain`` knows."""
    assert set(RULE_OF.values()) <= set(RULES)


def test_registry_makes_it_of_plain_values() -> None:
    """The plan of a worker is JSON: names of packages."""
    made = make_detector("access", {"packages": ["app"]})

    assert isinstance(made, AccessTracker)
    assert made.name == "access"


@pytest.mark.parametrize("package", ["no_such_package", "json.no_such_module", ""])
def test_unknown_package_is_refused(package: str) -> None:
    """Before anything is imported, in one sentence that names it."""
    tracker = AccessTracker([package])

    with pytest.raises(UsageError, match=r"track\. Name"):
        tracker.start()

    assert not any(type(finder).__name__ == "Imports" for finder in sys.meta_path)


def test_no_package_is_refused() -> None:
    """There must be something to track."""
    with pytest.raises(UsageError, match="nothing to track"):
        AccessTracker([]).start()


def test_one_string_is_no_list_of_packages() -> None:
    """Else each of its letters would be a package."""
    with pytest.raises(UsageError, match=r"packages='app': .* Pass \['app'\]"):
        AccessTracker("app")


def test_second_start_is_refused() -> None:
    """It would count everything twice."""
    tracker = AccessTracker(["app"])
    tracker.start()
    try:
        with pytest.raises(UsageError, match="runs already"):
            tracker.start()
    finally:
        tracker.stop()


def test_modules_imported_before_are_told(
    write: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run without probes, and the coverage says so."""
    write(quota=QUOTA)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("svc.quota")
    tracker = AccessTracker(["svc"], root=tmp_path)
    tracker.start()
    tracker.stop()
    for name in ("svc", "svc.quota"):
        del sys.modules[name]

    (told,) = tracker.coverage().unwatched
    assert told.startswith("svc, svc.quota: imported before the tracker started.")


def test_compiled_modules_are_told(write: Callable[..., None], tmp_path: Path) -> None:
    """A module without source is imported as it is."""
    write(hidden="value = 5")
    source = tmp_path / "svc" / "hidden.py"
    py_compile.compile(str(source), cfile=str(source.with_suffix(".pyc")))
    source.unlink()

    with tracked("svc", "svc.hidden", folder=tmp_path) as (tracker, (module,)):
        assert module.value == 5
        (told,) = tracker.coverage().unwatched

    assert told.startswith("svc.hidden: hidden.pyc is no Python source")


def test_module_that_cannot_be_rewritten_runs_as_it_is(
    write: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours costs the service nothing but its coverage."""
    write(quota=QUOTA)

    def fail(*_: object, **__: object) -> None:
        raise ValueError("planted")

    monkeypatch.setattr("test_framework.detect.access.loading.rewrite", fail)

    with tracked("svc", "svc.quota", folder=tmp_path) as (tracker, (module,)):
        spend(module, *[lambda quota: quota.spend()] * 2)
        told = tracker.coverage().unwatched
        alarms = tracker.alarms()

    assert alarms == []
    assert told[-1] == (
        "svc.quota: probes could not be put into it (ValueError: planted), so it runs "
        "as it is."
    )


def test_syntax_error_of_the_service_is_its_own(
    write: Callable[..., None], tmp_path: Path
) -> None:
    """It names the file and line, as without a tracker."""
    write(broken="def f(:\n    pass\n")

    with (
        pytest.raises(SyntaxError, match=r"broken\.py, line 1"),
        tracked("svc", "svc.broken", folder=tmp_path),
    ):
        pass


def test_bytecode_is_neither_read_nor_written(
    write: Callable[..., None], tmp_path: Path
) -> None:
    """Else the next run without a tracker would run with probes."""
    write(quota=QUOTA)
    with tracked("svc", "svc.quota", folder=tmp_path):
        pass

    assert list(tmp_path.rglob("*.pyc")) == []


def test_stop_takes_every_patch_back(
    write: Callable[..., None], tmp_path: Path
) -> None:
    """Asyncio and the import system are as they were, and nothing more is noted."""
    write(quota=QUOTA)
    before = [
        vars(cls).copy()
        for cls in (asyncio.Lock, asyncio.Semaphore, asyncio.Event, asyncio.Queue)
    ]
    with tracked("svc", "svc.quota", folder=tmp_path) as (tracker, (module,)):
        assert vars(asyncio.Lock)["acquire"] is not before[0]["acquire"]
    spend(module, *[lambda quota: quota.spend()] * 2)

    assert [
        vars(cls)
        for cls in (asyncio.Lock, asyncio.Semaphore, asyncio.Event, asyncio.Queue)
    ] == before
    assert tracker.alarms() == []
    assert tracker.coverage().facts["accesses"] == 0


SERVER = """
import asyncio

class Hub:
    def __init__(self):
        self.seen = {}
        self.last = None
        self.total = 0

    async def serve(self, user, number):
        mine = {"user": user, "parts": []}
        self.seen[user] = mine
        mine["parts"].append(number)
        await asyncio.sleep(0)
        self.total += len(mine["parts"])
        self.last = [mine]
        if number % 2:
            del self.seen[user]

    async def serve_forever(self, count):
        for number in range(count):
            await self.serve(0, number)
"""


def books_of(tracker: AccessTracker) -> tuple[int, int]:
    """Return how many objects and tasks a tracker knows."""
    ledger = tracker._ledger
    return len(ledger._entries), len(ledger._states)


def test_memory_is_given_back_when_requests_end(
    write: Callable[..., None], tmp_path: Path
) -> None:
    """After 3,000 requests the books are as long as after 30."""
    write(hub=SERVER)
    with tracked("svc", "svc.hub", folder=tmp_path) as (tracker, (module,)):

        async def serve(hub: Any, count: int) -> tuple[int, int]:
            for first in range(0, count, 10):
                await asyncio.gather(
                    *(hub.serve(user, first) for user in range(first, first + 10))
                )
            await asyncio.sleep(0)
            return books_of(tracker)

        async def both() -> tuple[Any, Any]:
            hub = module.Hub()
            return await serve(hub, 30), await serve(hub, 3_000)

        few, many = asyncio.run(both())

    assert many[1] == few[1]
    assert many[0] <= few[0] + 10


def test_memory_of_a_task_that_never_ends_is_bounded(
    write: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that goes on for ever is remembered for its latest steps only."""
    write(hub=SERVER)
    monkeypatch.setattr("test_framework.detect.access.ledger.MOST_TOUCHED", 100)
    with tracked("svc", "svc.hub", folder=tmp_path) as (tracker, (module,)):

        async def run() -> tuple[int, int]:
            await module.Hub().serve_forever(2_000)
            return books_of(tracker)

        objects, _ = asyncio.run(run())

    assert objects <= 100


def test_queue_that_lives_for_ever_is_bounded(
    write: Callable[..., None], tmp_path: Path
) -> None:
    """Of all requests that ever put something into a queue the latest are known."""
    write(
        mailbox="""
        import asyncio

        async def give_and_take(queue, number):
            await queue.put([number])
            await asyncio.sleep(0)
            return await queue.get()
        """
    )
    with tracked("svc", "svc.mailbox", folder=tmp_path) as (tracker, (module,)):

        async def main() -> list[int]:
            queue: asyncio.Queue[list[int]] = asyncio.Queue()
            for number in range(3 * MOST_TOLD):
                await asyncio.create_task(module.give_and_take(queue, number))
            return [len(told) for told in tracker._ledger.signals._told.values()]

        lengths = asyncio.run(main())

    assert 1 < max(lengths) <= MOST_TOLD


def test_objects_die_at_the_next_await(
    write: Callable[..., None], tmp_path: Path
) -> None:
    """What a plain container held is free again soon after the service let it go."""
    write(
        holder="""
        import asyncio

        async def use(value, gone):
            box = {"value": value}
            box["again"] = box["value"]
            del box, value
            await asyncio.sleep(0)
            return gone()
        """
    )

    class Value:
        pass

    with tracked("svc", "svc.holder", folder=tmp_path) as (tracker, (module,)):

        async def main() -> object:
            value = Value()
            coroutine = module.use(value, weakref.ref(value))
            del value
            return await asyncio.ensure_future(coroutine)

        left = asyncio.run(main())

    assert tracker.coverage().facts["accesses"] > 0
    assert left is None


def test_reused_identity_is_another_object(
    write: Callable[..., None], tmp_path: Path
) -> None:
    """Objects that come to lie where others lay are strangers to the books."""
    write(
        boxes="""
        import asyncio

        class Box:
            def __init__(self):
                self.value = 0

        async def use(seen):
            box = Box()
            seen.append(id(box))
            read = box.value
            await asyncio.sleep(0)
            box.value = read + 1
        """
    )
    with tracked("svc", "svc.boxes", folder=tmp_path) as (tracker, (module,)):
        seen: list[int] = []

        async def main() -> None:
            for _ in range(200):
                await asyncio.gather(module.use(seen), module.use(seen))

        asyncio.run(main())
        alarms = tracker.alarms()

    assert len(set(seen)) < len(seen)
    assert alarms == []


def test_code_in_threads_is_left_alone(
    write: Callable[..., None], tmp_path: Path
) -> None:
    """Outside of tasks there is nothing to tell: it runs, and is not noted."""
    write(
        worker="""
        class Count:
            value = 0

            def add(self):
                self.value += 1
                return self.value
        """
    )
    with tracked("svc", "svc.worker", folder=tmp_path) as (tracker, (module,)):

        async def main() -> Any:
            return await asyncio.to_thread(module.Count().add)

        assert asyncio.run(main()) == 1
        assert tracker.coverage().facts["accesses"] == 0


def test_own_logging_and_collection_are_unharmed(
    write: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Collecting garbage in the middle of everything changes no answer."""
    write(quota=QUOTA)
    with (
        caplog.at_level(logging.ERROR),
        tracked("svc", "svc.quota", folder=tmp_path) as (tracker, (module,)),
    ):

        async def visit(quota: Any) -> None:
            await quota.spend()
            gc.collect()

        spend(module, *[visit] * 5)

        assert [alarm.count for alarm in tracker.alarms()] == [4]
    assert caplog.records == []


def test_star_import_leaves_probes_behind(
    write: Callable[..., None], tmp_path: Path
) -> None:
    """Two modules that count in a global of the same name have a counter each."""
    counter = """
        import asyncio
        count = 0

        async def spend():
            global count
            seen = count
            await asyncio.sleep(0)
            count = seen + 1
        """
    write(first=counter, second="from svc.first import *\n" + textwrap.dedent(counter))
    with tracked("svc", "svc.first", "svc.second", folder=tmp_path) as (
        tracker,
        (first, second),
    ):

        async def one_each() -> None:
            await asyncio.gather(first.spend(), second.spend())

        asyncio.run(one_each())
        alarms = tracker.alarms()

    assert second.count == first.count == 1
    assert alarms == []
