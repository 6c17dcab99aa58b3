"""A finding names the lines that answered where it was seen."""

from test_framework.check import judge
from test_framework.core import Finding, RouteRecord, Seen
from tests.unit.check.builder import Builder, whole_run

READ = RouteRecord(
    "GET /notes", "api.py:7 notes", before=("who.py:3 who",), around=("log.py:1 Log",)
)
WRITE = RouteRecord("POST /notes", "api.py:2 add")
SOCKET = RouteRecord("CONNECT /ws", "live.py:9 live")


def leaked(builder: Builder, *routes: RouteRecord, **seen_in: str) -> Finding:
    """Return the finding of user 1 who sees what user 0 has planted."""
    builder.op(0, "POST /notes", planted=("u0/9",))
    found = (Seen(0, "u0/9", "raw", "body", 0),)
    builder.op(1, seen=found, **seen_in)
    for route in routes:
        builder.history.add(route)
    (finding,) = judge(builder.end()).findings
    return finding


def test_finding_names_function_dependencies_and_middleware() -> None:
    """All that the witness passed, and the line that planted what it saw."""
    finding = leaked(whole_run(), READ, WRITE)

    assert finding.handlers == (
        "GET /notes  api.py:7 notes",
        "  before it  who.py:3 who",
        "  around it  log.py:1 Log",
        "planted by POST /notes  api.py:2 add",
    )


def test_event_is_answered_by_what_took_the_socket() -> None:
    """Events come over a connection, whose handler sent them."""
    finding = leaked(
        whole_run(), SOCKET, WRITE, endpoint="EVENT /ws", channel="websocket"
    )

    assert finding.handlers[0] == "CONNECT /ws  live.py:9 live"


def test_service_that_was_not_hosted_names_no_lines() -> None:
    """Without routes there is nothing to tell, and nothing is guessed."""
    assert leaked(whole_run()).handlers == ()


def test_route_of_another_endpoint_is_not_told() -> None:
    """What answered elsewhere has nothing to do with it."""
    other = RouteRecord("GET /others", "api.py:99 others")

    assert leaked(whole_run(), other).handlers == ()
