"""Detectors around each async test: what they see fails the test that did it.

``--detect locks`` is the default: a test whose tasks wait for each other for ever, or
for what nobody is left to do, is ended within seconds and told who holds what, instead
of hanging until somebody kills it. Errors fail the test, warnings stand in the
summary. ``@pytest.mark.detect()`` turns all of them off for one test,
``@pytest.mark.detect("leaks")`` chooses.

``leaks`` looks for tasks and files that outlive the test. ``--track PACKAGE`` follows
the shared state of a package through all tests: it must begin before anything of the
package is imported, and each test answers for what was seen while it ran.

What the explorer runs has no detectors around it: it sees deadlocks by itself, and its
loop is not that of asyncio.
"""

import asyncio
import concurrent.futures
import contextlib
import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import pytest

from test_framework.check import RULES
from test_framework.core import AlarmRecord, UsageError
from test_framework.detect import make_detector, require_detectors
from test_framework.detect.leaks import LeakError, leak_check
from test_framework.detect.locks import OWN_THREADS, DeadlockWatcher

T = TypeVar("T")

AROUND_ALL = "access"
AROUND_COROUTINE = "leaks"
"""How these two are put around a test; all others are started before it."""

_OPTIONS = {"locks": {"is_counting": False}}
"""A connection to Postgres would be too much for every test."""

LOOK_S = 1.0
"""Between two looks; a test that is done before costs no look at all."""

PATIENCE = 2
"""Looks that a circle of tasks must outlive: a timeout of the test may break it."""


def chosen(item: pytest.Item, option: str, *, is_tracked: bool) -> list[str]:
    """Return the names of the detectors to put around a test.

    Args:
        item: The test.
        option: Value of ``--detect``.
        is_tracked: Whether shared state is followed, which ``--track`` begins.

    Raises:
        UsageError: There is no detector of a name, or nothing for it to follow.
    """
    marker = item.get_closest_marker("detect")
    if marker is None:
        names = [name.strip() for name in option.split(",")]
    else:
        names = [str(name) for name in marker.args]
    if AROUND_ALL in names and not is_tracked:
        message = (
            f"{AROUND_ALL!r} follows the shared state of a package, and none was named. "
            "Run pytest with --track PACKAGE."
        )
        raise UsageError(message)
    wanted = [name for name in names if name not in {"", "none", AROUND_ALL}]
    require_detectors(wanted)
    return wanted


class Tracking:
    """Follows the shared state of some packages through all tests of a run.

    Args:
        packages: Their names.

    Raises:
        UsageError: One cannot be tracked.
    """

    def __init__(self, packages: Sequence[str]) -> None:
        self._tracker = make_detector(AROUND_ALL, {"packages": list(packages)})
        self._tracker.start()
        self._told: Counter[tuple[str, str, str]] = Counter()

    def news(self) -> list[AlarmRecord]:
        """Return what was seen since this was last asked."""
        news = []
        for alarm in self._tracker.alarms():
            key = (alarm.rule, alarm.level, alarm.site)
            if alarm.count > self._told[key]:
                self._told[key] = alarm.count
                news.append(alarm)
        return news

    def unwatched(self) -> Sequence[str]:
        """Return what could not be tracked."""
        return self._tracker.coverage().unwatched

    def stop(self) -> None:
        """Track no longer."""
        self._tracker.stop()


