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
    Twin("storage:create_cached_messages", "not-linearizable"),
    Twin("storage:create_clock_identifiers", "identifier-collision"),
    Twin("control:create_scaling_by_reading", "not-linearizable"),
    Twin("control:create_lease_for_everybody", "not-linearizable"),
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

LIKE_ANOTHER = {
    "agents:create_hasty_registry",
    "agents:create_shared_tracker",
    "auth:create_folded_names",
    "realtime:create_broadcast",
    "storage:create_cache_without_user",
    "storage:create_warm_sessions",
    "auth:create_callers_by_request_id",
    "outbound:create_shared_cookies",
    "control:create_scaling_by_reading",
    "control:create_lease_for_everybody",
}
"""Those that another one of the same rule stands for; ``make soak`` has them all."""

IN_THE_SOAK = {
    "auth:create_refresh_race",
    "http:create_public_answers",
    "http:create_remembered_header",
    "http:create_shared_log_context",
    "http:create_shared_problem",
    "realtime:create_teardown_leak",
    "storage:create_clock_identifiers",
}
"""Those whose rule has pairs of unit tests: a run of all of them takes too long."""

LINES = {
    "agents:create_shared_agent_state": "shared-update-lost",
    "agents:create_shared_tracker": "shared-write-clobbered",
    "agents:create_hasty_registry": "shared-write-clobbered",
    "storage:create_pooled_setting": "pool-state-kept",
    "http:create_remembered_header": "shared-write-clobbered",
    "http:create_shared_problem": "residue-of-departed",
    "http:create_shared_log_context": "shared-write-clobbered",
}
"""What a detector says of the line of the mistake."""

WARNED = {
    # They keep names alone, which may be meant.
    "realtime:create_broadcast": "residue-of-departed",
    "realtime:create_teardown_leak": "residue-of-departed",
    # Somebody else might give the slot back.
    "http:create_lost_slots": "lock-held-at-end",
}
"""The same, for what may be meant: a warning beside the finding."""

HANDLED = {
    "realtime:create_duplicated_events": "_Outbox.__call__",
    "storage:create_pooled_setting": "create_pooled_setting.get_threads",
    "storage:create_warm_sessions": "create_warm_sessions.get_documents",
    "storage:create_clock_identifiers": "create_clock_identifiers.number_thread",
    "http:create_public_answers": "_MakeCacheable.__call__",
    "http:create_lingering_context": "create_lingering_context.authenticate_current",
    "auth:create_callers_by_request_id": (
        "create_callers_by_request_id.authenticate_once"
    ),
}
"""Functions of the twins that the finding itself names, without any detector.

They answer where the damage was seen, or stand before or around what does: an endpoint,
a dependency, a middleware. Neither here nor in those are those of ``control``, whose
finding names the object that is wrong and the calls on it, and four whose mistake is an
ordinary line of something that a handler calls, and which leave no race and nothing
behind in the process: a cache key without the user, a refresh token that is looked at
and then spent (the race is in Postgres), accounts that are found without regard to case
(the wrong token was handed out by an earlier request), and cookies that are shared
(the conversation is kept upstream). Of those a finding names the endpoint that showed
the damage, and the one that planted what was seen.
"""

EACH_RUN = {"agents:create_shared_agent_state"}
"""The other lines are asked for by ``make soak``."""

TWO_USERS = {
    rule for rule in RULES if rule.startswith(("foreign-", "cached-", "canary-"))
} | {"identifier-collision", "log-names-another-user"}
"""Rules whose witness is two users; the others wrong one user alone."""


@pytest.mark.parametrize(
    "twin",
    [
        pytest.param(
            twin,
            id=twin.factory,
            marks=(
                pytest.mark.long if twin.factory in LIKE_ANOTHER | IN_THE_SOAK else ()
            ),
        )
        for twin in TWINS
    ],
)
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
    if twin.factory in HANDLED:
        place = f"tests/e2e/sabotage/{twin.factory.partition(':')[0]}.py:"
        named = [line for line in finding.handlers if place in line]
        assert HANDLED[twin.factory] in {line.split()[-1] for line in named}


@pytest.mark.parametrize(
    "twin",
    [
        pytest.param(
            twin,
            id=twin.factory,
            marks=() if twin.factory in EACH_RUN else pytest.mark.long,
        )
        for twin in TWINS
        if twin.factory in LINES | WARNED
    ],
)
def test_twin_is_named_at_its_line(
    twin: Twin, services: Services, tmp_path: Path
) -> None:
    """Beside the damage, the finding shows the source line that did it."""
    judgement = _audit(
        twin,
        services,
        tmp_path / "history.jsonl",
        detectors=("locks", "leaks", "hygiene"),
        track=("app", "tests.e2e.sabotage"),
    )

    module = twin.factory.partition(":")[0]
    rule = (LINES | WARNED)[twin.factory]
    at_its_line = [
        alarm
        for alarm in judgement.alarms
        if alarm.rule == rule and f"tests/e2e/sabotage/{module}.py:" in alarm.site
    ]
    assert judgement.findings[0].rule == twin.rule
    if twin.factory in WARNED:
        assert {alarm.level for alarm in at_its_line} == {"warning"}
    else:
        assert "error" in {alarm.level for alarm in at_its_line}
        assert any(line.startswith(rule) for line in judgement.findings[0].inside)


def _audit(
    twin: Twin,
    services: Services,
    path: Path,
    **given: Any,  # noqa: ANN401  # values of a Config
) -> Judgement:
    if twin.uvicorn is not None:
        given["uvicorn"] = twin.uvicorn
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
