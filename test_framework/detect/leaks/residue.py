"""What users who are gone left behind in the memory of the service.

After everybody has logged out, whatever still names one of them is held by somebody: a
module's variable, a default argument, a closure, an attribute of a long-lived object.
It is found by walking from the modules of the service and the application, with the
path that holds it. A cache that is meant to outlive its users is declared and left
alone. Classes that must not outlive their request, such as a context of execution, are
looked for in the same walk.
"""

import contextlib
import functools
import gc
import re
import types
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from test_framework.core import UsageError
from test_framework.detect.leaks.graph import (
    Modules,
    Namer,
    Node,
    Path,
    Root,
    Walk,
    is_a,
)
from test_framework.detect.leaks.modules import (
    line_of_name,
    relative_site,
    resolve,
    trunk_of,
)
from test_framework.detect.leaks.named import text_of

CLOSED = frozenset(
    {
        # Drivers and servers: buffers, and statements compiled from the first values.
        "asyncpg",
        "httptools",
        "psycopg",
        "psycopg_pool",
        "redis",
        "sqlalchemy",
        "ssl",
        "_ssl",
        "uvicorn",
        "uvloop",
        # Schemas: large, and made once.
        "pydantic",
        "pydantic_core",
        # The watchers themselves.
        "_pytest",
        "pluggy",
        "pytest",
        "pytest_asyncio",
        "test_framework",
    }
)
"""Packages whose objects are not entered, and why."""

LEAST_ENTRIES = 32
"""Entries from which on a container is worth comparing with what it held before."""

MOST_PLACES = 40
"""Places that are told; more are the same mistake, or a graph of objects."""

_ENTRIES = frozenset({"[...]", "[key]", ".<lru_cache>"})
"""Steps from a container to one of many."""

_ENTRY = re.compile(r"\[\.\.\.\]|\.<lru_cache>")

_TABLES = (dict, list, set, deque)
_CONTAINERS = (*_TABLES, tuple, frozenset, types.CellType)
_BAGS = frozenset({"types", "starlette.datastructures"})
"""Modules of classes that hold whatever a service hangs on them, as ``app.state``."""

Recognise = Callable[[str | bytes], Iterable[int]]
"""Returns the numbers of the users whom a text belongs to."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Things that one place holds.

    Attributes:
        path: How to come to the first of them.
        site: Source line that made the place.
        users: Whose they are, in order of their numbers; none for instances.
        count: How many (count, >= 1).
        is_keyed: Whether they are entries of a mapping: that may be a cache, where each
            user finds what is its own.
    """

    path: str
    site: str
    users: tuple[int, ...]
    count: int
    is_keyed: bool
    is_data: bool = True


@dataclass(frozen=True, slots=True)
class Survey:
    """What one look at the memory found.

    Attributes:
        residue: Places that hold what names a user.
        survivors: Places that hold instances of the wanted classes, by class.
        loose: Instances that live where the walk did not come, by class: the ``id`` of
            each, good until the loop goes on.
        tables: Containers without a bound that hold many entries.
        objects: How many objects it met.
        unwatched: What it could not look at, and why.
    """

    residue: tuple[Holding, ...]
    survivors: Mapping[str, tuple[Holding, ...]]
    loose: Mapping[str, frozenset[int]]
    tables: tuple[Holding, ...]
    objects: int
    unwatched: tuple[str, ...]


@dataclass(slots=True)
class _Place:
    path: Path
    users: set[int] = field(default_factory=set)
    count: int = 0
    is_data: bool = False


_Places = dict[str, _Place]


def survey(
    roots: Collection[Root],
    *,
    recognise: Recognise,
    identify: Recognise = lambda _: (),
    allowed: Collection[str] = (),
    classes: Collection[str] = (),
) -> Survey:
    """Walk from the roots and return what names a user and what should be gone.

    Synchronous: nothing of the loop runs meanwhile. Collects garbage first, for what
    nobody holds is not held.

    Args:
        roots: Modules with their names, and objects such as the application.
        recognise: Who wrote a text.
        identify: Whose identifiers stand in it.
        allowed: Paths below which anything may stay, as alarms write them.
        classes: ``module:Class`` of which no instance may live.
    """
    gc.collect()
    excluded, unwatched = [], []
    for path in allowed:
        try:
            excluded.append(resolve(path, roots))
        except UsageError as exc:
            unwatched.append(f"allowed_residue: {exc}")
    own = Modules(name for name, one in roots if isinstance(one, types.ModuleType))
    walk = Walk(roots, own=own, closed=CLOSED, excluded=excluded)
    look = _Look(recognise, identify, frozenset(classes), own)
    with _no_collection():
        for node in walk:
            look.at(node)
        if look.residue:
            again = Walk(
                roots,
                own=own,
                closed=CLOSED,
                excluded=excluded,
                again=look.shares.keys(),
            )
            for node in again:
                look.again_at(node)
    if len(look.residue) > MOST_PLACES:
        unwatched.append(
            f"{len(look.residue) - MOST_PLACES} more places hold data of users: mend "
            f"the first {MOST_PLACES} and look again"
        )
        look.residue = dict(islice(look.residue.items(), MOST_PLACES))
    if not walk.is_complete:
        unwatched.append(
            f"the walk gave up after {walk.objects} objects; name the packages to look "
            "at to make it smaller"
        )
    return Survey(
        residue=_told(look.residue, roots),
        survivors={name: _told(look.survivors[name], roots) for name in classes},
        loose=look.loose() if classes else {},
        tables=_told(look.tables, roots),
        objects=walk.objects,
        unwatched=tuple(unwatched),
    )


