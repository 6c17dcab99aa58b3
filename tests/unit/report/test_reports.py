"""Reports: what a run leaves for machines, CI systems and people."""

import json
from pathlib import Path

import pytest
from junitparser import JUnitXml
from rich.console import Console

from test_framework.check import Judgement, judge
from test_framework.core import History, RouteRecord, UsageError
from test_framework.report import (
    audit_document,
    junit_report,
    make_folder,
    print_judgement,
    put_away,
    write_reports,
)
from tests.unit.check.builder import canary, seen, whole_run


def leaking_run() -> History:
    """Return a run in which user 0 saw what user 1 wrote."""
    builder = whole_run(3)
    builder.op(0, "GET /inbox", seen=(seen(1),))
    return builder.end()


def text_of(history: History) -> str:
    """Return what a terminal of 100 columns shows of a judged run."""
    console = Console(record=True, width=100, file=Path("/dev/null").open("w"))  # noqa: SIM115  # rich keeps it open
    print_judgement(console, judge(history), history)
    text = console.export_text()
    console.file.close()
    return text


REQUIRED = {
    "verdict",
    "seed",
    "users",
    "requests",
    "websockets",
    "seconds",
    "in_flight_peak",
    "burst_spread_ms",
    "user_pairs_overlapped",
    "not_exercised",
    "findings",
}
REQUIRED_OF_FINDING = {
    "rule",
    "victim",
    "observer",
    "channel",
    "operation",
    "evidence",
    "fix",
    "repeat",
}


def document_of(history: History) -> dict[str, object]:
    """Return audit.json as a reader gets it."""
    document: dict[str, object] = json.loads(
        json.dumps(audit_document(judge(history), history))
    )
    return document


def test_document_holds_every_promised_field() -> None:
    """Machines find what the documentation promises."""
    document = document_of(leaking_run())

    findings = document["findings"]
    assert document.keys() >= REQUIRED
    assert isinstance(findings, list)
    assert findings[0].keys() >= REQUIRED_OF_FINDING
    assert document["verdict"] == "invalid"


def test_document_fields_are_all_documented() -> None:
    """docs/audit-json.md names every field of audit.json."""
    text = Path("docs/audit-json.md").read_text(encoding="utf-8")
    document = document_of(leaking_run())
    findings = document["findings"]
    assert isinstance(findings, list)

    missing = [name for name in [*document, *findings[0]] if f"`{name}`" not in text]

    assert missing == []


def test_finding_shows_the_lines_that_answered() -> None:
    """People and machines read where to look first."""
    history = leaking_run()
    history.add(RouteRecord("GET /inbox", "api.py:7 inbox", before=("who.py:3 who",)))

    text = text_of(history)
    (finding,) = audit_document(judge(history), history)["findings"]

    assert "   Handler  GET /inbox  api.py:7 inbox\n" in text.replace(" \n", "\n")
    assert "before it  who.py:3 who" in text
    assert finding["handlers"][0] == "GET /inbox  api.py:7 inbox"


def test_junit_fails_the_broken_rule_only() -> None:
    """CI shows one failed case per broken rule and passes the others."""
    history = leaking_run()

    report = JUnitXml.fromstring(junit_report(judge(history), history).encode())

    failed = [
        case.name
        for suite in report
        for case in list(suite)
        if case.result and case.result[0].type == "contamination"
    ]
    assert failed == ["foreign-canary-in-response"]


def test_junit_of_an_unproved_run_is_an_error() -> None:
    """A run that proved nothing must not look green in CI."""
    history = whole_run(1).end()

    report = junit_report(judge(history), history)

    assert 'errors="' in report
    assert "it takes two" in report


def test_finding_is_shown_as_a_small_proof() -> None:
    """The engineer sees both users, both operations, the cure and the repeat."""
    shown = text_of(leaking_run())

    expected = [
        "1. foreign-canary-in-response  a user received another user's data, 1 time",
        "   user-00 saw a canary of user-01 (note)",
        "     Let    w = op 3  user-01  POST /notes  200",
        "            r = op 7  user-00  GET /inbox  200",
        f"     Then   r holds canary {canary(1)} (body, raw, byte 0), which only",
        "   Repeat   repeat me",
        " INVALID   Users reached, or were hurt by, what belongs to others.  1 finding.",
    ]
    for line in expected:
        assert line in shown


def test_valid_run_ends_in_one_plain_sentence() -> None:
    """The manager reads one line."""
    shown = text_of(whole_run(3).end())

    assert " VALID   No user saw, changed or received what belongs to another." in shown


def test_unknown_run_says_why_and_is_no_pass() -> None:
    """A run that proved nothing says what was missing."""
    shown = text_of(whole_run(1).end())

    assert " UNKNOWN   The run proved nothing: do not read it as a pass." in shown
    assert "it takes two to see another's data" in shown


def judged() -> tuple[Judgement, History]:
    """Return a judged run."""
    history = leaking_run()
    return judge(history), history


def test_earlier_reports_are_kept(tmp_path: Path) -> None:
    """A new run moves the files of the one before, and loses none."""
    folder = tmp_path / "reports"

    for _ in range(3):
        put_away(make_folder(folder))
        write_reports(folder, *judged())

    kept = sorted(path.parent.name for path in folder.glob("earlier/*/audit.json"))
    assert kept == ["0001", "0002"]
    assert (folder / "audit.json").exists()


def test_report_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """A path that cannot be a folder gets a sentence with the cure."""
    path = tmp_path / "reports"
    path.write_text("")

    with pytest.raises(UsageError, match="Pass --report with a folder"):
        make_folder(path)
