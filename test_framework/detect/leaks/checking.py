"""A leak check around a piece of a test."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from typing import Any

from test_framework.core import AlarmRecord
from test_framework.detect.leaks.detector import Leaks
from test_framework.detect.leaks.files import OpenFile, open_files
from test_framework.detect.leaks.residue import Recognise
from test_framework.detect.leaks.tasks import describe_task

GRACE_S = 1.0
_PAUSE_S = 0.01
_ARTICLES: dict[str, str] = {"accepted connection": "an"}


class LeakError(AssertionError):
    """Raised when something outlived the block: a finding about the service.

    Attributes:
        alarms: What it was.
    """

    def __init__(self, alarms: Collection[AlarmRecord]) -> None:
        self.alarms = tuple(alarms)
        lines = [f"{len(self.alarms)} thing(s) outlived the block:"]
        for alarm in self.alarms:
            lines.append(f"  {alarm.rule}  {alarm.claim}")
            lines.append(f"    at  {alarm.site}")
            lines += (f"    {line}" for line in alarm.evidence)
        super().__init__("\n".join(lines))


@contextlib.asynccontextmanager
async def leak_check(
    *,
    recognise: Recognise | None = None,
    packages: Collection[str] = (),
    allowed_residue: Collection[str] = (),
    classes: Collection[str] = (),
    grace_s: float = GRACE_S,
) -> AsyncIterator[None]:
    """Fail when tasks, files, contexts or users' data outlive the block.

    A block that raises is not checked: what it left behind is not the question then.

    Args:
        recognise: Who is named by a text, such as ``canary.users_named``; None looks
            for no data.
        packages: As for ``Leaks``.
        allowed_residue: As for ``Leaks``.
        classes: As for ``Leaks``; those that lived before the block may live on.
        grace_s: How long what is about to end may take (seconds, >= 0).

    Raises:
        LeakError: Something outlived it.
        UsageError: An option is malformed.
    """
    # Without anything to look for there, the memory is not walked through.
    leaks = Leaks(
        recognise=recognise or _nobody,
        packages=packages,
        allowed_residue=allowed_residue,
        classes=classes,
    )
    memory = _memory(leaks) if recognise or classes else list
    held = {(alarm.rule, alarm.site): alarm.count for alarm in memory()}
    tasks, files = asyncio.all_tasks(), open_files()
    yield
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace_s
    while True:
        await asyncio.sleep(0)
        alarms = [
            alarm
            for alarm in memory()
            if alarm.count > held.get((alarm.rule, alarm.site), 0)
        ]
        alarms += _open(tasks, files)
        if not alarms:
            return
        if loop.time() >= deadline:
            raise LeakError(alarms)
        await asyncio.sleep(_PAUSE_S)


def _open(
    tasks: Collection["asyncio.Task[Any]"], files: Collection[OpenFile]
) -> Iterator[AlarmRecord]:
    gc.collect()
    for task in asyncio.all_tasks() - set(tasks):
        if task is not asyncio.current_task():
            leaked = describe_task(task)
            yield AlarmRecord(
                rule="leaked-task",
                level="error",
                claim=f"task {leaked.name} still runs {leaked.coroutine}",
                site=leaked.site or leaked.coroutine,
                evidence=leaked.stack,
            )
    known = {file.identity for file in files}
    for file in open_files():
        if file.identity not in known:
            yield AlarmRecord(
                rule="leaked-file",
                level="error",
                claim=f"{_ARTICLES.get(file.kind, 'a')} {file.kind} is still open",
                site=file.place,
            )


def _memory(leaks: Leaks) -> Callable[[], list[AlarmRecord]]:
    # Tasks and files are told apart one by one here, whoever opened them; and a test
    # that fills a table is none.
    return lambda: [
        alarm
        for alarm in leaks.alarms()
        if alarm.rule not in {"leaked-task", "leaked-file", "memory-growth"}
    ]


def _nobody(_text: str | bytes) -> tuple[int, ...]:
    return ()
