"""``patterns``: the catalogue of ways in which users get into each other's way."""

import textwrap
from itertools import groupby

import click
from rich.console import Console
from rich.text import Text

from test_framework.catalogue import (
    MEANS,
    Area,
    Pattern,
    find_pattern,
    load_matrix,
    load_patterns,
    load_themes,
)
from test_framework.catalogue.code import mend, vulnerable_code
from test_framework.cli.output import make_console
from test_framework.core import UsageError


@click.command()
@click.argument("id", metavar="[ID]", required=False)
@click.option(
    "--area", type=click.Choice([str(area) for area in Area]), help="What it strikes."
)
@click.option("--detector", type=click.Choice(MEANS), help="What ought to find it.")
def patterns(
    id: str | None,  # the word of the catalogue
    area: str | None,
    detector: str | None,
) -> None:
    """List the race patterns of the catalogue, or explain one, such as P03."""
    console = make_console()
    if id is None:
        _list(console, area, detector)
    elif area or detector:
        raise UsageError(
            f"--area and --detector choose from the list, and {id} is one pattern "
            "already. Leave one or the other out."
        )
    else:
        _explain(console, find_pattern(id))


def _list(console: Console, area: str | None, detector: str | None) -> None:
    chosen = [
        one
        for one in load_patterns()
        if (area is None or area in one.areas)
        and (detector is None or detector in one.detectors)
    ]
    themes = load_themes()
    for theme, group in groupby(chosen, lambda one: one.theme):
        console.print(Text(themes[theme].rstrip("."), "bold"), soft_wrap=True)
        for one in group:
            console.print(Text(f"  {one.id}  {one.title}"), soft_wrap=True)
    console.print(
        Text(f"{len(chosen)} patterns; 'isolation-audit patterns ID' explains one.")
    )


def _explain(console: Console, pattern: Pattern) -> None:
    facts = {
        "Strikes": ", ".join(pattern.areas) or "any shared state",
        "Needs": str(pattern.needs),
        "Ought to be found by": ", ".join(pattern.detectors),
        "Measured": _measured(pattern),
        "Source": pattern.source,
        "File": str(pattern.file),
    }
    width = max(map(len, facts))
    console.print(Text(f"{pattern.id}  {pattern.title}", "bold"), soft_wrap=True)
    console.print(Text(pattern.mechanism))
    console.print(Text(f"Mend: {pattern.fix}"))
    console.print()
    for name, value in facts.items():
        console.print(Text(f"{name:<{width}}  {value}"), soft_wrap=True)
    for head, body in (
        ("What happens", pattern.interleaving),
        ("Vulnerable", vulnerable_code(pattern)),
        ("Safe: what is different", mend(pattern)),
    ):
        console.print()
        console.print(Text(head, "bold"))
        console.print(Text(textwrap.indent(body, "    ")), soft_wrap=True)


def _measured(pattern: Pattern) -> str:
    outcomes = load_matrix().get(pattern.id, {})
    return ", ".join(f"{means} {outcome}" for means, outcome in outcomes.items())
