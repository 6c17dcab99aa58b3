"""The leak watchers as a detector of a hosted service.

Nothing is patched and nothing is done while the service works: each call of ``alarms``
looks at tasks and files and walks through the memory. That takes about 0.1 s on the loop,
most of it for one collection of garbage. The audit asks before the first user came and
after the last has left.
"""

import asyncio
import gc
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from test_framework.core import AlarmRecord, Level, UsageError, WatchRecord
from test_framework.detect.leaks.backwards import last_holder
from test_framework.detect.leaks.files import (
    Place,
    count_places,
    is_whole,
    open_files,
)
from test_framework.detect.leaks.modules import own_modules, trunk_of
from test_framework.detect.leaks.named import Named
from test_framework.detect.leaks.residue import (
    CLOSED,
    LEAST_ENTRIES,
    Holding,
    Recognise,
    survey,
)
from test_framework.detect.leaks.tasks import (
    LeakedTask,
    describe_task,
    locals_holding,
)
from test_framework.detect.roots import declared_roots

if TYPE_CHECKING:
    from collections import Counter

_DEEPER = re.compile(r"<closure|\.[^\[]*\[")
"""A container inside of what a container holds."""

SPARE_TASKS = 3
"""Tasks of one kind that may outlive requests: pools start theirs when first used."""

SPARE_FILES = 3
"""Files below one folder, and connections of clients, that may stay open."""

SPARE_CONNECTIONS = 256
"""Connections to one other server that may stay open: pools keep theirs."""


_HOLDERS = 3
_NO_MODULES = (
    "no module of the service was found: name its packages, for none that is imported "
    "lies in the current folder"
)


