"""Real Postgres and Redis of the test session, and settings of the service on them."""

import os
from typing import Any

import pytest
from pydantic import SecretStr

from app.settings import Settings


def _url(request: pytest.FixtureRequest, variable: str, attribute: str) -> str:
    given = os.environ.get(variable)
    if given:
        return given
    services: Any = request.getfixturevalue("services")
    return str(getattr(services, attribute))


@pytest.fixture(scope="session")
def database_url(request: pytest.FixtureRequest) -> str:
    """Where Postgres listens: a given one, or that of the test session."""
    return _url(request, "DATABASE_URL", "database_url")


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    """Where Redis listens: a given one, or that of the test session."""
    return _url(request, "REDIS_URL", "redis_url")


@pytest.fixture(scope="session")
def settings(database_url: str, redis_url: str) -> Settings:
    """Return settings of the service on the services."""
    return Settings(
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        signing_keys=SecretStr("k" * 40),
        password_memory_kib=8,
        password_passes=1,
        database_pool_size=8,
        # A hundred users wait for eight connections; on a busy machine that takes time.
        database_pool_timeout_s=60.0,
        # The tests of controllers start those they need.
        leader_election="none",
    )
