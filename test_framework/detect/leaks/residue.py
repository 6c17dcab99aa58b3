"""What users who are gone left behind in the memory of the service.

After everybody has logged out, whatever still names one of them is held by somebody: a
module's variable, a default argument, a closure, an attribute of a long-lived object.
It is found by walking from the modules of the service and the application, with the
path that holds it. A cache that is meant to outlive its users is declared and left
alone. Classes that must not outlive their request, such as a context of execution, are
looked for in the same walk.
"""

import gc
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from test_framework.core import UsageError
from test_framework.detect.leaks.graph import Modules, Namer, Path, Walk
from test_framework.detect.leaks.modules import line_of_name, relative_site, resolve

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

Recognise = Callable[[str | bytes], Iterable[int]]
"""Returns the numbers of the users that a text names."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Things that one place holds.

    Attributes:
        path: How to come to the first of them.
        site: Source line that made the place.
        users: Whose they are, in order of their numbers; none for instances.
        count: How many (count, >= 1).
    """

    path: str
    site: str
    users: tuple[int, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Survey:
    """What one look at the memory found.

    Attributes:
        residue: Places that hold what names a user.
        survivors: Places that hold instances of the wanted classes, by class.
        loose: How many more instances live where the walk did not come, by class.
        objects: How many objects it met.
        unwatched: What it could not look at, and why.
    """

    residue: tuple[Holding, ...]
    survivors: Mapping[str, tuple[Holding, ...]]
    loose: Mapping[str, int]
    objects: int
    unwatched: tuple[str, ...]


@dataclass(slots=True)
class _Place:
    path: Path
    users: set[int]
    count: int = 1


def survey(
    roots: Mapping[str, object],
    *,
    recognise: Recognise,
    allowed: Collection[str] = (),
    classes: Collection[str] = (),
) -> Survey:
    """Walk from the roots and return what names a user and what should be gone.

    Synchronous: nothing of the loop runs meanwhile. Collects garbage first, for what
    nobody holds is not held.

    Args:
        roots: Modules by their names, and objects such as the application.
        recognise: Who is named by a text.
        allowed: Paths below which anything may stay, as alarms write them.
        classes: ``module:Class`` of which no instance may live.
    """
    gc.collect()
    known = dict(roots)
    excluded, unwatched = [], []
    for path in allowed:
        try:
            excluded.append(resolve(path, known))
        except UsageError as exc:
            unwatched.append(f"allowed_residue: {exc}")
    own = Modules(
        name for name, one in known.items() if isinstance(one, types.ModuleType)
    )
    walk = Walk(known, own=own, closed=CLOSED, excluded=excluded)
    named: dict[str, _Place] = {}
    surviving: dict[str, dict[str, _Place]] = {one: {} for one in classes}
    wanted = frozenset(classes)
    met: set[int] = set()
    namer = Namer()
    is_wanted: dict[type, str] = {}
    for node in walk:
        kind = type(node.value)
        if kind is str or kind is bytes or kind is bytearray:
            text = bytes(node.value) if kind is bytearray else node.value
            users = set(recognise(text))
            if users:
                _add(named, namer.path_to(node), users)
        elif wanted:
            name = is_wanted.get(kind)
            if name is None:
                name = is_wanted[kind] = _class_among(kind, wanted)
            if name:
                met.add(id(node.value))
                _add(surviving[name], namer.path_to(node), set())
    if not walk.is_complete:
        unwatched.append(
            f"the walk gave up after {walk.objects} objects; name the packages to look "
            "at to make it smaller"
        )
    return Survey(
        residue=_told(named, known),
        survivors={name: _told(places, known) for name, places in surviving.items()},
        loose=_loose(wanted, met) if wanted else {},
        objects=walk.objects,
        unwatched=tuple(unwatched),
    )


def _add(places: dict[str, _Place], path: Path, users: set[int]) -> None:
    # All that one container holds is one place.
    key = path.text.partition("[...]")[0]
    place = places.get(key)
    if place is None:
        places[key] = _Place(path, users)
    else:
        place.users |= users
        place.count += 1


def _told(
    places: Mapping[str, _Place], roots: Mapping[str, object]
) -> tuple[Holding, ...]:
    return tuple(
        Holding(
            place.path.text,
            site_of(place.path, roots),
            tuple(sorted(place.users)),
            place.count,
        )
        for place in places.values()
    )


def _class_among(kind: type, wanted: Collection[str]) -> str:
    for cls in kind.__mro__:
        name = f"{cls.__module__}:{cls.__qualname__}"
        if name in wanted:
            return name
    return ""


def _loose(wanted: Collection[str], met: Collection[int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in gc.get_objects():
        name = "" if id(value) in met else _class_among(type(value), wanted)
        if name:
            counts[name] = counts.get(name, 0) + 1
    return counts


def site_of(path: Path, roots: Mapping[str, object]) -> str:
    """Return the line that made the place: the deepest on the path that has one."""
    site = path.text.partition("[")[0].partition(".<")[0]
    for found in _sites(path, roots):
        site = found
    return site


def _sites(path: Path, roots: Mapping[str, object]) -> Iterator[str]:
    modules = {
        vars(one).get("__name__"): one
        for one in roots.values()
        if isinstance(one, types.ModuleType)
    }
    steps = (*path.names, "")
    for index, (value, step) in enumerate(zip(path.nodes, steps, strict=True)):
        name = step or (steps[index + 1] if index + 1 < len(steps) else "")
        attribute = [name[1:]] if name[1:].isidentifier() else []
        if isinstance(value, types.ModuleType):
            yield _line(value, attribute)
        elif isinstance(value, types.FunctionType):
            if value.__module__ in modules:
                code = value.__code__
                yield relative_site(code.co_filename, code.co_firstlineno)
        else:
            cls = value if isinstance(value, type) else type(value)
            module = modules.get(cls.__module__)
            if module is not None and attribute:
                yield _line(module, [*cls.__qualname__.split("."), *attribute])


def _line(module: types.ModuleType, names: list[str]) -> str:
    file = vars(module).get("__file__") or module.__name__
    return relative_site(file, line_of_name(module, names))