class Leaks:
    """Finds what outlives its user: data, contexts, tasks, files.

    Args:
        recognise: Who is named by a text.
        packages: Packages to look at; none means all that lies in the current folder.
        allowed_residue: Paths below which data of departed users may stay, such as
            ``notes.CACHE``: for caches that are keyed by user and bounded.
        classes: ``module:Class`` whose instances must not outlive their request.
        spare_tasks: Tasks of one coroutine that may outlive requests (count, >= 0);
            they are told as a warning, more are an error.
        spare_files: The same for files of one folder and for connections of clients,
            beyond those of the first look; they are told as a note.
        spare_connections: Connections to one other server that are not even told.

    Raises:
        UsageError: An option is malformed.
    """

    name = "leaks"

    def __init__(
        self,
        *,
        recognise: Recognise,
        packages: Collection[str] = (),
        allowed_residue: Collection[str] = (),
        classes: Collection[str] = (),
        spare_tasks: int = SPARE_TASKS,
        spare_files: int = SPARE_FILES,
        spare_connections: int = SPARE_CONNECTIONS,
    ) -> None:
        for option, value in {
            "packages": packages,
            "allowed_residue": allowed_residue,
            "classes": classes,
        }.items():
            _require_names(option, value)
        for name in classes:
            if name.count(":") != 1:
                message = (
                    f"classes: {name!r} is not module:Class. Write the module, a colon "
                    "and the class, such as 'app.context:UserExecutionContext'."
                )
                raise UsageError(message)
        for option, count in {
            "spare_tasks": spare_tasks,
            "spare_files": spare_files,
            "spare_connections": spare_connections,
        }.items():
            if count < 0:
                message = (
                    f"{option}={count}: it cannot be negative. Pass 0 when none may "
                    "outlive a request."
                )
                raise UsageError(message)
        self._recognise = recognise
        self._named = Named({})
        self._packages = packages
        self._allowed = allowed_residue
        self._classes = classes
        self._spare_tasks = spare_tasks
        self._spare_files = spare_files
        self._spare_connections = spare_connections
        self._files_before: Counter[Place] | None = None
        self._sizes_before: dict[str, int] | None = None
        self._coverage = WatchRecord(
            self.name, unwatched=("nothing was looked at: nobody asked",)
        )

    def start(self) -> None:
        """Do nothing: what there is to see is seen when somebody asks."""

    def stop(self) -> None:
        """Do nothing: nothing was patched."""

    def coverage(self) -> WatchRecord:
        """Return what the last look looked at."""
        return self._coverage

    def identify(self, identities: Mapping[int, Collection[str]]) -> None:
        """Know users by their identifiers as well, from now on.

        Args:
            identities: What the service called each user and what it made, by the
                number of the user; those of an earlier call are forgotten.
        """
        self._named = Named(identities)

    def alarms(self) -> list[AlarmRecord]:
        """Look now, and return what is held for users at this moment."""
        modules = own_modules(self._packages)
        found = survey(
            [*modules.items(), *declared_roots().items()],
            recognise=self._recognise,
            identify=self._named.find,
            allowed=self._allowed,
            classes=self._classes,
        )
        alarms = [_residue(holding) for holding in found.residue]
        for name, holdings in found.survivors.items():
            alarms += (_survivor(name, holding) for holding in holdings)
        running = _running_tasks()
        alarms += (_loose(name, ids, running) for name, ids in found.loose.items())
        alarms += self._grown(found.tables)
        tasks = [describe_task(task) for task in running]
        alarms += _leaked(tasks, spare=self._spare_tasks)
        files = count_places(open_files())
        alarms += self._left_open(files)
        self._coverage = WatchRecord(
            self.name,
            watched=(
                f"modules: {', '.join(sorted(_packages(modules))) or 'none'}",
                *(f"class {name}" for name in self._classes),
                *(f"allowed: {path}" for path in self._allowed),
                "tasks",
                "open files and sockets",
            ),
            unwatched=(
                (
                    "buffers and caches of drivers were not entered "
                    f"({', '.join(sorted(CLOSED & _imported()))})"
                ),
                *found.unwatched,
                *(() if modules else (_NO_MODULES,)),
                *(() if is_whole() else ("this system does not tell what is open",)),
            ),
            facts={
                "objects": found.objects,
                "identifiers": len(self._named),
                "modules": len(modules),
                "tasks": len(tasks),
                "files": files.total(),
            },
        )
        return alarms

    def _grown(self, tables: Collection[Holding]) -> Iterator[AlarmRecord]:
        sizes = {table.path: table.count for table in tables}
        if self._sizes_before is None:
            self._sizes_before = sizes
        for table in tables:
            before = self._sizes_before.get(table.path, 0)
            if table.count - before >= LEAST_ENTRIES:
                yield AlarmRecord(
                    rule="memory-growth",
                    level="warning",
                    claim=(
                        f"{table.path} holds {table.count - before} entries more than "
                        "before the first user"
                    ),
                    site=table.site,
                    evidence=(f"Holder  {table.path}",),
                    fix=_declared("Remove entries when their user leaves.", table.path),
                )

    def _left_open(self, files: "Counter[Place]") -> Iterator[AlarmRecord]:
        if self._files_before is None:
            self._files_before = files
        for (kind, place), count in sorted((files - self._files_before).items()):
            if kind == "connection":
                spare, least = self._spare_connections, self._spare_connections + 1
            elif kind in {"file", "accepted connection"}:
                spare, least = self._spare_files, 1
            else:
                continue
            if count >= least:
                yield AlarmRecord(
                    rule="leaked-file",
                    # A few that stay open are none per user: a log, a journal.
                    level="error" if count > spare else "note",
                    claim=f"{count} more {kind}(s) are open than before the first user",
                    site=place,
                    count=count,
                )


