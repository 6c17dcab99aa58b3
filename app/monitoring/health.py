"""Health: is the process alive, and can it reach what it needs.

Liveness touches nothing, so a database outage does not make the orchestrator restart
healthy processes. Readiness asks every dependency at once, each under a time limit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

CHECK_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What the readiness check found.

    Attributes:
        is_ready: Every dependency answered.
        checks: Per dependency ``"ok"`` or the kind of error.
    """

    is_ready: bool
    checks: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HealthChecks:
    """The dependencies to ask, by name."""

    checks: Mapping[str, Callable[[], Awaitable[object]]]
    timeout_s: float = CHECK_TIMEOUT_S

    async def report(self) -> HealthReport:
        """Ask all dependencies at once; takes ``timeout_s`` at most."""
        results = await asyncio.gather(
            *(self._ask(check) for check in self.checks.values())
        )
        found = dict(zip(self.checks, results, strict=True))
        return HealthReport(all(result == "ok" for result in results), found)

    async def _ask(self, check: Callable[[], Awaitable[object]]) -> str:
        try:
            async with asyncio.timeout(self.timeout_s):
                await check()
        except Exception as exc:  # noqa: BLE001  # a check reports, whatever went wrong
            return type(exc).__name__
        return "ok"
