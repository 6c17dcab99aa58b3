"""Reports of a judged run: terminal, ``audit.json`` and ``junit.xml``."""

from test_framework.report.baseline import load_baseline, save_baseline
from test_framework.report.document import DOCUMENT_FORMAT, audit_document, to_json
from test_framework.report.folder import (
    DOCUMENT_NAME,
    HISTORY_NAME,
    JUNIT_NAME,
    make_folder,
    put_away,
    write_reports,
)
from test_framework.report.junit import junit_report
from test_framework.report.terminal import (
    TerminalProgress,
    print_judgement,
    render_finding,
)

__all__ = [
    "DOCUMENT_FORMAT",
    "DOCUMENT_NAME",
    "HISTORY_NAME",
    "JUNIT_NAME",
    "TerminalProgress",
    "audit_document",
    "junit_report",
    "load_baseline",
    "make_folder",
    "print_judgement",
    "put_away",
    "render_finding",
    "save_baseline",
    "to_json",
    "write_reports",
]