def _residue(holding: Holding) -> AlarmRecord:
    what = "holds data of" if holding.is_data else "names"
    return AlarmRecord(
        rule="residue-of-departed",
        # A mapping may be a cache that is meant to outlive its users, and who was here
        # last may be told by a page of figures: a name is not what its user wrote.
        level="warning" if holding.is_keyed or not holding.is_data else "error",
        claim=f"{holding.path} still {what} {_users(len(holding.users))}",
        site=holding.site,
        evidence=(f"Holder  {holding.path}",),
        fix=_declared("Remove the entry when its user or request ends.", holding.path),
        users=holding.users,
        count=holding.count,
    )


def _survivor(name: str, holding: Holding) -> AlarmRecord:
    return AlarmRecord(
        rule="context-kept-alive",
        level="error",
        claim=f"{holding.path} keeps {holding.count} instance(s) of {name} alive",
        site=holding.site,
        evidence=(f"Holder  {holding.path}",),
        users=holding.users,
        count=holding.count,
    )


def _loose(
    name: str, ids: Collection[int], tasks: Iterable[asyncio.Task[Any]]
) -> AlarmRecord:
    held = [f"Holder  {line}" for line in locals_holding(ids, tasks)]
    if not held:
        lone = [value for value in gc.get_objects() if id(value) in ids][:_HOLDERS]
        found = [last_holder(value) for value in lone]
        held = [f"Holder  {line}" for line in dict.fromkeys(found) if line]
    return AlarmRecord(
        rule="context-kept-alive",
        level="warning",
        claim=f"{len(ids)} instance(s) of {name} are alive and no module holds them",
        site=name,
        evidence=tuple(held[:_HOLDERS])
        or ("Holder  a thread or the code of a library",),
        count=len(ids),
    )


def _running_tasks() -> list[asyncio.Task[Any]]:
    try:
        current = asyncio.current_task()
        return [task for task in asyncio.all_tasks() if task is not current]
    except RuntimeError:
        return []  # asked outside of a loop: there are none to speak of


def _leaked(tasks: Iterable[LeakedTask], *, spare: int) -> Iterator[AlarmRecord]:
    kinds: dict[tuple[str, str], list[LeakedTask]] = {}
    for task in tasks:
        if task.operation is not None:
            kinds.setdefault((task.coroutine, task.site), []).append(task)
    for (coroutine, site), several in sorted(kinds.items()):
        level: Level = "error" if len(several) > spare else "warning"
        yield AlarmRecord(
            rule="leaked-task",
            level=level,
            claim=(
                f"{len(several)} task(s) of {coroutine} outlived the request that "
                "started them"
            ),
            site=site or coroutine,
            evidence=several[0].stack,
            operations=tuple(
                sorted(
                    {task.operation for task in several if task.operation is not None}
                )
            ),
            count=len(several),
        )


_TABLE = "[tool.isolation-audit.detector_options.leaks]"
"""Where the options of this detector stand in pyproject.toml."""


def _declared(cure: str, path: str) -> str:
    trunk = trunk_of(path)
    if _DEEPER.search(path.removeprefix(trunk)):
        # The trunk holds much else, all routes for instance: it must not be declared.
        return (
            f"{cure} If it is a cache that is keyed by user and bounded, give it a name "
            "of its own, as an attribute of app.state, and declare that in "
            f"allowed_residue of {_TABLE}."
        )
    return (
        f"{cure} If it is a cache that is keyed by user and bounded, declare it "
        f"under {_TABLE}: allowed_residue = [{trunk!r}]."
    )


def _users(count: int) -> str:
    return "1 departed user" if count == 1 else f"{count} departed users"


def _packages(modules: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def _imported() -> set[str]:
    return _packages(list(sys.modules))


def _require_names(option: str, value: object) -> None:
    if isinstance(value, str) or not isinstance(value, Collection):
        message = (
            f"{option}={value!r} is no list of names. Write it in brackets, such as "
            f"{option} = ['app']."
        )
        raise UsageError(message)
    for name in value:
        if not isinstance(name, str) or not name:
            message = f"{option}: {name!r} is no name. Write text, such as 'app'."
            raise UsageError(message)
