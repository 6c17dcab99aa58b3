"""Applications and factories are told apart."""

import functools
import sys
import types
from collections.abc import Awaitable
from typing import Any

import pytest

from test_framework.services.worker import load_target


async def application(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI
    """Be an application."""


class Service:
    """An application as an object."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI
        """Be an application."""


class Middleware:
    """An application whose call is not a coroutine function."""

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:  # noqa: ANN401  # ASGI
        """Be an application."""
        return application(scope, receive, send)


def factory() -> Service:
    """Make an application."""
    return Service("made")


def factory_with_options(
    name: str = "made", first: str = "", last: str = ""
) -> Service:
    """Make an application; three arguments would fit as well."""
    return Service(first + name + last)


async def asynchronous_factory() -> Service:
    """Make an application, but only when awaited."""
    return Service()


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An importable module."""
    made = types.ModuleType("service_to_load")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


@pytest.mark.parametrize("candidate", [application, Service("it"), Middleware()])
def test_application_is_taken_as_it_is(
    module: types.ModuleType, candidate: object
) -> None:
    """What takes three arguments is not called."""
    module.it = candidate  # type: ignore[attr-defined]  # a module made for the test

    assert load_target("service_to_load:it") is candidate


@pytest.mark.parametrize(
    "candidate",
    [
        factory,
        factory_with_options,
        functools.partial(Service, "made"),
        functools.partial(factory_with_options, name="made"),
    ],
)
def test_factory_is_called(module: types.ModuleType, candidate: object) -> None:
    """What can be called without arguments makes the application."""
    module.it = candidate  # type: ignore[attr-defined]  # a module made for the test

    made = load_target("service_to_load:it")

    assert isinstance(made, Service)
    assert made.name == "made"


def test_class_is_a_factory(module: types.ModuleType) -> None:
    """An application class is instantiated."""
    module.it = Service  # type: ignore[attr-defined]  # a module made for the test

    assert isinstance(load_target("service_to_load:it"), Service)


def test_attribute_of_attribute_is_followed(module: types.ModuleType) -> None:
    """Dots lead further."""
    service = Service()
    module.outer = types.SimpleNamespace(inner=service)  # type: ignore[attr-defined]  # see above

    assert load_target("service_to_load:outer.inner") is service


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (42, "neither an ASGI application nor a function"),
        (lambda one: one, "neither an ASGI application nor a function"),
        (asynchronous_factory, "neither an ASGI application nor a function"),
        (lambda: 42, "it returned int"),
    ],
)
def test_anything_else_is_refused(
    module: types.ModuleType, candidate: object, words: str
) -> None:
    """What is neither is named."""
    module.it = candidate  # type: ignore[attr-defined]  # a module made for the test

    with pytest.raises(SystemExit, match=words):
        load_target("service_to_load:it")


def test_missing_attribute_is_named(module: types.ModuleType) -> None:
    """The message says what the module lacks."""
    with pytest.raises(SystemExit, match="'service_to_load' has no attribute 'absent'"):
        load_target(f"{module.__name__}:absent")
