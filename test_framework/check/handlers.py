"""Where in the service to look first: the functions that answered.

A foreign canary in an answer says what went wrong and not where. Where the service
runs in processes of ours, each finding also names the function that answers each
endpoint it was seen on and, for the witness, what runs before it and around it, since
a mistake may stand in a dependency or a middleware as well.
"""

from collections import defaultdict
from dataclasses import replace

from test_framework.core import Finding, History, Operation, RouteRecord

_MOST_ENDPOINTS = 6


def name_handlers(
    findings: tuple[Finding, ...], history: History
) -> tuple[Finding, ...]:
    """Return the findings with the source lines of what answered.

    Args:
        findings: Of this history.
        history: Its routes are empty unless the service was hosted, and its router
            tells what it calls.
    """
    routes: dict[str, list[RouteRecord]] = defaultdict(list)
    for route in history.of(RouteRecord):
        routes[route.endpoint].append(route)
    if not routes:
        return findings
    endpoints = {op.index: op.endpoint for op in history.of(Operation)}
    return tuple(
        replace(finding, handlers=tuple(_tell(finding, routes, endpoints)))
        for finding in findings
    )


def _tell(
    finding: Finding,
    routes: dict[str, list[RouteRecord]],
    endpoints: dict[int, str],
) -> list[str]:
    surfaces = [surface.rpartition(" [")[0] for surface in finding.surfaces]
    witness = endpoints.get(finding.operation or 0, finding.endpoint)
    asked = dict.fromkeys(_asked(one) for one in (witness, *surfaces))
    answered = [endpoint for endpoint in asked if endpoint in routes]
    lines = []
    for number, endpoint in enumerate(answered[:_MOST_ENDPOINTS]):
        for route in routes[endpoint]:
            lines.append(f"{endpoint}  {route.handler}")
            if number == 0:
                lines += [f"  before it  {line}" for line in route.before]
                lines += [f"  around it  {line}" for line in route.around]
    planted = endpoints.get(finding.planted_by or 0)
    if planted in routes and planted not in answered:
        lines += [f"planted by {planted}  {one.handler}" for one in routes[planted]]
    return lines


def _asked(endpoint: str) -> str:
    """Return what a client asked for: an event comes to who has connected."""
    kind, _, path = endpoint.partition(" ")
    return f"CONNECT {path}" if kind == "EVENT" else endpoint