@dataclass(slots=True)
class _Share:
    """Something of a user's: what it holds of whom, and who was found to hold it first.

    It is kept alive, so that nothing else gets its ``id``.
    """

    node: Node
    users: set[int] = field(default_factory=set)
    count: int = 0
    is_data: bool = False


class _Look:
    """Sorts what walks meet into places.

    The first walk finds what names users. What it went through on the way, below the
    container that holds it, is the users' own: who else holds that is found by a
    second walk, for one forgotten holder would hide all others.
    """

    def __init__(
        self,
        recognise: Recognise,
        identify: Recognise,
        classes: frozenset[str],
        own: Modules,
    ) -> None:
        self._own = own
        self.residue: _Places = {}
        self.shares: dict[int, _Share] = {}
        self.survivors: dict[str, _Places] = {name: {} for name in classes}
        self.tables: _Places = {}
        self._recognise, self._identify = recognise, identify
        self._classes = classes
        self._namer = Namer()
        self._met: set[int] = set()
        self._wanted: dict[type, str] = {}

    def at(self, node: Node) -> None:
        """Note where an object is held, if it is one to note."""
        value = node.value
        kind = type(value)
        text = text_of(value)
        if text is not None:
            authors = set(self._recognise(text))
            users = authors.union(self._identify(text))
            if users:
                self._add(self.residue, node, users, is_data=bool(authors))
                self._share(node, users, is_data=bool(authors))
            return
        if (
            issubclass(kind, _TABLES)
            and (entries := _entries(value)) >= LEAST_ENTRIES
            and self._may_grow(node)
        ):
            self._add(self.tables, node, count=entries)
        if self._classes and (name := self._wanted_name(kind)):
            self._met.add(id(value))
            self._add(self.survivors[name], node)

    def again_at(self, node: Node) -> None:
        """Note another holder of what is a user's own, met in a second walk."""
        share = self.shares.get(id(node.value))
        if share is None or node.parent is None or share.node.parent is None:
            return
        if node.parent.value is share.node.parent.value:
            return
        step: Node | None = node.parent
        while step is not None:
            if id(step.value) in self.shares:
                return  # held by what is told already
            step = step.parent
        self._add(self.residue, node, share.users, share.count, is_data=share.is_data)

    def _share(self, node: Node, users: Iterable[int], *, is_data: bool) -> None:
        step: Node | None = node
        names = (*self._namer.path_to(node).names[::-1], "")
        last = max((i for i, name in enumerate(names) if name in _ENTRIES), default=0)
        for _ in range(last + 1):
            if step is None:
                return
            share = self.shares.setdefault(id(step.value), _Share(step))
            share.users.update(users)
            share.count += 1
            share.is_data |= is_data
            step = step.parent

    def loose(self) -> dict[str, frozenset[int]]:
        """Return the instances of the classes that live where nothing was met."""
        # A service has some hundred thousand objects, and some hundred types of them.
        objects = gc.get_objects()
        wanted = {
            kind: name
            for kind in {type(value) for value in objects}
            if (name := self._wanted_name(kind))
        }
        found: dict[str, set[int]] = {}
        for value in objects if wanted else ():
            name = wanted.get(type(value), "")
            if name and id(value) not in self._met:
                found.setdefault(name, set()).add(id(value))
        return {name: frozenset(ids) for name, ids in found.items()}

    def _add(
        self,
        places: _Places,
        node: Node,
        users: Iterable[int] = (),
        count: int = 1,
        *,
        is_data: bool = True,
    ) -> None:
        path = self._namer.path_to(node)
        # All that one container holds is one place.
        place = places.setdefault(_container_of(path.text), _Place(path))
        place.users.update(users)
        place.count += count
        place.is_data |= is_data

    def _may_grow(self, node: Node) -> bool:
        """Whether a table is the service's own and nothing bounds it."""
        if is_a(node.value, deque) and node.value.maxlen is not None:
            return False
        step = node.parent
        while step is not None and is_a(step.value, _CONTAINERS):
            step = step.parent
        owner: Any = step.value if step is not None else None
        if is_a(owner, functools._lru_cache_wrapper):  # noqa: SLF001  # it has no public name
            return owner.cache_parameters()["maxsize"] is None
        if _maxsize(owner) > 0:
            return False
        # Insides of libraries are theirs to bound; a bag of attributes is the service's.
        kind = owner if is_a(owner, type) else type(owner)
        return (
            is_a(owner, types.ModuleType | types.FunctionType)
            or self._own(kind.__module__)
            or kind.__module__ in _BAGS
        )

    def _wanted_name(self, kind: type) -> str:
        name = self._wanted.get(kind)
        if name is None:
            names = (f"{cls.__module__}:{cls.__qualname__}" for cls in kind.__mro__)
            name = next((one for one in names if one in self._classes), "")
            self._wanted[kind] = name
        return name


