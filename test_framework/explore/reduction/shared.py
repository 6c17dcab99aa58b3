"""What a scenario says it shares, so that orders that differ in nothing count as one.

``shared(obj)`` watches the attributes and items of an object, ``access(key, write=...)``
reports a use of something that is no Python object (a Redis key, a row). Both do
something only inside of a run of ``explore(..., track=True)``.

What is watched: attributes of instances, keys of dictionaries, elements of sets; lists
and deques as a whole. What an object holds when it is registered is registered too.
What is not: mutable objects put in later that are not registered themselves. To read
such a value counts as a refusal to prove, never as "nothing shared".
"""

import types
from typing import Any, TypeVar

from test_framework.core import UsageError
from test_framework.explore.reduction.tracked import Recorder
from test_framework.explore.reduction.watched import (
    CONTAINERS,
    IMMUTABLE,
    Watched,
    recorder,
    watched_class,
)

T = TypeVar("T")


def shared(obj: T, name: str | None = None) -> T:
    """Watch what happens to an object, under ``explore(..., track=True)``.

    Use what it returns: an instance is watched itself, a dictionary, list, set or deque
    becomes a watched copy. Elsewhere ``obj`` is returned as it is.

    Args:
        obj: State that tasks share, made inside of the scenario.
        name: How reports call it; by default its type.

    Raises:
        UsageError: Its type cannot be watched.
    """
    active = recorder()
    watched: Any = None
    if active is not None:
        watched = _watch(active, obj)
    elif isinstance(obj, Watched) or type(obj) in CONTAINERS or _is_instance(obj):
        return obj
    if watched is None:
        raise UsageError(
            f"shared({obj!r}): a {type(obj).__name__} cannot be watched. Pass an "
            "instance of a class of yours, a dict, list, set or deque, or report each "
            "use with access(key, write=...)."
        )
    if active is not None:
        active.names[name or type(obj).__name__] = None
    return watched  # type: ignore[no-any-return]  # a T, or a watched copy of it


def access(key: str, *, write: bool) -> None:
    """Report that the running step uses something, such as a key in Redis.

    Args:
        key: What it uses; equal keys are the same thing.
        write: Whether it may change it.
    """
    active = recorder()
    if active is None:
        return
    active.names[key] = None
    bit = active.location(("access", key))
    if write:
        active.write(bit)
    else:
        active.read(bit)


def _watch(active: Recorder, obj: Any) -> Any:
    """Return ``obj`` or a copy of it, watched; None when that is not possible."""
    if isinstance(obj, Watched):
        return obj
    kind = CONTAINERS.get(type(obj))
    if kind is not None:
        copy = kind(_inside(active, obj))
        active.made(copy)
        return copy
    if not _is_instance(obj):
        return None
    try:
        base: Any = type(obj)
        obj.__class__ = watched_class(base)
    except TypeError:
        return None
    inside = object.__getattribute__(obj, "__dict__")
    active.made(obj)
    for name, value in list(inside.items()):
        watched = _watch(active, value)
        if watched is not None:
            inside[name] = watched
    return obj


def _inside(active: Recorder, container: Any) -> Any:
    """Return the content of a container with its containers watched."""

    def watched(value: Any) -> Any:
        inner = _watch(active, value)
        return value if inner is None else inner

    if isinstance(container, dict):
        return {key: watched(value) for key, value in container.items()}
    return type(container)(watched(value) for value in container)


def _is_instance(value: Any) -> bool:
    """Tell whether a value keeps all its state in attributes.

    What derives from a type written in C keeps some where no attribute shows it.
    """
    kind = type(value)
    return not (
        isinstance(value, IMMUTABLE)
        or kind is tuple
        or kind.__module__.startswith("asyncio")
        or any(
            isinstance(item, types.MethodDescriptorType)
            for base in kind.__mro__[:-1]
            for item in vars(base).values()
        )
    )
