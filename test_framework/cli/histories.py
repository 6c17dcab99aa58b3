"""``check``: a stored history is judged again, that of an audit or of anything else."""

import re
import sys
from pathlib import Path

import click
from rich.text import Text

from test_framework.check import judge
from test_framework.cli.audits import conclude
from test_framework.cli.output import make_console
from test_framework.core import History, UsageError
from test_framework.report import HISTORY_NAME, make_folder

_OF_AN_AUDIT = b'{"type":'
"""How each line of an audit's own history begins."""

_REPORT = re.compile(rb'\s*\{\s*"format":\s*\d+,\s*"verdict":')
"""How audit.json begins."""

_MOST = 10_000_000
"""Seconds, or MiB: more is a mistake, and so is what is no number."""


@click.command()
@click.argument("history_path", metavar="HISTORY", type=click.Path(path_type=Path))
@click.option("--report", help="Also write audit.json and junit.xml to this folder.")
@click.option(
    "--model",
    help="What is demanded: an object (register, queue, ...), an isolation level, "
    "session-guarantees, or non-interference between users.",
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="TOML file: what may flow between users.",
)
@click.option("--format", "format_name", help="Of a history that is not recognised.")
@click.option(
    "--page", type=click.Path(path_type=Path), help="Also write an HTML page."
)
@click.option("--seconds", type=float, help="Most time of a search.  [default: 60]")
@click.option("--memory", type=int, help="Most MiB of a search.  [default: 512]")
def check(  # one argument per option
    history_path: Path,
    report: str | None,
    model: str | None,
    policy: Path | None,
    format_name: str | None,
    page: Path | None,
    seconds: float | None,
    memory: int | None,
) -> None:
    """Judge a stored history: of an audit, or of calls or transactions.

    Reads Jepsen EDN and JSON, Porcupine logs, Plume text, dbcop and more; see
    docs/checkers.md.
    """
    options = {
        "--model": model,
        "--policy": policy,
        "--format": format_name,
        "--page": page,
        "--seconds": seconds,
        "--memory": memory,
    }
    _require_history(history_path)
    if _is_of_an_audit(history_path) and format_name is None:
        _refuse(
            [name for name, value in options.items() if value is not None], "audits"
        )
        _check_audit(history_path, report)
        return
    _refuse(["--report"] if report is not None else [], "other histories")
    _check_other(history_path, (model, policy), format_name, page, (seconds, memory))


def _is_of_an_audit(path: Path) -> bool:
    if path.is_dir():
        return (path / HISTORY_NAME).exists()
    try:
        with path.open("rb") as file:
            # What cannot be read is told by whoever reads it.
            return file.read(len(_OF_AN_AUDIT)) == _OF_AN_AUDIT
    except OSError:
        return True


def _require_history(path: Path) -> None:
    if path.exists() and not path.is_file() and not path.is_dir():
        message = (
            f"{str(path)!r} is neither a file nor a folder. A history is read more than "
            "once: save it to a file first."
        )
        raise UsageError(message)
    if path.is_file() and _REPORT.match(_head(path, 200)):
        message = (
            f"{str(path)!r} is what was judged of a run, and not its history. Pass "
            f"{str(path.with_name(HISTORY_NAME))!r}, which is written beside it."
        )
        raise UsageError(message)


def _head(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""  # what cannot be read is told by whoever reads it


def _refuse(names: list[str], of: str) -> None:
    if names:
        message = f"{' and '.join(names)}: not for {of}. Leave it out."
        raise UsageError(message)


def _check_audit(path: Path, report: str | None) -> None:
    console = make_console()
    history = History.load(path)
    judgement = judge(history)
    folder = Path(report) if report is not None else None
    if folder is not None:
        make_folder(folder)
    conclude(console, judgement, history, folder)


def _check_other(
    path: Path,
    demand: tuple[str | None, Path | None],
    format_name: str | None,
    page: Path | None,
    limits: tuple[float | None, int | None],
) -> None:
    # numpy, scipy and jinja2 are half of the time that a command needs to start.
    from test_framework.check.flow import FlowPolicy  # noqa: PLC0415  # see above
    from test_framework.check.formats import read_history  # noqa: PLC0415  # see above
    from test_framework.check.histories import check_history  # noqa: PLC0415  # see above
    from test_framework.check.linear import Limits  # noqa: PLC0415  # see above
    from test_framework.report.checked import print_checked  # noqa: PLC0415  # see above

    model, policy = demand
    usual = Limits()
    seconds, memory = limits
    for name, value in (("--seconds", seconds), ("--memory", memory)):
        if value is not None and not 0 < value < _MOST:
            message = f"{name} {value:g}: pass a number above 0, such as 60."
            raise UsageError(message)
    history = read_history(path, format_name=format_name)
    checked = check_history(
        history,
        model,
        limits=Limits(
            usual.seconds if seconds is None else seconds,
            usual.memory_bytes if memory is None else memory * 1024 * 1024,
        ),
        policy=FlowPolicy.load(policy) if policy is not None else None,
    )
    console = make_console()
    print_checked(console, checked, source=path.name)
    if page is not None:
        from test_framework.report.timeline import (  # noqa: PLC0415  # see above
            render_timeline,
        )

        try:
            page.write_text(
                render_timeline(checked, source=path.name),
                encoding="utf-8",
                errors="backslashreplace",
            )
        except OSError as exc:
            message = (
                f"The page {str(page)!r} cannot be written: {exc.strerror}. Pass --page "
                "with a file you may write."
            )
            raise UsageError(message) from exc
        console.print(Text(f"  Page: {page}", "dim"))
    sys.exit(checked.verdict.exit_code)
