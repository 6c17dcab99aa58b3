"""Every vulnerable twin is caught, by the right rule, as one finding, within seconds.

Each twin is the reference service with one realistic mistake, run as real worker
processes on real Postgres and Redis and audited by the same audit file. A handful
of users and the traffic shapes that the mistake needs are enough.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from test_framework.check import RULES, Judgement
from test_framework.config import load_config
from test_framework.core import History, Verdict
from test_framework.services import Services
from test_framework.staging import perform

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.power]

USERS = 12
OWN = ("own-connections",)


class Twin(NamedTuple):
    """A twin and how it is to be caught.

    Attributes:
        factory: Module and function below ``tests.e2e.sabotage``.
        rule: The rule that names it.
        shapes: Traffic shapes that the mistake needs.
        users: Users of the audit.
        uvicorn: Server options that the mistake needs.
    """

    factory: str
    rule: str
    shapes: tuple[str, ...] = OWN
    users: int = USERS
    uvicorn: dict[str, Any] | None = None


TWINS = [
    Twin("agents:create_shared_agent_state", "foreign-canary-in-event"),
    Twin("agents:create_shared_tracker", "own-data-wrong"),
    Twin("agents:create_hasty_registry", "own-data-wrong"),
    Twin("realtime:create_broadcast", "foreign-canary-in-event"),
    Twin("realtime:create_duplicated_events", "event-duplicated"),
    Twin("realtime:create_teardown_leak", "left-behind"),
    Twin("storage:create_pooled_setting", "foreign-canary-in-response"),
    Twin(
        "storage:create_warm_sessions",
        "foreign-canary-in-response",
        (*OWN, "read-bursts"),
    ),
    Twin("storage:create_cache_without_user", "foreign-canary-in-response"),
    Twin("storage:create_clock_identifiers", "identifier-collision"),
    Twin("http:create_remembered_header", "foreign-canary-in-header"),
    Twin(
        "http:create_shared_problem",
        "foreign-canary-in-error",
        (*OWN, "error-paths"),
    ),
    Twin("http:create_public_answers", "cached-for-another", (*OWN, "caching-proxy")),
    Twin(
        "http:create_lingering_context",
        "canary-shown-to-visitor",
        (*OWN, "shared-connections"),
        uvicorn={"reset_contextvars": False, "loop": "asyncio"},
    ),
    Twin("http:create_shared_log_context", "log-names-another-user"),
    Twin("http:create_lost_slots", "bystander-failed", (*OWN, "disconnects"), 16),
    Twin("auth:create_refresh_race", "acted-more-than-once"),
    Twin(
        "auth:create_folded_names",
        "foreign-canary-in-response",
        (*OWN, "colliding-identifiers"),
    ),
    Twin(
        "auth:create_callers_by_request_id",
        "foreign-canary-in-response",
        (*OWN, "colliding-identifiers"),
    ),
    Twin("outbound:create_shared_cookies", "foreign-canary-in-event"),
]

TWO_USERS = {
    rule for rule in RULES if rule.startswith(("foreign-", "cached-", "canary-"))
} | {"identifier-collision", "log-names-another-user"}
"""Rules whose witness is two users; the others wrong one user alone."""


@pytest.mark.parametrize("twin", TWINS, ids=[twin.factory for twin in TWINS])
def test_twin_is_caught_by_its_rule(
    twin: Twin, services: Services, tmp_path: Path
) -> None:
    """The twin is found invalid: one finding, of its rule, with a whole witness."""
    judgement = _audit(twin, services, tmp_path / "history.jsonl")

    assert judgement.verdict is Verdict.INVALID
    assert [finding.rule for finding in judgement.findings] == [twin.rule]
    (finding,) = judgement.findings
    assert finding.victim.startswith("user-")
    assert (finding.observer is not None) == (twin.rule in TWO_USERS)
    assert finding.observer != finding.victim
    assert finding.evidence
    assert finding.fix == RULES[twin.rule].fix
    assert twin.factory in finding.repeat


def _audit(twin: Twin, services: Services, path: Path) -> Judgement:
    given: dict[str, Any] = {} if twin.uvicorn is None else {"uvicorn": twin.uvicorn}
    config = load_config(
        start=Path(__file__).parent,
        target=f"tests.e2e.sabotage.{twin.factory}",
        users=twin.users,
        shapes=twin.shapes,
        **given,
    )
    environ = os.environ | {
        "DATABASE_URL": str(services.database_url),
        "REDIS_URL": str(services.redis_url),
    }
    history = History(path)
    try:
        return perform(config, history, environ=environ)
    finally:
        history.close()
