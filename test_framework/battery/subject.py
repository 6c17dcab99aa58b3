"""The implementation under test: made, used by the test itself, and given back."""

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from test_framework.battery.worker import Connectable, connected
from test_framework.core import UsageError

Subject = TypeVar("Subject")

Make = Callable[
    [],
    Subject
    | Connectable[Subject]
    | Awaitable[Subject]
    | Awaitable[Connectable[Subject]],
]
"""Makes a fresh implementation, of its own state; a function or a coroutine function."""


@contextlib.asynccontextmanager
async def made(make: Make[Any]) -> AsyncIterator[Any]:
    """Make an implementation, and give it back at the end.

    What has a coroutine function ``aclose`` is closed by it.

    Args:
        make: Makes it.

    Raises:
        UsageError: It is no function, or needs arguments.
    """
    if not callable(make):
        raise UsageError(
            f"{make!r} cannot be called. Pass what makes a fresh object, such as its "
            "class: each scenario takes a new one."
        )
    _require_no_arguments(make)
    subject: Any = make()
    if inspect.isawaitable(subject):
        subject = await subject
    try:
        yield subject
    finally:
        aclose = getattr(subject, "aclose", None)
        if aclose is not None:
            await aclose()


def _require_no_arguments(make: Make[Any]) -> None:
    try:
        inspect.signature(make).bind()
    except ValueError:
        return  # of a function in C nothing is known
    except TypeError as exc:
        name = getattr(make, "__name__", repr(make))
        message = (
            f"{name}() cannot be called without arguments: {exc}. Pass a function that "
            f"makes it, such as lambda: {name}(...)."
        )
        raise UsageError(message) from exc


async def ask(subject: object, method: str, *arguments: object) -> Any:  # noqa: ANN401  # whatever it answers
    """Call a method on a connection of its own, outside of any history."""
    async with connected(subject) as own:
        return await settled(getattr(own, method)(*arguments))


async def settled(answer: Any) -> Any:  # noqa: ANN401  # whatever it answers
    """Return an answer, awaited if it is to be."""
    return await answer if inspect.isawaitable(answer) else answer


@dataclass(frozen=True, slots=True)
class Offer:
    """What an implementation has of its protocol.

    Attributes:
        methods: Their names.
        is_async: Whether they are awaited, so that they can be cancelled.
    """

    methods: frozenset[str]
    is_async: bool


async def offer_of(subject: object, names: Iterable[str]) -> Offer:
    """Return which of some methods a worker's connection has."""
    async with connected(subject) as own:
        methods = {
            name: method
            for name in names
            if callable(method := getattr(own, name, None))
        }
    is_async = any(inspect.iscoroutinefunction(one) for one in methods.values())
    return Offer(frozenset(methods), is_async)


def name_of(make: object) -> str:
    """Return what reports call an implementation."""
    return str(getattr(make, "__qualname__", None) or make)