def _container_of(path: str) -> str:
    """Return the part of a path that leads to the container of its entries."""
    before, closure, below = path.rpartition(".<closure ")
    # A framework keeps all functions in one list: what each closes over is its own.
    return before + closure + _ENTRY.split(below, maxsplit=1)[0]


def _entries(table: Any) -> int:  # noqa: ANN401  # one of _TABLES
    """Return how many entries a table has, whatever its class makes of ``len``."""
    kind = next(one for one in _TABLES if issubclass(type(table), one))
    count: int = kind.__len__(table)
    return count


def _maxsize(owner: object) -> float:
    """Return the bound that caches and queues name; 0 for none."""
    try:
        found = getattr(owner, "maxsize", 0)
    except Exception:  # noqa: BLE001  # an attribute may be any code of the service
        return 0
    return found if type(found) in {int, float} else 0


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the collector from looking again and again at what a walk allocates."""
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_enabled:
            gc.enable()


def _told(places: Mapping[str, _Place], roots: Iterable[Root]) -> tuple[Holding, ...]:
    holdings = []
    for place in places.values():
        site, is_keyed = holder_of(place.path, roots)
        users = tuple(sorted(place.users))
        holdings.append(
            Holding(place.path.text, site, users, place.count, is_keyed, place.is_data)
        )
    return tuple(holdings)


def holder_of(path: Path, roots: Iterable[Root]) -> tuple[str, bool]:
    """Return the line that made the place that holds something, and if by a key.

    The line is the deepest on the path that has one, down to the first container that
    the service made: what its entries are made of is not why they are still there.
    Where no line is known, any mapping on the way may be a cache.
    """
    modules = {
        vars(one).get("__name__"): one
        for _, one in roots
        if isinstance(one, types.ModuleType)
    }
    site = ""
    is_keyed = False
    steps = (*path.names, "")
    for index, (value, step) in enumerate(zip(path.nodes, steps, strict=True)):
        if step in _ENTRIES:
            is_mapping = is_a(value, dict | functools._lru_cache_wrapper)  # noqa: SLF001  # it has no public name
            if site:
                return site, is_mapping
            is_keyed = is_keyed or is_mapping
        # The dict of an object's attributes is a step without a name.
        name = step or (steps[index + 1] if index + 1 < len(steps) else "")
        site = _line_of(value, name.removeprefix("."), modules) or site
    return site or trunk_of(path.text), is_keyed and not site


def _line_of(
    value: Any,  # noqa: ANN401  # any object
    name: str,
    modules: Mapping[str | None, types.ModuleType],
) -> str:
    """Return the line of the service's own code that sets a name of an object."""
    names = [name] if name.isidentifier() else []
    if is_a(value, types.FunctionType):
        code = value.__code__
        is_own = value.__module__ in modules
        return relative_site(code.co_filename, code.co_firstlineno) if is_own else ""
    if is_a(value, types.ModuleType):
        return _line(value, names)
    cls = value if is_a(value, type) else type(value)
    module = modules.get(cls.__module__)
    if module is None or not names:
        return ""
    return _line(module, [*cls.__qualname__.split("."), *names])


def _line(module: types.ModuleType, names: list[str]) -> str:
    file = vars(module).get("__file__") or module.__name__
    return relative_site(file, line_of_name(module, names))
