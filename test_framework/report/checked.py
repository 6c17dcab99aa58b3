"""The answer of a checker on a terminal: verdict first, then each proof in sentences."""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from test_framework.check.witness import Anomaly, Checked
from test_framework.core import Verdict

_COLOURS = {Verdict.VALID: "green", Verdict.UNKNOWN: "yellow", Verdict.INVALID: "red"}
_MOST_SHOWN = 8
"""Anomalies; more of one history seldom tell more."""


def print_checked(console: Console, checked: Checked, *, source: str) -> None:
    """Print what a checker says of a history.

    Args:
        console: Where to.
        checked: What it says.
        source: Name of the history.
    """
    for number, anomaly in enumerate(checked.anomalies[:_MOST_SHOWN], 1):
        for line in _tell(number, anomaly):
            console.print(line, soft_wrap=True)
        console.print()
    left = len(checked.anomalies) - _MOST_SHOWN
    if left > 0:
        console.print(Text(f"  and {left} more anomalies in the page", "dim"))
    facts = ", ".join(
        f"{value:,} {name}" if isinstance(value, int) else f"{name} {value}"
        for name, value in checked.facts.items()
    )
    console.print(Text(f"  Looked at    {source}: {facts}"), soft_wrap=True)
    if checked.holds:
        held = ", ".join(checked.holds)
        console.print(Text(f"  Consistent   with {held}"), soft_wrap=True)
    if checked.broken:
        console.print(
            Text(f"  Ruled out    {', '.join(checked.broken)}"), soft_wrap=True
        )
    verdict = Text.assemble(
        " ", (str(checked.verdict).upper(), f"bold {_COLOURS[checked.verdict]}")
    )
    verdict.append(f"   {checked.checker}, {checked.model}")
    if checked.reason:
        verdict.append(f": {_plain(checked.reason)}")
    console.print(verdict, soft_wrap=True)


def _plain(text: str) -> str:
    """Return a text without anything that a terminal would obey, or cannot show."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _tell(number: int, anomaly: Anomaly) -> Iterator[Text]:
    head = Text(f"{number}. ", "bold")
    head.append(anomaly.name, "bold red")
    yield head.append(f"  {_plain(anomaly.claim)}")
    for place, item in enumerate(anomaly.items):
        lead = "Let" if place == 0 else ""
        told = f"{item.label} = {item.text}  ({item.lane})"
        yield Text(f"     {lead:<6} {_plain(told)}")
    for place, link in enumerate(anomaly.links):
        lead = "Then" if place == 0 else ""
        yield Text(f"     {lead:<6} {_plain(link.because)}")
