"""Liveness and readiness, for orchestrators and load balancers."""

from fastapi import APIRouter, Response

from app.api.dependencies import PartsOf
from app.monitoring import HealthReport

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def get_live() -> dict[str, str]:
    """Say that the process runs."""
    return {"status": "ok"}


@router.get("/ready")
async def get_ready(parts: PartsOf, response: Response) -> HealthReport:
    """Say whether all dependencies answer; 503 when not."""
    report = await parts.health.report()
    if not report.is_ready:
        response.status_code = 503
    return report