class Watching:
    """The detectors of one test.

    Args:
        names: Which.

    Attributes:
        loop: That of the test, once it runs.
        deadlock: What was seen when the test was ended because nobody was left to go
            on; empty if it was not.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._detectors = [
            make_detector(name, _OPTIONS.get(name, {})) for name in names
        ]
        self._is_over = threading.Event()
        self._guard: threading.Thread | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.deadlock: list[AlarmRecord] = []

    def start(self) -> None:
        """Start the detectors, and look after tasks that wait for ever."""
        for detector in self._detectors:
            detector.start()
            if isinstance(detector, DeadlockWatcher):
                self._guard = threading.Thread(
                    target=self._look_after,
                    args=(detector,),
                    name=f"{OWN_THREADS}stall",
                    daemon=True,
                )
                self._guard.start()

    def stop(self) -> list[AlarmRecord]:
        """Watch no longer; return what was seen."""
        self._is_over.set()
        if self._guard is not None:
            self._guard.join()
        try:
            return [alarm for one in self._detectors for alarm in one.alarms()]
        finally:
            for detector in reversed(self._detectors):
                detector.stop()

    def _look_after(self, watcher: DeadlockWatcher) -> None:
        looks = 0
        while not self._is_over.wait(LOOK_S):
            if self.loop is None:
                continue
            looks = looks + 1 if _ask(self.loop, watcher.is_hopeless) else 0
            if looks > PATIENCE:
                self.deadlock = _errors(_ask(self.loop, watcher.stalled) or ())
                if self.deadlock:
                    _ask(self.loop, _cancel_all)
                    return


def _cancel_all() -> None:
    for task in asyncio.all_tasks():
        try:
            task.cancel()
        except RecursionError:
            # Tasks that await each other hand the cancellation on, round and round.
            asyncio.get_running_loop().stop()


def _ask(loop: asyncio.AbstractEventLoop, question: Callable[[], T]) -> T | None:
    """Call on a loop, from another thread; None if it is blocked, ended or busy."""
    answer: concurrent.futures.Future[T] = concurrent.futures.Future()
    try:
        # In the turn after the next: waking the loop gives it something to run.
        loop.call_soon_threadsafe(loop.call_soon, lambda: answer.set_result(question()))
        return answer.result(LOOK_S)
    except (RuntimeError, TimeoutError):
        return None


def tell(alarms: Sequence[AlarmRecord]) -> str:
    """Return alarms as a failed test shows them."""
    lines = []
    for alarm in alarms:
        lines.append(f"{alarm.rule}: {alarm.claim}")
        lines.append(f"  at {alarm.site}")
        lines += [f"  {line}" for line in alarm.evidence]
        rule = RULES.get(alarm.rule)
        fix = alarm.fix or (rule.fix if rule is not None else "")
        lines += [f"  Fix  {fix}"] if fix else []
    return "\n".join(lines)


@contextlib.contextmanager
def watched(
    item: pytest.Item, tracking: Tracking | None, *, prefix: str
) -> Iterator[None]:
    """Put detectors around one async test; what they see fails it.

    Args:
        item: The test.
        tracking: What follows shared state through all tests, if anything does.
        prefix: Begins the names of the test's properties that hold warnings.

    Raises:
        pytest.fail.Exception: A detector saw an error, or a name cannot be used.
    """
    if item.get_closest_marker("explore") is not None:
        yield
        return
    try:
        option = item.config.getoption("--detect")
        names = chosen(item, option, is_tracked=tracking is not None)
        watching = Watching(name for name in names if name != AROUND_COROUTINE)
    except UsageError as exc:
        pytest.fail(str(exc), pytrace=False)
    if not names and tracking is None:
        yield
        return
    if tracking is not None:
        tracking.news()
    watching.start()
    try:
        is_leak_checked = AROUND_COROUTINE in names
        with _inside(item, watching, is_leak_checked=is_leak_checked):
            yield
    except LeakError as exc:
        alarms = [*exc.alarms, *watching.stop()]
    except BaseException as exc:
        alarms = watching.stop()
        if not watching.deadlock or isinstance(exc, KeyboardInterrupt):
            if alarms:
                item.add_report_section("call", "isolation-audit", tell(alarms))
            raise
    else:
        alarms = watching.stop()
    if tracking is not None:
        alarms += tracking.news()
    _keep_warnings(item, alarms, prefix)
    errors = watching.deadlock or _errors(alarms)
    if errors:
        # What ended the test is our own cancellation and explains nothing.
        raise pytest.fail.Exception(tell(errors), pytrace=False) from None


@contextlib.contextmanager
def _inside(
    item: pytest.Item, watching: Watching, *, is_leak_checked: bool
) -> Iterator[None]:
    """Tell the loop of a test from inside of it, and look for what it leaves there."""
    function: Any = getattr(item, "obj", None)

    @functools.wraps(function)
    async def watched_function(*args: object, **kwargs: object) -> object:
        watching.loop = asyncio.get_running_loop()
        async with leak_check() if is_leak_checked else contextlib.nullcontext():
            return await function(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item, "obj", watched_function)
        yield


def _errors(alarms: Sequence[AlarmRecord]) -> list[AlarmRecord]:
    return [alarm for alarm in alarms if alarm.level == "error"]


def _keep_warnings(
    item: pytest.Item, alarms: Sequence[AlarmRecord], prefix: str
) -> None:
    # Properties come home from the processes of pytest-xdist, and into JUnit files.
    for alarm in alarms:
        if alarm.level == "warning":
            name = f"{prefix}{alarm.rule} at {alarm.site}"
            item.user_properties.append((name, alarm.claim))
