"""The engine registry under every order: one engine a user, and none after closing.

Makings take as long as the scheduler says, fail or are cancelled; callers leave at any
await; the janitor and the shutdown come at any instant.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from app.agents import ClosedError, EngineRegistry, ExecutionEngine, Workshop
from app.agents.registry import EngineFactory
from app.context import UserExecutionContext
from app.llm import LocalModel
from app.storage import SessionFactory
from test_framework.explore import Conclusion, Report, Scenario, explore, external
from tests.unit.app.exploring import USERS_ALONE, assert_found
from tests.unit.app.parts import context_of

_WORKSHOP = Workshop(
    SessionFactory.__new__(SessionFactory), LocalModel(), (), run_timeout_s=1.0
)

MakeRegistry = Callable[[EngineFactory], EngineRegistry]


def _never_dropping(factory: EngineFactory) -> EngineRegistry:
    return EngineRegistry(factory, idle_s=3_600)


@dataclass
class _Desk:
    """A registry, how its makings go, and who got what.

    Attributes:
        make_registry: Makes the registry over a factory.
        mishap: What the first making raises; None when it goes well.
        made: Whose engines were made, in order.
        given: Engine by the number of the caller.
        failed: Callers that were told of a failure.
        is_closed: The closing has returned.
    """

    make_registry: MakeRegistry = _never_dropping
    mishap: type[BaseException] | None = None
    made: list[str] = field(default_factory=list)
    given: dict[int, ExecutionEngine] = field(default_factory=dict)
    failed: list[int] = field(default_factory=list)
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.registry = self.make_registry(self._make)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        # Waits for makings that go on although their callers have left.
        await self.registry.close()

    async def _make(
        self, context: UserExecutionContext, workshop: Workshop
    ) -> ExecutionEngine:
        await external("database")
        if self.mishap is not None:
            mishap, self.mishap = self.mishap, None
            raise mishap("the database hung up")
        self.made.append(context.user_id)
        return ExecutionEngine(context.user_id, workshop)

    async def ask(self, number: int, user_id: str) -> ExecutionEngine:
        """Get a user's engine."""
        engine = await self.registry.engine_for(context_of(user_id), _WORKSHOP)
        assert engine.user_id == user_id, f"{user_id} got {engine.user_id}'s engine"
        self.given[number] = engine
        return engine


def _explored(
    desk: Callable[[], _Desk],
    user: Callable[[_Desk, int], Coroutine[Any, Any, None]],
    check: Callable[[_Desk], None] | None = None,
    *,
    users: int = 2,
    cancel: str = "",
    schedules: int = 1500,
) -> Report:
    return explore(
        Scenario(desk, user, check, users),
        fidelity="await",
        cancel=cancel,
        schedules=schedules,
        budget="90s",
        seed=1,
    )


# -- one engine a user ----------------------------------------------------------------


def _one_each(registry: MakeRegistry = _never_dropping) -> Report:
    """Let two requests of ada and one of bob come at one time; some leave."""

    async def ask(desk: _Desk, number: int) -> None:
        await desk.ask(number, "bob" if number == 2 else "ada")

    def check(desk: _Desk) -> None:
        assert len(set(desk.made)) == len(desk.made), f"made twice: {desk.made}"
        of_ada = {desk.given[n] for n in (0, 1) if n in desk.given}
        assert len(of_ada) <= 1, "ada has two engines"

    return _explored(lambda: _Desk(registry), ask, check, users=3, cancel=USERS_ALONE)


@pytest.mark.slow
def test_each_user_has_one_engine_whoever_leaves() -> None:
    """However requests of two users meet and leave, each user gets one engine."""
    report = _one_each()

    assert report.witness is None, report.text()


class _CheckThenSetRegistry(EngineRegistry):
    """Looks, awaits the making, and then sets: the textbook get-or-create."""

    def __init__(self, factory: EngineFactory) -> None:
        super().__init__(factory)
        self._ready: dict[str, ExecutionEngine] = {}

    async def engine_for(
        self, context: UserExecutionContext, workshop: Workshop
    ) -> ExecutionEngine:
        if context.user_id not in self._ready:
            self._ready[context.user_id] = await self._factory(context, workshop)
        return self._ready[context.user_id]


@pytest.mark.power
def test_engine_set_after_its_making_is_found() -> None:
    """A registry that remembers an engine only once it is made makes two."""
    assert_found(_one_each(_CheckThenSetRegistry), "assertion", "made twice")


# -- makings that fail ----------------------------------------------------------------


