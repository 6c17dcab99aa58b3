"""``matrix``: which anomalies a Postgres, or a service's sessions, let happen."""

import asyncio
import textwrap
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.text import Text

from test_framework.cli.output import make_console
from test_framework.core import UsageError, Verdict

if TYPE_CHECKING:
    from test_framework.battery.isolation import Cell, Matrix, PostgresLevel

_LEVELS = ("read committed", "repeatable read", "serializable")


@click.command()
@click.argument("dsn", required=False, envvar="DATABASE_URL")
@click.option(
    "--sessions",
    metavar="MODULE:FACTORY",
    help="Play through the sessions of a service, at the level they have.",
)
@click.option(
    "--level",
    type=click.Choice(_LEVELS),
    help="Play this level only; with --sessions, the level the service relies on.",
)
@click.option(
    "--fingerprint",
    is_flag=True,
    help="Name the level from what some seconds of load show, in place of the matrix.",
)
@click.option("--explain", metavar="ANOMALY", help="Tell what an anomaly is and does.")
def matrix(  # one argument per option
    dsn: str | None,
    sessions: str | None,
    level: str | None,
    *,
    fingerprint: bool,
    explain: str | None,
) -> None:
    """Play 14 anomalies on the Postgres at DSN (or DATABASE_URL), level by level.

    Exits with 1 if one is seen that its level forbids, or if sessions of the service
    commit by themselves, are shared, or have another level than it relies on.
    """
    # The battery loads numpy, which no other command should wait for.
    from test_framework.battery.isolation import (  # noqa: PLC0415  # see above
        SCENARIOS,
        PostgresLevel,
        load_sessions,
        run_matrix,
        run_sessions_matrix,
    )

    console = make_console()
    if explain is not None:
        _explain(console, explain)
        return
    if dsn is None:
        names = ", ".join(one.id for one in SCENARIOS)
        raise UsageError(
            "matrix needs a Postgres. Pass its address or set DATABASE_URL, or explain "
            f"an anomaly with --explain: {names}."
        )
    chosen = None if level is None else PostgresLevel(level)
    if fingerprint:
        _name_level(console, dsn, sessions, chosen)
        return
    if sessions is None:
        levels = tuple(PostgresLevel) if chosen is None else (chosen,)
        found = asyncio.run(run_matrix(dsn, levels))
    else:
        found = asyncio.run(run_sessions_matrix(load_sessions(sessions), dsn, chosen))
    _show(console, found)
    raise SystemExit(found.verdict.exit_code)


def _name_level(
    console: Console, dsn: str, sessions: str | None, level: "PostgresLevel | None"
) -> None:
    from test_framework.battery.isolation import (  # noqa: PLC0415  # see above
        PostgresLevel,
        fingerprint,
        load_sessions,
    )

    factory = None if sessions is None else load_sessions(sessions)
    found = asyncio.run(fingerprint(dsn, sessions=factory, level=level))
    named = "no level" if found.level is None else found.level.upper()
    shown = ", ".join(found.proof) or "no anomaly"
    told = (
        f"{named}: {found.committed} transactions that committed and {found.refused} "
        f"that were refused show {shown}."
    )
    console.print(Text(told), soft_wrap=True)
    for problem in found.problems:
        console.print(Text(f"PROBLEM  {problem}", "bold red"), soft_wrap=True)
    order = list(PostgresLevel)
    is_weaker = level is not None and (
        found.level is None or order.index(found.level) < order.index(level)
    )
    if level is not None and is_weaker and found.checked.anomalies:
        told = f"BROKEN   {level.upper()}: {found.checked.anomalies[0].claim}"
        console.print(Text(told, "bold red"), soft_wrap=True)
    is_broken = is_weaker or bool(found.problems)
    verdict = Verdict.INVALID if is_broken else Verdict.VALID
    console.print(Text(f"verdict: {verdict}."))
    raise SystemExit(verdict.exit_code)


def _show(console: Console, found: "Matrix") -> None:
    from test_framework.battery.isolation import SCENARIOS  # noqa: PLC0415  # see above

    first = max(len(one.id) for one in SCENARIOS)
    second = max(len(one.title) for one in SCENARIOS)
    widths = {level: max(len(level), 12) for level in found.levels}
    head = "  ".join(f"{level.upper():<{widths[level]}}" for level in found.levels)
    console.print(
        Text(f"{'':<{first}}  {'':<{second}}  {head}", "bold"), soft_wrap=True
    )
    for scenario in SCENARIOS:
        line = Text(f"{scenario.id:<{first}}  {scenario.title:<{second}}  ")
        for cell in found.cells:
            if cell.scenario is scenario:
                style = "bold red" if cell.is_broken else ""
                line.append(f"{_word(cell):<{widths[cell.level]}}  ", style)
        line.rstrip()
        console.print(line, soft_wrap=True)
    for problem in found.problems:
        console.print(Text(f"PROBLEM  {problem}", "bold red"), soft_wrap=True)
    for cell in found.cells:
        if cell.is_broken:
            told = f"BROKEN   {cell.level.upper()} let {cell.scenario.id} happen: "
            console.print(Text(told + cell.scenario.claim, "bold red"), soft_wrap=True)
        elif cell.is_stricter:
            told = f"STRICTER {cell.level.upper()} prevented {cell.scenario.id}."
            console.print(Text(told), soft_wrap=True)
    console.print(Text(_last_line(found)), soft_wrap=True)


def _word(cell: "Cell") -> str:
    if cell.is_allowed:
        return "BROKEN" if cell.is_broken else "allowed"
    return f"ok ({cell.how})" if cell.how else "ok"


def _last_line(found: "Matrix") -> str:
    if found.verdict is Verdict.INVALID:
        return (
            f"verdict: {found.verdict}. 'isolation-audit matrix --explain ANOMALY' tells "
            "what one does and what to do."
        )
    return f"verdict: {found.verdict}. Of {len(found.cells)} cells none is broken."


def _explain(console: Console, name: str) -> None:
    from test_framework.battery.isolation import (  # noqa: PLC0415  # see above
        PUBLISHED,
        PostgresLevel,
        find_scenario,
    )

    one = find_scenario(name)
    console.print(Text(f"{one.id}: {one.title}", "bold"), soft_wrap=True)
    console.print(Text(one.claim))
    console.print(Text(f"In a service: {one.harm}"))
    console.print()
    names = list(dict.fromkeys(step.who for step in one.steps))
    console.print(Text("The table t holds (1, 100) and (2, 200)."))
    for step in one.steps:
        lane = "  " * names.index(step.who)
        text = f"{lane}{step.who}  {step.what.format(t='t')}"
        console.print(Text(textwrap.indent(text, "  ")), soft_wrap=True)
    console.print()
    for level in PostgresLevel:
        is_allowed = one.id in PUBLISHED[level]
        word = "can happen" if is_allowed else "is prevented"
        console.print(Text(f"  {level.upper():<16} {word}"), soft_wrap=True)
    console.print(Text(f"Cure: {one.cure}"))
    console.print(
        Text("Cases and levels: Hermitage, Martin Kleppmann, CC-BY 4.0."),
        soft_wrap=True,
    )
