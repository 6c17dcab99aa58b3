"""The webhook: brings messages about alerts out of the house, over HTTP.

The address may hold a secret and is never logged or told.
"""

import logging

import httpx

from app.monitoring.alerts import Batch, Delivery
from app.monitoring.logs import log_event

FORMAT = 1
TIMEOUT_S = 10.0
_REFUSED = frozenset({400, 413, 415, 422})
"""Status codes that speak of the message and not of the receiver's condition."""
_log = logging.getLogger("app.alerts")


class Webhook:
    """Posts messages to one address."""

    def __init__(self, url: str) -> None:
        """Post to ``url``; connects to nothing yet."""
        self._url = url
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False)

    async def send(self, batch: Batch) -> Delivery:
        """Post a message and say what became of it."""
        try:
            answer = await self._client.post(
                self._url,
                json=payload(batch),
                headers={"idempotency-key": batch.key},
            )
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            problem = type(exc).__name__
        else:
            if answer.is_success:
                return "taken"
            problem = f"HTTP {answer.status_code}"
            if answer.status_code in _REFUSED:
                log_event(_log, "alert.refused", level=logging.ERROR, problem=problem)
                return "refused"
        log_event(_log, "alert.not_sent", level=logging.WARNING, problem=problem)
        return "failed"

    async def aclose(self) -> None:
        """Give back connections."""
        await self._client.aclose()


def payload(batch: Batch) -> dict[str, object]:
    """Return a message as the JSON that is posted."""
    return {
        "format": FORMAT,
        "key": batch.key,
        "rule": batch.rule,
        "tier": batch.tier,
        "alerts": [
            {
                "id": notice.id,
                "event": notice.event,
                "component": notice.component,
                "summary": notice.summary,
                "at": notice.at.isoformat(),
            }
            for notice in batch.notices
        ],
    }
