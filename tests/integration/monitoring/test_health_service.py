"""Health of the running service: users can exhaust its pools and not its readiness."""

import asyncio
import dataclasses
import signal
from collections.abc import Callable, Iterator

import httpx
import pytest
from sqlalchemy import text

from app.api import Parts
from app.monitoring import Draining, HealthChecks
from app.settings import Settings
from tests.integration.app.service import Service, running, serving

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PROBES = 50


def asks_pool_of_users(parts: Parts) -> Parts:
    """Let the checks share their connections with the requests."""

    async def ask_database() -> None:
        async with parts.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    checks = HealthChecks({"postgres": ask_database}, timeout_s=0.3)
    return dataclasses.replace(parts, health=checks)


async def _states_under_exhaustion(
    settings: Settings, replace: Callable[[Parts], Parts] | None
) -> set[str]:
    """Return what probes are told while users hold every connection of the pool."""
    one = settings.model_copy(update={"database_pool_size": 1})
    async with (
        running(one, replace=replace) as service,
        service.member() as ada,
        service.context(ada.user_id),
    ):
        return set(await asyncio.gather(*(_probe(service) for _ in range(PROBES))))


async def _probe(service: Service) -> str:
    async with service.http() as http, asyncio.timeout(10):
        answer = await http.get("/health/ready")
        return str(answer.json()["state"])


async def test_exhausted_pool_is_no_outage(settings: Settings) -> None:
    """With every connection in use, fifty probes are told at once that all is well."""
    assert await _states_under_exhaustion(settings, None) == {"ready"}


@pytest.mark.power
async def test_checks_on_the_users_pool_are_found(settings: Settings) -> None:
    """Checks that take a user's connection report an outage that is none."""
    states = await _states_under_exhaustion(settings, asks_pool_of_users)

    assert states == {"starting"}


@pytest.fixture
def stopped() -> Iterator[list[int]]:
    """The signals that reach the process once its server is done with them."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


async def test_draining_service_still_serves(
    settings: Settings, stopped: list[int]
) -> None:
    """After SIGTERM the service is not ready and answers on, until a second one comes."""
    draining = settings.model_copy(update={"drain_s": 100.0})
    async with serving(draining) as service, service.http() as http:
        before = (await http.get("/health/ready")).status_code
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        during = (await http.get("/health/ready")).json()["state"]
        answer = await http.get("/health/live")
        signal.raise_signal(signal.SIGTERM)
        for _ in range(400):
            try:
                await http.get("/health/live")
            except httpx.HTTPError:
                break
            await asyncio.sleep(0.05)

    assert (before, during, answer.status_code) == (200, "draining", 200)
    assert stopped == [signal.SIGTERM]


async def test_signal_is_passed_on_in_the_end(stopped: list[int]) -> None:
    """The server is told when the time to drain is over."""
    draining = Draining(lambda: None, delay_s=0.01)
    draining.start()

    signal.raise_signal(signal.SIGTERM)
    at_once = list(stopped)
    for _ in range(1_000):
        if stopped:
            break
        await asyncio.sleep(0.01)
    draining.close()

    assert (at_once, stopped) == ([], [signal.SIGTERM])


async def test_second_signal_is_not_delayed(stopped: list[int]) -> None:
    """Whoever sends a second SIGTERM does not want to wait."""
    begun: list[bool] = []
    draining = Draining(lambda: begun.append(True), delay_s=100)
    draining.start()

    signal.raise_signal(signal.SIGTERM)
    await asyncio.sleep(0)
    after_first = list(stopped)
    signal.raise_signal(signal.SIGTERM)
    draining.close()

    assert (begun, after_first, stopped) == ([True], [], [signal.SIGTERM])


async def test_stopping_service_is_not_ready_first(settings: Settings) -> None:
    """Readiness goes down before anything else is taken down."""
    async with running(settings) as service:
        checks = service.parts.health
        assert await _probe(service) == "ready"

    assert (await checks.report()).state == "draining"
