"""Writes the table of faults of a run into a Markdown page, between its two markers.

``python -m test_framework.report.faults_page AUDIT PAGE``; ``make chaos`` does so for
docs/chaos.md.
"""

import datetime as dt
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from test_framework.core import UsageError, Verdict

BEGIN = "<!-- table: begin -->"
END = "<!-- table: end -->"


def markdown_table(faults: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of an ``audit.json`` as Markdown: what broke is bold."""
    exercised = [one for one in faults if one["measured"]]
    names = list(exercised[0]["measured"]) if exercised else []
    head = ["fault", "lasted", "met", "failed", *names]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for one in exercised:
        cells = [
            f"`{one['fault']}`",
            f"{one['seconds']:.0f} s",
            f"{one['overlapped']:,}",
            f"{one['failed']:,}",
            *(_cell(cell) for cell in one["measured"].values()),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    left = [one for one in faults if one["not_exercised"]]
    if left:
        lines.append("")
    lines += [
        f"Not exercised: `{one['fault']}`, because {one['not_exercised']}."
        for one in left
    ]
    return "\n".join(lines)


def _cell(cell: Mapping[str, str]) -> str:
    if cell["verdict"] == str(Verdict.INVALID):
        return f"**{cell['told']}**"
    return (
        f"{cell['told']} (?)"
        if cell["verdict"] == str(Verdict.UNKNOWN)
        else cell["told"]
    )


def fill_page(page: str, document: Mapping[str, Any], *, on: str, where: str) -> str:
    """Return a page with the table of a run between its markers.

    Args:
        page: Its text, with both markers.
        document: The ``audit.json`` of the run.
        on: Date of the run.
        where: What kind of machine it ran on; never which one.

    Raises:
        UsageError: The page lacks a marker, or the run had no faults.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        message = f"The page needs one line {BEGIN} and one line {END}. Add them."
        raise UsageError(message)
    if not document.get("faults"):
        message = "The audit had no faults. Pass that of 'make chaos'."
        raise UsageError(message)
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    facts = (
        f"Measured on {on}, {where}: {document['users']} users, "
        f"{document['requests']:,} requests, {document['websockets']:,} WebSockets and "
        f"{document['events']:,} events in {document['seconds']:.0f} seconds; "
        f"seed {document['seed']}, verdict {document['verdict']}."
    )
    table = markdown_table(document["faults"])
    return f"{before}{BEGIN}\n\n{facts}\n\n{table}\n\n{END}{after}"


def machine_class() -> str:
    """Return what kind of machine this is, as a reader needs it to compare."""
    return (
        f"{os.cpu_count()} cores, {platform.machine()} {platform.system()}, "
        f"Python {platform.python_version()}"
    )


def main(words: Sequence[str]) -> None:
    """Fill a page; ``words`` are the report and the page.

    Raises:
        UsageError: See ``fill_page``.
    """
    report, page = (Path(word) for word in words)
    document = json.loads(report.read_text(encoding="utf-8"))
    text = fill_page(
        page.read_text(encoding="utf-8"),
        document,
        on=dt.datetime.now(dt.UTC).date().isoformat(),
        where=machine_class(),
    )
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
