"""Health checks as they are often written, each with one mistake."""

import asyncio

from app.monitoring import HealthChecks, HealthReport
from app.monitoring.health import _Dependency


class EagerChecks(HealthChecks):
    """Asks all dependencies for everybody who asks."""

    async def report(self) -> HealthReport:
        await asyncio.gather(*(one._check() for one in self._dependencies.values()))
        return HealthReport(True, "ready", {})  # noqa: FBT003  # as a dataclass is


class OwnedChecks(HealthChecks):
    """Shares a round that belongs to whoever began it."""

    async def report(self) -> HealthReport:
        if self._round is None or self._round.done():
            self._round = asyncio.ensure_future(self._ask_all())
        await self._round
        return self._told()


class PoliteDependency(_Dependency):
    """Waits until a check that takes too long lets itself be cancelled."""

    async def _outcome(self, timeout_s: float) -> str:
        try:
            async with asyncio.timeout(timeout_s):
                await self._check()
        except TimeoutError:
            return "TimeoutError"
        return "ok"
