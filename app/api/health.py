"""Liveness, readiness and metrics, for orchestrators, load balancers and Prometheus.

Metrics are read with a token of their own. They name no user, but how much a service
is used, when, and how it fails is for its operators; the same port keeps the service
one process with one socket, and workers that share it tell the sum of all.
"""

import asyncio
import hmac

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from app.api.dependencies import PartsOf, bearer_token
from app.api.problems import Problem, unauthorized
from app.monitoring import HealthReport, MetricFilesError

router = APIRouter(tags=["health"])


@router.get("/health/live", responses={503: {"model": dict[str, str]}})
async def get_live(parts: PartsOf, response: Response) -> dict[str, str]:
    """Say that the process runs and its loop goes on; 503 when it stood still."""
    if not parts.heartbeat.is_alive:
        response.status_code = 503
        return {"status": "stalled"}
    return {"status": "ok"}


@router.get("/health/ready", responses={503: {"model": HealthReport}})
async def get_ready(parts: PartsOf, response: Response) -> HealthReport:
    """Say whether all dependencies answer; 503 when not."""
    report = await parts.health.report()
    if not report.is_ready:
        response.status_code = 503
    return report


@router.get("/metrics", include_in_schema=False)
async def get_metrics(request: Request, parts: PartsOf) -> Response:
    """Show the metrics of all workers to whoever has the operators' token."""
    expected = parts.settings.metrics_token
    if expected is None:
        raise Problem(404, "Metrics are not exposed. Set METRICS_TOKEN to read them.")
    token = bearer_token(request.headers.get("authorization", "")) or ""
    if not hmac.compare_digest(token.encode(), expected.get_secret_value().encode()):
        raise unauthorized(
            "Send the operators' token: `Authorization: Bearer <token>`."
        )
    parts.metrics.take_samples()
    try:
        # In a thread: it reads files, and may wait for another worker's scrape.
        text = await asyncio.to_thread(parts.metrics.render)
    except MetricFilesError as exc:
        raise Problem(503, str(exc)) from exc
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)
