"""The report folder: what a run leaves on disk."""

from pathlib import Path
from typing import TYPE_CHECKING

from test_framework.core import History, UsageError, Verdict
from test_framework.report.document import audit_document, to_json
from test_framework.report.junit import junit_report
from test_framework.report.timeline import render_timeline

if TYPE_CHECKING:
    from test_framework.check import Judgement

HISTORY_NAME = "history.jsonl"
DOCUMENT_NAME = "audit.json"
JUNIT_NAME = "junit.xml"


def make_folder(path: Path) -> Path:
    """Make a folder, check that it can be written, and return it.

    Raises:
        UsageError: It cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as exc:
        message = (
            f"The report folder {str(path)!r} cannot be written: {exc.strerror}. "
            "Pass --report with a folder you may write to."
        )
        raise UsageError(message) from exc
    return path


def write_reports(folder: Path, judgement: "Judgement", history: History) -> list[Path]:
    """Write ``audit.json``, ``junit.xml`` and a page per failed check; return their paths.

    Raises:
        UsageError: The folder cannot be written, or the disk is full.
    """
    texts = {
        DOCUMENT_NAME: to_json(audit_document(judgement, history)),
        JUNIT_NAME: junit_report(judgement, history),
    }
    wrong = [one for one in judgement.objects if one.verdict is Verdict.INVALID]
    for number, checked in enumerate(wrong, 1):
        texts[f"timeline-{number}.html"] = render_timeline(checked, source=HISTORY_NAME)
    written = []
    for name, text in texts.items():
        path = folder / name
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as exc:
            message = (
                f"The report {str(path)!r} cannot be written: {exc.strerror}. Free "
                "some room, then run 'isolation-audit check' on the stored history."
            )
            raise UsageError(message) from exc
        written.append(path)
    return written


def put_away(folder: Path) -> None:
    """Move what an earlier run left to ``earlier/0001``, ``earlier/0002``, ...

    Nothing recorded is lost.
    """
    names = (HISTORY_NAME, DOCUMENT_NAME, JUNIT_NAME)
    paths = [folder / name for name in names]
    paths += sorted(folder.glob("timeline-*.html"))
    # A run that never started left an empty history.
    present = [path for path in paths if path.exists() and path.stat().st_size > 0]
    if not present:
        return
    earlier = folder / "earlier"
    number = 1 + max((int(entry.name) for entry in earlier.glob("[0-9]*")), default=0)
    drawer = earlier / f"{number:04d}"
    drawer.mkdir(parents=True)
    for path in present:
        path.rename(drawer / path.name)
