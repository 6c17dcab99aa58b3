"""Health of the running service: users can exhaust its pools and not its readiness."""

import asyncio
import dataclasses
from collections.abc import Callable

import pytest
from sqlalchemy import text

from app.api import Parts
from app.monitoring import HealthChecks
from app.settings import Settings
from tests.integration.app.service import Service, running

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


async def test_stopping_service_is_not_ready_first(settings: Settings) -> None:
    """Readiness goes down before anything else is taken down."""
    async with running(settings) as service:
        checks = service.parts.health
        assert await _probe(service) == "ready"

    assert (await checks.report()).state == "draining"