def _failing(
    mishap: type[BaseException], registry: MakeRegistry = _never_dropping
) -> Report:
    """Let the first making go wrong while two requests of one user wait for it."""

    async def ask(desk: _Desk, number: int) -> None:
        try:
            await desk.ask(number, "ada")
        except (ConnectionError, ClosedError):
            desk.failed.append(number)
        except asyncio.CancelledError:
            message = "was cancelled by nobody"
            raise AssertionError(message) from None

    def check(desk: _Desk) -> None:
        assert len(desk.failed) <= 1, "one failed making failed both requests"

    return _explored(lambda: _Desk(registry, mishap), ask, check)


@pytest.mark.parametrize("mishap", [ConnectionError, asyncio.CancelledError])
def test_failed_making_fails_only_who_began_it(mishap: type[BaseException]) -> None:
    """In every order the request that only waited gets an engine after all."""
    report = _failing(mishap)

    assert report.conclusion is Conclusion.PROVEN, report.text()


class _AwaitingRegistry(EngineRegistry):
    """Awaits whatever making there is, and takes its outcome for the own one."""

    async def engine_for(
        self, context: UserExecutionContext, workshop: Workshop
    ) -> ExecutionEngine:
        making = self._engines.get(context.user_id)
        if making is None:
            making = self._begin_making(context, workshop)
        self._touch(context.user_id)
        return await asyncio.shield(making)


@pytest.mark.power
@pytest.mark.parametrize(
    ("mishap", "words"),
    [(ConnectionError, "failed both"), (asyncio.CancelledError, "by nobody")],
)
def test_shared_failure_is_found(mishap: type[BaseException], words: str) -> None:
    """A registry that hands on what happened to a shared making is found."""
    assert_found(_failing(mishap, _AwaitingRegistry), "assertion", words)


# -- the janitor ----------------------------------------------------------------------


def _dropping(
    registry: Callable[[EngineFactory, float], EngineRegistry],
) -> Report:
    """Let the janitor come while a request gets its engine."""

    def make_registry(factory: EngineFactory) -> EngineRegistry:
        return registry(factory, 0.0)

    async def ask_or_drop(desk: _Desk, number: int) -> None:
        if number:
            await external("time")
            desk.registry.drop_idle()
            return
        engine = await desk.ask(number, "ada")
        kept = desk.registry._engines.get("ada")
        assert kept is not None, "got an engine that was dropped"
        assert kept.result() is engine, "got another engine than the registry's"

    return _explored(lambda: _Desk(make_registry), ask_or_drop)


def _idling(
    kind: type[EngineRegistry],
) -> Callable[[EngineFactory, float], EngineRegistry]:
    return lambda factory, idle_s: kind(factory, idle_s=idle_s)


def test_engine_is_in_registry_when_given() -> None:
    """Whenever the janitor comes, no request gets an engine that it has dropped."""
    report = _dropping(_idling(EngineRegistry))

    assert report.conclusion is Conclusion.PROVEN, report.text()


@pytest.mark.power
def test_engine_dropped_before_given_is_found() -> None:
    """A registry that does not look again gives an engine that it dropped."""
    report = _dropping(_idling(_AwaitingRegistry))

    assert_found(report, "assertion", "that was dropped")


# -- the shutdown ---------------------------------------------------------------------


def _closing(registry: MakeRegistry = _never_dropping) -> Report:
    """Close the registry while requests come."""

    async def ask_or_close(desk: _Desk, number: int) -> None:
        if number == 0:
            await desk.registry.start()
            await external("signal to stop")
            await desk.registry.close()
            desk.is_closed = True
            return
        await external("arrival")
        try:
            await desk.ask(number, "ada")
        except ClosedError:
            return
        assert not desk.is_closed, "got an engine after the registry was closed"

    def check(desk: _Desk) -> None:
        assert len(desk.registry) == 0, "an engine outlived the registry"

    return _explored(
        lambda: _Desk(registry), ask_or_close, check, users=3, schedules=600
    )


@pytest.mark.slow
def test_closed_registry_gives_no_engine() -> None:
    """Whenever requests come, none gets an engine after closing, and none is left."""
    report = _closing()

    assert report.witness is None, report.text()


class _OpenRegistry(_AwaitingRegistry):
    """Forgets its engines when it closes, and makes new ones afterwards."""

    def _refuse_if_closed(self) -> None:
        pass


@pytest.mark.power
def test_engine_made_after_closing_is_found() -> None:
    """A registry that can be asked after its end is found."""
    assert_found(_closing(_OpenRegistry), "assertion")
