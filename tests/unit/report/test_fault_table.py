"""The table of faults: on a terminal, for machines, and on a page."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from test_framework.check import judge
from test_framework.core import FaultRecord, History, UsageError
from test_framework.report import audit_document, print_judgement
from test_framework.report.faults_page import BEGIN, END, fill_page
from tests.unit.check.builder import MS, whole_run

S = 1000 * MS
PAGE = f"# Chaos\n\n{BEGIN}\nold\n{END}\n\nThe end.\n"


def disturbed() -> History:
    """Return a run with a fault that was overcome slowly, and one that could not strike."""
    builder = whole_run()
    builder.op(0, shape="fault: kill-worker", start_ms=2000)
    builder.history.add(
        FaultRecord(
            fault="kill-worker",
            promise="Nothing acknowledged is lost.",
            began_ns=0,
            ended_ns=30 * S,
            struck_ns=1 * S,
            healed_ns=3 * S,
            recovered_ns=15 * S,
            probes=2,
            deadlocks=0,
        )
    )
    builder.history.add(
        FaultRecord(
            fault="restart-redis",
            promise="No event is lost.",
            began_ns=30 * S,
            ended_ns=30 * S,
            reason="Redis was not started by this run",
        )
    )
    return builder.end()


def document() -> dict[str, Any]:
    """Return audit.json of that run, as it is read back."""
    history = disturbed()
    read: dict[str, Any] = json.loads(
        json.dumps(audit_document(judge(history), history))
    )
    return read


def filled(page: str = PAGE) -> str:
    """Return the page with the table of that run."""
    return fill_page(page, document(), on="2026-01-02", where="2 cores")


def test_terminal_shows_each_fault_that_struck() -> None:
    """The table stands before the verdict; what could not strike, below it."""
    console = Console(record=True, width=160, file=io.StringIO())
    history = disturbed()

    print_judgement(console, judge(history), history)

    lines = console.export_text().splitlines()
    (row,) = (line for line in lines if line.startswith("  kill-worker"))
    assert row.split() == [
        "kill-worker",
        "1",
        "0",
        "0",
        "seen",
        "0",
        "wrong",
        "of",
        "0",
        "0",
        "wrong",
        "of",
        "0",
        "0",
        "12.0",
        "s",
        "0",
        "failed",
        "not",
        "measured",
    ]
    told = "fault restart-redis: not exercised, because Redis was not started"
    assert any(told in line for line in lines)


def test_document_has_each_fault_and_promise() -> None:
    """Machines read verdicts, and why a fault was not exercised."""
    struck, left = document()["faults"]

    assert struck["recovery_s"] == 12.0
    assert struck["measured"]["recovery"] == {"verdict": "invalid", "told": "12.0 s"}
    assert left["measured"] == {}
    assert left["not_exercised"] == "Redis was not started by this run"


def test_page_keeps_its_text_around_the_table() -> None:
    """Only what stands between the markers is replaced, each time anew."""
    once = filled()

    assert once.startswith("# Chaos\n")
    assert once.endswith(f"{END}\n\nThe end.\n")
    assert "old" not in once
    assert filled(once) == once


def test_page_shows_what_broke_and_what_is_unknown() -> None:
    """Bold is broken, a question mark is unknown, a reason is told."""
    page = filled()

    assert "| `kill-worker` | 2 s | 1 | 0 | 0 seen | 0 wrong of 0 (?) |" in page
    assert "| **12.0 s** |" in page
    assert "Measured on 2026-01-02, 2 cores: 2 users," in page
    assert "Not exercised: `restart-redis`, because Redis was not started" in page


@pytest.mark.parametrize("page", ["no markers", f"{BEGIN}\n", f"{BEGIN}{BEGIN}{END}"])
def test_page_without_markers_is_refused(page: str) -> None:
    """Nothing is overwritten that was not meant to be."""
    with pytest.raises(UsageError, match="needs one line"):
        filled(page)


def test_audit_without_faults_fills_no_page() -> None:
    """An ordinary audit leaves the table of the last one alone."""
    history = whole_run().end()

    with pytest.raises(UsageError, match="had no faults"):
        fill_page(PAGE, audit_document(judge(history), history), on="x", where="y")
