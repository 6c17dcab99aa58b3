"""Settings of the service on the real Postgres and Redis of the test session."""

import os
from typing import Any

import pytest
from pydantic import SecretStr

from app.settings import Settings


@pytest.fixture(scope="session")
def settings(request: pytest.FixtureRequest) -> Settings:
    """Return settings for given services, or for those the test session started."""
    database_url = os.environ.get("DATABASE_URL")
    redis_url = os.environ.get("REDIS_URL")
    if not (database_url and redis_url):
        services: Any = request.getfixturevalue("services")
        database_url, redis_url = services.database_url, services.redis_url
    return Settings(
        database_url=SecretStr(str(database_url)),
        redis_url=SecretStr(str(redis_url)),
        signing_keys=SecretStr("k" * 40),
        password_memory_kib=8,
        password_passes=1,
        database_pool_size=8,
    )
