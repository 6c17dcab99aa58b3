"""What the audit file declares as shared or allowed, as checkers ask for it."""

from test_framework.core import History, PolicyRecord


def public_endpoints(history: History) -> set[str]:
    """Return the endpoints whose answers all users may share."""
    return {
        endpoint for policy in history.of(PolicyRecord) for endpoint in policy.public
    }


def gates_of(history: History) -> dict[str, float]:
    """Return the largest P95 latency per endpoint, in seconds."""
    gates: dict[str, float] = {}
    for policy in history.of(PolicyRecord):
        gates.update(policy.p95_gates_s)
    return gates
