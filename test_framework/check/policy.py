"""What the audit file declares as shared or allowed, as checkers ask for it."""

from test_framework.core import History, PolicyRecord


def public_endpoints(history: History) -> set[str]:
    """Return the endpoints whose answers all users may share."""
    return {
        endpoint for policy in history.of(PolicyRecord) for endpoint in policy.public
    }


def gap_events(history: History) -> set[str]:
    """Return the types of events that say that numbers jump."""
    return {policy.event_gap for policy in history.of(PolicyRecord) if policy.event_gap}


def gates_of(history: History) -> dict[int, dict[str, float]]:
    """Return the largest latencies per endpoint in seconds, by percentile."""
    gates: dict[int, dict[str, float]] = {50: {}, 95: {}, 99: {}}
    for policy in history.of(PolicyRecord):
        gates[50] |= policy.p50_gates_s
        gates[95] |= policy.p95_gates_s
        gates[99] |= policy.p99_gates_s
    return gates


def floors_of(history: History) -> dict[str, float]:
    """Return the least latencies per endpoint, in seconds."""
    floors: dict[str, float] = {}
    for policy in history.of(PolicyRecord):
        floors |= policy.floors_s
    return floors
