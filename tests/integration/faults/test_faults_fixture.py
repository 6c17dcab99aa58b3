"""Tests of other people disturb their service with the fixture."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.long]

REPOSITORY = Path(__file__).parents[3]

PROJECT = f"""
[tool.isolation-audit]
target = "tests.targets.notes:create_app"
workers = 1
services = ["none"]
env = {{ PYTHONPATH = "{REPOSITORY}" }}

[tool.pytest.ini_options]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
"""

TESTS = """
import httpx
import pytest
from test_framework.core import UsageError


async def ask(faults):
    async with httpx.AsyncClient(base_url=faults.target.base_url) as client:
        return (await client.post("/login", json={"name": "ann"})).status_code


async def test_disturbed_and_healed(faults):
    assert await ask(faults) == 200
    async with faults("kill-worker,slow-network"):
        with pytest.raises(httpx.HTTPError):
            await ask(faults)
    assert await ask(faults) == 200


async def test_what_it_lacks_is_said(faults):
    with pytest.raises(UsageError, match="full-disk cannot strike here: postgres was"):
        async with faults("full-disk"):
            pytest.fail("the block ran")
    with pytest.raises(UsageError, match="no fault. Choose from all"):
        async with faults("full-moon"):
            pytest.fail("the block ran")
"""


def test_fixture_disturbs_and_heals(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several faults last for a block, and what cannot strike says why."""
    for name in ("DATABASE_URL", "REDIS_URL", "ISOLATION_TARGET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    pytester.makefile(".toml", pyproject=PROJECT)
    pytester.makepyfile(TESTS)

    result = pytester.runpytest_subprocess("-q", timeout=60)

    result.assert_outcomes(passed=2)
