"""Postgres and Redis of the session, without the rest of the service."""

import os
from typing import Any

import pytest


def _url(request: pytest.FixtureRequest, variable: str, attribute: str) -> str:
    given = os.environ.get(variable)
    if given:
        return given
    services: Any = request.getfixturevalue("services")
    return str(getattr(services, attribute))


@pytest.fixture(scope="session")
def database_url(request: pytest.FixtureRequest) -> str:
    """Where Postgres listens."""
    return _url(request, "DATABASE_URL", "database_url")


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    """Where Redis listens."""
    return _url(request, "REDIS_URL", "redis_url")
