"""Readiness: every dependency is asked, and none can hang the answer."""

import asyncio

from app.monitoring import HealthChecks


async def test_failed_and_hanging_checks_are_told() -> None:
    """A dependency that fails or hangs is named, and the others are still asked."""

    async def good() -> None:
        pass

    async def refused() -> None:
        message = "hunter2"
        raise ConnectionRefusedError(message)

    async def hanging() -> None:
        await asyncio.Event().wait()

    checks = HealthChecks(
        {"good": good, "refused": refused, "hanging": hanging}, timeout_s=0.01
    )

    report = await checks.report()

    assert not report.is_ready
    assert report.checks == {
        "good": "ok",
        "refused": "ConnectionRefusedError",
        "hanging": "TimeoutError",
    }


async def test_all_good_is_ready() -> None:
    """When every dependency answers the service is ready."""

    async def good() -> None:
        pass

    report = await HealthChecks({"one": good, "two": good}).report()

    assert report.is_ready
