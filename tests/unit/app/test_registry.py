"""The engine registry: one engine per user, whoever asks and however often."""

import asyncio

import pytest

from app.agents import EngineRegistry, ExecutionEngine, Workshop
from app.context import UserExecutionContext
from app.llm import LocalModel
from app.storage import SessionFactory
from tests.unit.app.parts import context_of


def workshop() -> Workshop:
    """Return a workshop whose database is never opened."""
    sessions = SessionFactory.__new__(SessionFactory)
    return Workshop(sessions, LocalModel(), (), run_timeout_s=1.0)


class Maker:
    """Makes engines when the test lets it, and counts them."""

    def __init__(self) -> None:
        """Hold all makings until ``gate`` is set."""
        self.gate = asyncio.Event()
        self.made: list[str] = []
        self.failures = 0

    async def __call__(
        self, context: UserExecutionContext, workshop: Workshop
    ) -> ExecutionEngine:
        """Make an engine."""
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            message = "the database is down"
            raise ConnectionError(message)
        self.made.append(context.user_id)
        return ExecutionEngine(context.user_id, workshop)


async def test_concurrent_first_requests_share_one_engine() -> None:
    """Thirty first requests of each of ten users make ten engines."""
    maker = Maker()
    registry = EngineRegistry(maker)
    users = [f"user-{number % 10}" for number in range(300)]
    asking = [
        asyncio.create_task(registry.engine_for(context_of(user), workshop()))
        for user in users
    ]
    await asyncio.sleep(0)

    maker.gate.set()
    engines = await asyncio.gather(*asking)

    assert sorted(maker.made) == sorted(set(users))
    assert [engine.user_id for engine in engines] == users
    assert len({id(engine) for engine in engines}) == 10


async def test_cancelled_caller_leaves_the_making() -> None:
    """A caller that is cancelled does not take the engine from those who wait."""
    maker = Maker()
    registry = EngineRegistry(maker)
    impatient, patient = (
        asyncio.create_task(registry.engine_for(context_of("ada"), workshop()))
        for _ in range(2)
    )
    await asyncio.sleep(0)

    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    maker.gate.set()

    assert (await patient).user_id == "ada"
    assert maker.made == ["ada"]


async def test_failed_making_is_tried_again() -> None:
    """A making that failed is forgotten, so the next request makes an engine."""
    maker = Maker()
    maker.gate.set()
    maker.failures = 1
    registry = EngineRegistry(maker)

    with pytest.raises(ConnectionError):
        await registry.engine_for(context_of("ada"), workshop())
    engine = await registry.engine_for(context_of("ada"), workshop())

    assert engine.user_id == "ada"


async def test_engine_does_not_keep_request_session() -> None:
    """The engine is made in a context without session or parent."""
    seen: list[UserExecutionContext] = []

    async def make(context: UserExecutionContext, tools: Workshop) -> ExecutionEngine:
        seen.append(context)
        return ExecutionEngine(context.user_id, tools)

    request = context_of("ada").child(run_id="run-1")
    await EngineRegistry(make).engine_for(request, workshop())

    assert (seen[0].session, seen[0].parent) == (None, None)


@pytest.mark.parametrize(("idle_s", "dropped"), [(0.0, 1), (3_600.0, 0)])
async def test_only_idle_engines_are_dropped(idle_s: float, dropped: int) -> None:
    """An engine without work goes after its idle time, not before."""
    maker = Maker()
    maker.gate.set()
    registry = EngineRegistry(maker, idle_s=idle_s)
    await registry.engine_for(context_of("ada"), workshop())

    assert registry.drop_idle() == dropped
    assert len(registry) == 1 - dropped


async def test_closed_registry_leaves_no_engine() -> None:
    """Closing ends the janitor and forgets all engines."""
    maker = Maker()
    maker.gate.set()
    registry = EngineRegistry(maker)
    await registry.start()
    await registry.engine_for(context_of("ada"), workshop())

    await registry.close()

    assert len(registry) == 0
