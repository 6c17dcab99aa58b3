"""The services, with the tables there."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from app.settings import Settings
from app.storage.migrate import migrate
from tests.integration.control.world import World, opened


@pytest.fixture(scope="session")
def migrated(settings: Settings) -> Settings:
    """Return settings of services whose tables are there."""
    asyncio.run(migrate(settings.owner_database_url))
    return settings


@pytest_asyncio.fixture
async def world(migrated: Settings) -> AsyncIterator[World]:
    """Connect to the services."""
    async with opened(migrated) as world:
        yield world
