"""The table fault x promise x measured: on a terminal and in ``audit.json``."""

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from test_framework.core import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from test_framework.check import Endured

_COLOURS = {Verdict.VALID: "", Verdict.UNKNOWN: "yellow", Verdict.INVALID: "bold red"}


def fault_table(faults: "Sequence[Endured]") -> Table:
    """Return the table for a terminal: what broke is red, what is unknown is yellow."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    exercised = [one for one in faults if one.measured]
    names = [one.promise for one in exercised[0].measured] if exercised else []
    for name in ("  Fault", "met", "failed", *names):
        table.add_column(name, no_wrap=True)
    for one in exercised:
        table.add_row(
            f"  {one.fault}",
            f"{one.overlapped:,}",
            f"{one.failed:,}",
            *(Text(cell.told, _COLOURS[cell.verdict]) for cell in one.measured),
        )
    return table


def faults_document(faults: "Sequence[Endured]") -> list[dict[str, Any]]:
    """Return the table for ``audit.json``."""
    return [
        {
            "fault": one.fault,
            "promise": one.promise,
            "not_exercised": one.not_exercised,
            "seconds": one.seconds,
            "overlapped": one.overlapped,
            "failed": one.failed,
            "recovery_s": one.recovery_s,
            "measured": {
                cell.promise: {"verdict": str(cell.verdict), "told": cell.told}
                for cell in one.measured
            },
        }
        for one in faults
    ]
